"""The fast HTTP profile: REST on uvicorn, WebSockets on Daphne, nginx before both on one port."""

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from string import Template

TEMPLATE = Path(__file__).with_name("nginx.conf.template")
UVICORN = [sys.executable, "-m", "lean", "uvicorn"]
# nginx lets connections come to their end at the first, and cuts them at the second, which leaves
# its master the time to end its worker (SIGKILL would not).
STOP_SIGNAL = signal.SIGQUIT
DEATH_SIGNAL = signal.SIGTERM


def missing() -> list[str]:
    """What has to be installed first, each with how."""
    found = []
    if shutil.which("nginx") is None:
        found.append("nginx (apt-get install nginx-light)")
    if find_spec("uvicorn") is None:
        found.append("uvicorn (pip install -r requirements.txt)")
    return found


def nginx(
    folder: Path,
    *,
    listen: str,
    rest: str,
    sockets: str,
    origins: Sequence[str] = (),
    behind_proxy: bool = False,
) -> list[str]:
    """The command, after its configuration is written; places as host:port.

    `folder` is for what it writes, `origins` are pages elsewhere that may read its refusals.
    `behind_proxy`: another in front says whose each request is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "nginx.conf"
    names = {"FOLDER": folder, "LISTEN": listen, "REST": rest, "SOCKETS": sockets, "PROCESSES": 1}
    names |= {"CORS_ALLOWED_ORIGINS": ",".join(origins), "BEHIND_PROXY": behind_proxy}
    template = Template(TEMPLATE.read_text())
    file.write_text(template.safe_substitute(names))  # nginx's own $names stay
    # Started by root, it would give what it writes to nobody.
    directives = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
    return ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(file), "-g", directives]
