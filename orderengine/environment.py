"""Typed readers of the environment. A wrong value names its variable and what it may be."""

import os
import re
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")

env = environ.Env()


def isset(name: str) -> bool:
    return os.environ.get(name, "") != ""


def read(name: str, default: T, parse: Callable[[str], T], expected: str) -> T:
    """The parsed variable, or the default where it is unset or empty."""
    if not isset(name):
        return default
    try:
        return parse(env.str(name))
    except ValueError as error:
        value = env.str(name)
        raise ImproperlyConfigured(f"{name}={value!r}: expected {expected} ({error})") from None


def integer(name: str, default: int, minimum: int = 0, maximum: int | None = None) -> int:
    def parse(text: str) -> int:
        number = int(text)
        if number < minimum:
            raise ValueError(f"less than {minimum}")
        if maximum is not None and number > maximum:
            raise ValueError(f"more than {maximum}")
        return number

    return read(name, default, parse, f"a whole number, at least {minimum}")


def number(name: str, default: float) -> float:
    def parse(text: str) -> float:
        value = float(text)
        if not 0 <= value < float("inf"):
            raise ValueError("not a finite number of 0 or more")
        return value

    return read(name, default, parse, "a number of 0 or more")


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


def names(name: str, default: list[str]) -> list[str]:
    return read(
        name, default, lambda text: [part.strip() for part in text.split(",") if part.strip()], ""
    )


def address(name: str) -> str:
    """Of a page that browsers open; empty where it is not set."""

    def parse(text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("not one")
        return text

    return read(name, "", parse, "an address such as https://flower.example.com/")


def millisecond_range(name: str, default: tuple[int, int]) -> tuple[int, int]:
    """`2000-3000`, or one number for both ends."""

    def parse(text: str) -> tuple[int, int]:
        low, _, high = text.partition("-")
        ends = int(low), int(high or low)
        if not 0 <= ends[0] <= ends[1]:
            raise ValueError("the first number must not be above the second")
        return ends

    return read(name, default, parse, "milliseconds such as 2000-3000 or 0")


def rate(name: str, default: str) -> str | None:
    """Celery's notation (`20/s`, `100/m`); set but empty means none."""
    if name in os.environ and not os.environ[name].strip():
        return None
    text = os.environ.get(name, default)
    if not re.fullmatch(r"\d+(\.\d+)?(/[smh])?", text):
        raise ImproperlyConfigured(f"{name}={text!r}: expected a rate such as 20/s or 100/m")
    return text


def allowance(name: str, default: tuple[int, int] | None) -> tuple[int, int] | None:
    """`600/m` as (600, 60); `none` as None."""
    seconds = {"s": 1, "m": 60, "h": 3600}

    def parse(text: str) -> tuple[int, int] | None:
        if text.strip().lower() == "none":
            return None
        found = re.fullmatch(r"([1-9]\d{0,5})/([smh])", text.strip())
        if found is None:
            raise ValueError("a number up to 999999, then /s, /m or /h")
        return int(found[1]), seconds[found[2]]

    return read(name, default, parse, "requests such as 600/m, or none")


def origins(name: str) -> list[str]:
    """`https://app.example.com,https://other.example.com`; never `*`."""

    def parse(text: str) -> list[str]:
        found = [part.strip() for part in text.split(",") if part.strip()]
        for origin in found:
            if not re.fullmatch(r"https?://[a-z0-9.-]+(:\d{1,5})?", origin):
                raise ValueError(f"{origin} is no origin")
        return found

    return read(name, [], parse, "origins such as https://app.example.com")
