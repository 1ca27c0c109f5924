"""`manage.py demo`: a stack of its own, one order step by step, then ten at once."""

import asyncio
import logging
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from websockets.exceptions import WebSocketException

from orderengine.demo import ORDERS_SECONDS, DemoError, show
from orderengine.embedded.server import HOST, die_with_parent, free_port
from orderengine.supervisor import ending_signals

START_SECONDS = 45.0


class Command(BaseCommand):
    help = "Starts a stack, runs one order and then ten at once, and stops it."
    requires_system_checks = []

    def handle(self, *_: Any, **__: Any) -> None:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of each request
        for signum in ending_signals():
            signal.signal(signum, signal.default_int_handler)
        console = Console(highlight=False)
        try:
            with running_stack(console) as base_url:
                orders = asyncio.run(show(console, base_url))
        except KeyboardInterrupt:
            sys.exit(130)
        except DemoError as error:
            raise CommandError(str(error)) from error
        except TimeoutError as error:
            message = f"orders were not finished within {ORDERS_SECONDS:.0f} s"
            raise CommandError(message) from error
        except (httpx.HTTPError, WebSocketException) as error:
            raise CommandError(f"the stack went away: {error!r}") from error
        if any(order.status != "confirmed" for order in orders):
            raise CommandError("not every order was confirmed")


@contextmanager
def running_stack(console: Console) -> Iterator[str]:
    """The base URL of a new stack in a temporary directory; nothing of it is left afterwards."""
    data_dir = Path(tempfile.mkdtemp(prefix="order-engine-demo-"))
    port = free_port()
    base_url = f"http://{HOST}:{port}"
    try:
        process = start_stack(data_dir, port)
        try:
            with console.status("starting PostgreSQL, Redis, web, worker, dispatcher and Flower"):
                wait_until_ready(process, data_dir, base_url)
            yield base_url
        finally:
            with console.status("stopping"):
                end(process)
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


def start_stack(data_dir: Path, port: int) -> "subprocess.Popen[bytes]":
    """`manage.py up` with servers of its own, whatever this environment or .env names."""
    own = {
        "DATA_DIR": str(data_dir),
        "PORT": str(port),
        "FLOWER_PORT": str(free_port()),
        "DEBUG": "true",
        "API_AUTH_REQUIRED": "false",
        "DATABASE_URL": "",
        "REDIS_URL": "",
        "ALLOWED_HOSTS": "",
    }
    with (data_dir / "up.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=settings.BASE_DIR,
            env=settings.SET_BY_USER | own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C comes here first
            preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509
        )


def wait_until_ready(process: "subprocess.Popen[bytes]", data_dir: Path, base_url: str) -> None:
    """Returns when /health is green, a worker included."""
    deadline = time.monotonic() + START_SECONDS
    while not healthy(base_url):
        if process.poll() is not None or time.monotonic() > deadline:
            log = (data_dir / "up.log").read_text(errors="replace")
            raise CommandError(f"the stack did not become ready; it wrote:\n{log}")
        time.sleep(0.1)


def healthy(base_url: str) -> bool:
    try:
        return httpx.get(f"{base_url}/health", timeout=3, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def end(process: "subprocess.Popen[bytes]") -> None:
    """Stops the stack; a second Ctrl-C, or 12 s, is the end of its patience."""
    process.terminate()
    try:
        process.wait(12)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.terminate()
        process.wait(5)
