"""Typed readers of the environment. A wrong value names its variable and what it may be."""

import os
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from environ import Env

DOT_ENV = re.compile(r"\s*#|(?:export )?(\w+)=", re.ASCII)  # as django-environ has it
ALIKE = 0.88  # of 1: what a slip of the finger leaves of a name
T = TypeVar("T")
N = TypeVar("N", int, float)

# The largest int of PostgreSQL: who sets a limit high means none.
MOST = 2**31 - 1
LONGEST_MS = 3_600_000


def isset(name: str) -> bool:
    return os.environ.get(name, "") != ""


def take(known: Mapping[str, str]) -> None:
    """Into the environment, where that has nothing; empty is nothing."""
    os.environ.update({name: value for name, value in known.items() if not isset(name)})


def dot_env(path: Path) -> None:
    """The variables of a file, where the environment has none of the name.

    One that is nearly a setting of `.env.example`, beside it, is taken for a slip; any other may be
    another program's.
    """
    try:
        lines = path.read_text().splitlines() if path.exists() else []
    except (UnicodeDecodeError, OSError) as error:
        raise ImproperlyConfigured(f"{path} cannot be read: {error}") from None
    if not lines:
        return
    example = path.with_name(".env.example")
    known = re.findall(r"^(\w+)=", example.read_text(), re.MULTILINE) if example.exists() else []
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise ImproperlyConfigured(f"{path}, line {number}: a NUL character")
        found = DOT_ENV.match(line)
        if line.strip() and found is None:
            raise ImproperlyConfigured(
                f"{path}, line {number}: expected NAME=value without spaces around `=`, or # and "
                "a comment"
            )
        name = found and found[1]
        if name and name not in known and (meant := get_close_matches(name, known, 1, ALIKE)):
            raise ImproperlyConfigured(
                f"{path}, line {number}: there is no setting {name}: is {meant[0]} meant?"
            )
    Env.read_env(path)


def read(name: str, default: T, parse: Callable[[str], T], expected: str) -> T:
    """The parsed variable, or the default where it is unset or empty."""
    if not isset(name):
        return default
    value = os.environ[name]
    try:
        return parse(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}={value!r}: expected {expected} ({error})") from None


def within(value: N, minimum: N, maximum: N) -> N:
    """The value. ValueError where it is not one from `minimum` to `maximum`, as nan never is."""
    if not minimum <= value <= maximum:
        raise ValueError("out of range")
    return value


def whole(text: str) -> int:
    if not re.fullmatch(r"\s*[+-]?\d+\s*", text, re.ASCII):
        raise ValueError("not a whole number")
    return int(text)


def real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("not a number") from None


def integer(name: str, default: int, minimum: int = 0, maximum: int = MOST) -> int:
    expected = f"a whole number from {minimum} to {maximum}"
    return read(name, default, lambda text: within(whole(text), minimum, maximum), expected)


def number(name: str, default: float, minimum: float, maximum: float) -> float:
    expected = f"a number from {minimum:g} to {maximum:g}"
    return read(name, default, lambda text: within(real(text), minimum, maximum), expected)


def flag(name: str, default: bool) -> bool:
    def parse(text: str) -> bool:
        lowered = text.strip().lower()
        if lowered in {"1", "true", "yes", "on"}:
            return True
        if lowered in {"0", "false", "no", "off"}:
            return False
        raise ValueError("neither true nor false")

    return read(name, default, parse, "true or false")


def choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError("not one of them")
        return text.lower()

    return read(name, default, parse, "one of " + ", ".join(choices))


def listed(name: str, default: list[str], form: str, expected: str) -> list[str]:
    """What stands between commas, each of this form (a regular expression)."""

    def parse(text: str) -> list[str]:
        found = [part.strip() for part in text.split(",") if part.strip()]
        for part in found:
            if not re.fullmatch(form, part):
                raise ValueError(f"{part} is none")
        return found

    return read(name, default, parse, expected)


def hosts(name: str, default: list[str]) -> list[str]:
    """`api.example.com,.example.org,[::1]`, or `*`."""
    form = r"\*|[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]"
    expected = "host names such as api.example.com, without https:// and port"
    return listed(name, default, form, expected)


def credentials(name: str) -> str:
    """`user:password`, or several with commas between; a refusal does not show them."""
    text = os.environ.get(name, "")
    if text and not all(re.fullmatch(r"[^:]+:.+", part) for part in text.split(",")):
        raise ImproperlyConfigured(f"{name}: expected user:password, without a comma in either")
    return text


def address(name: str) -> str:
    """Of a page that browsers open; empty where it is not set."""

    def parse(text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("not one")
        return text

    return read(name, "", parse, "an address such as https://flower.example.com/")


def server_url(name: str, url: str, form: str, parse: Callable[[str], T], expected: str) -> T:
    """What `parse` makes of a URL of this form.

    A refusal shows nothing of it: of a password with a `/` the beginning is read as the port.
    """
    try:
        if re.fullmatch(form, url):
            return parse(url)
    except ValueError:
        pass
    raise ImproperlyConfigured(
        f"{name} cannot be read: expected {expected}, where special characters of the password "
        "are percent-encoded (/ as %2F)"
    )


def millisecond_range(name: str, default: tuple[int, int]) -> tuple[int, int]:
    """`2000-3000`, or one number for both ends."""

    def parse(text: str) -> tuple[int, int]:
        low, dash, high = text.partition("-")
        most = within(whole(high if dash else low), 0, LONGEST_MS)
        if whole(low) > most:
            raise ValueError("the first number must not be above the second")
        return whole(low), most

    return read(name, default, parse, f"milliseconds up to {LONGEST_MS}, such as 2000-3000 or 0")


def rate(name: str, default: str) -> str | None:
    """Celery's notation (`20/s`, `100/m`); set but empty means none."""
    if name in os.environ and not os.environ[name].strip():
        return None
    text = os.environ.get(name, default)
    if not re.fullmatch(r"\d{1,9}(\.\d+)?(/[smh])?", text, re.ASCII):
        expected = "a rate up to 999999999, such as 20/s or 100/m"
        raise ImproperlyConfigured(f"{name}={text!r}: expected {expected}")
    return text


def allowance(name: str, default: tuple[int, int] | None) -> tuple[int, int] | None:
    """`600/m` as (600, 60); `none` as None."""
    seconds = {"s": 1, "m": 60, "h": 3600}

    def parse(text: str) -> tuple[int, int] | None:
        if text.strip().lower() == "none":
            return None
        found = re.fullmatch(r"([1-9]\d{0,5})/([smh])", text.strip(), re.ASCII)
        if found is None:
            raise ValueError("a number up to 999999, then /s, /m or /h")
        return int(found[1]), seconds[found[2]]

    return read(name, default, parse, "requests such as 600/m, or none")


def origins(name: str) -> list[str]:
    """`https://app.example.com,https://other.example.com`; never `*`."""
    form = r"https?://[a-z0-9.-]+(:\d{1,5})?"
    return listed(name, [], form, "origins such as https://app.example.com")
