"""Starts a program of the stack as the engine needs it, without libraries that it never uses.

    python -m lean daphne orderengine.asgi:application
    python -m lean celery -A orderengine worker
    python -m lean manage dispatcher

Many libraries load others because they are installed: DRF `requests`, structlog `rich`, Celery's
command line a shell: 25 to 50 MiB a process. An option of OPTIONS given again has the last word.
"""

import os
import resource
import runpy
import sys
import warnings
from contextlib import suppress
from importlib.util import find_spec
from types import ModuleType

from django.core.exceptions import ImproperlyConfigured

# Treated as not installed: whatever would import one of them goes on without it.
NOWHERE = ("OpenSSL", "cbor2", "cryptography", "greenlet", "jinja2", "pygments", "requests", "rich")
NOT_IN_BACKGROUND = ("flower", "twisted")

WEB = {"daphne", "uvicorn"}

OPTIONS = {
    # A frame of 64 KiB at most; a socket lives as long as it answers pings.
    "daphne": "--no-server-name --verbosity 0 --ping-interval 20 --ping-timeout 30"
    " --websocket_timeout -1 --websocket-max-message-size 65536 --application-close-timeout 10",
    # Behind a proxy that names the client. A connection is kept for longer than nginx keeps it
    # (60 s), which else would send a POST on one that is just closed.
    "uvicorn": "--loop asyncio --http httptools --ws none --interface asgi3 --lifespan off"
    " --proxy-headers --forwarded-allow-ips * --no-server-header --no-date-header"
    " --no-access-log --log-level warning --timeout-keep-alive 120 --timeout-graceful-shutdown 6",
    "celery": "--quiet",
    "worker": "--pool threads --without-gossip --without-mingle --loglevel warning",
}
# In a container everything runs as root; Celery has seven lines to say about that.
AS_ROOT = "You're running the worker with superuser"

# Names that are imported without a question, and not needed by what runs here.
STAND_INS = {
    "autobahn.twisted.wamp": "ApplicationSession",  # Daphne speaks no WAMP
    "click_repl": "register_repl",  # `celery amqp` would be a shell
}

# How the C library asks for addresses, which no timeout of a client covers: not for 5 s, and twice.
NAME_SERVERS = "timeout:1 attempts:1"
MOST_FILES = 65_536


def allow_open_files() -> None:
    """Each connection is an open file; a shell grants 1,024, and more to a program that asks."""
    granted, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if most == resource.RLIM_INFINITY else min(MOST_FILES, most)
    if granted != resource.RLIM_INFINITY and granted < wanted:
        with suppress(ValueError, OSError):  # macOS: the kernel's own limit is lower
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


class LeftOut:
    """Stands before Python's own finders of modules."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def find_spec(self, name: str, *_: object) -> None:
        if name in self.names:
            how = "to use it here, take it off the lists in lean.py"
            raise ModuleNotFoundError(f"{name} is left out of this process: {how}", name=name)


def leave_out(program: str) -> None:
    """Call before anything else is imported."""
    left_out = {*NOWHERE}
    if program not in WEB:
        left_out.update(NOT_IN_BACKGROUND)
        os.environ["DJANGO_SETTINGS_MODULE"] = "orderengine.background"
    sys.meta_path.insert(0, LeftOut(left_out))
    for name, needed in STAND_INS.items():
        sys.modules[name] = ModuleType(name)
        setattr(sys.modules[name], needed, lambda *_: None)


def with_options(arguments: list[str]) -> list[str]:
    """The command line, with what OPTIONS has for the program and for Celery's `worker`."""
    program, *rest = arguments
    found = [program, *OPTIONS.get(program, "").split(), *rest]
    if program == "celery" and "worker" in rest:
        after = found.index("worker") + 1
        found[after:after] = OPTIONS["worker"].split()
    return found


def of_settings(program: str) -> list[str]:
    """The options that settings ask for. Raises ImproperlyConfigured."""
    if program != "daphne":
        return []
    from orderengine import settings  # noqa: PLC0415  after leave_out()

    return ["--proxy-headers"] if settings.BEHIND_PROXY else []


def main() -> None:
    if len(sys.argv) < 2 or find_spec(sys.argv[1].partition(".")[0]) is None:
        sys.exit("usage: python -m lean daphne|uvicorn|celery ARGUMENTS, or another module's name")
    sys.argv = with_options(sys.argv[1:])
    allow_open_files()
    os.environ.setdefault("RES_OPTIONS", NAME_SERVERS)
    leave_out(sys.argv[0])
    warnings.filterwarnings("ignore", AS_ROOT)
    try:
        sys.argv[1:1] = of_settings(sys.argv[0])
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except ImproperlyConfigured as error:
        sys.exit(f"configuration: {error}")


if __name__ == "__main__":
    main()
