"""The small files of a data directory: NAME=value lines, secrets, a lock."""

import fcntl
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from django.core.exceptions import ImproperlyConfigured

STACK_FILE = "stack.env"


def take_lock(path: Path) -> IO[str]:
    """Held until the file is closed or we end, however we end: children do not inherit it.

    Raises BlockingIOError while another process holds it, OSError where it is a link.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    return file


def read_env(path: Path) -> dict[str, str]:
    """The NAME=value lines of a file; empty when there is none. Raises ImproperlyConfigured."""
    try:
        lines = path.read_text().splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        mend = "remove it, or set DATA_DIR to a directory of your own"
        raise ImproperlyConfigured(f"{path} cannot be read ({error}): {mend}") from None
    return dict(line.split("=", 1) for line in lines if "=" in line)


def read_number(path: Path) -> int:
    """The whole number that a file begins with; 0 when there is none."""
    words = path.read_text(errors="replace").split() if path.exists() else []
    return int(words[0]) if words and words[0].isascii() and words[0].isdigit() else 0


def write_private(path: Path, text: str) -> None:
    """Replaces a file in one step, readable by its owner only."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def write_env(path: Path, values: Mapping[str, str]) -> None:
    """Writes NAME=value lines for `read_env`."""
    write_private(path, "".join(f"{name}={value}\n" for name, value in values.items()))


def data_dir_secrets(data_dir: Path) -> dict[str, str]:
    """The passwords, keys and seed of a data directory, drawn on first use and kept."""
    data_dir.mkdir(parents=True, exist_ok=True)
    kept = read_env(data_dir / "secrets.env")
    drawn = {
        "POSTGRES_PASSWORD": secrets.token_urlsafe(24),
        "REDIS_PASSWORD": secrets.token_urlsafe(24),
        "SECRET_KEY": secrets.token_urlsafe(48),
        "DEX_SEED": str(secrets.randbelow(2**31)),
        "OPERATOR_PASSWORD": secrets.token_urlsafe(12),
    }
    if drawn.keys() - kept.keys():
        write_env(data_dir / "secrets.env", drawn | kept)
    return drawn | kept
