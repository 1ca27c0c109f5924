"""Starts a program of the stack without libraries that it would load and never use.

    python -m lean daphne orderengine.asgi:application
    python -m lean celery -A orderengine worker
    python -m lean manage dispatcher

Many libraries load others because they are installed: DRF `requests`, structlog `rich`, Celery's
command line a shell. Without this file everything works the same and takes 25 to 50 MiB more.
"""

import os
import runpy
import sys
from types import ModuleType

from django.core.exceptions import ImproperlyConfigured

# As if they were not installed: who would load one bears that.
NOWHERE = ("OpenSSL", "cbor2", "cryptography", "greenlet", "jinja2", "pygments", "requests", "rich")
NOT_IN_BACKGROUND = ("flower", "twisted")

WEB = {"daphne", "uvicorn"}

# Names that are imported without a question, and not needed by what runs here.
STAND_INS = {
    "autobahn.twisted.wamp": "ApplicationSession",  # Daphne speaks no WAMP
    "click_repl": "register_repl",  # `celery amqp` would be a shell
}


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


def main() -> None:
    sys.argv = sys.argv[1:]
    leave_out(sys.argv[0])
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except ImproperlyConfigured as error:
        sys.exit(f"configuration: {error}")


if __name__ == "__main__":
    main()
