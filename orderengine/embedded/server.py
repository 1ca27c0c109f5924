"""What the embedded servers have in common: a child in the foreground on a loopback port.

Whoever started it reaps it after a kill and may start it again. On Linux it also dies with its
parent, however the parent dies.
"""

import ctypes
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from orderengine.files import data_dir_secrets, read_number

HOST = "127.0.0.1"
READY_SECONDS = 30.0
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class EmbeddedError(Exception):
    """A server could not be started; one line says which, why, and where to look."""


def die_with_parent(signum: int) -> Callable[[], None]:
    """A `preexec_fn`: the child gets `signum` when the thread that started it ends (Linux only)."""
    parent = os.getpid()

    def arrange() -> None:
        if LIBC is not None:
            LIBC.prctl(PR_SET_PDEATHSIG, signum)
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)

    return arrange


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback address now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A free port below the ephemeral range.

    A client that keeps knocking on a closed ephemeral port may connect to itself
    and so keep a killed server from coming back.
    """
    candidates = (random.randrange(20_000, 32_000) for _ in range(200))  # noqa: S311
    return next(port for port in candidates if port_is_free(port))


class Server:
    """One embedded server: what PostgreSQL and Redis have in common."""

    name: str
    stop_signals: tuple[signal.Signals, ...]

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir.resolve()
        self.settings = dict(settings or {})
        self.home = self.data_dir / self.name
        self.log = self.data_dir / f"{self.name}.log"
        self._port_file = self.data_dir / f"{self.name}.port"
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @cached_property
    def secrets(self) -> dict[str, str]:
        return data_dir_secrets(self.data_dir)

    @property
    def url(self) -> str:
        """Where and with which password clients reach the server; known from the first start."""
        raise NotImplementedError

    def start(self) -> None:
        """Returns when the server answers; the port stays the same on every later start."""
        try:
            self.spawn()
            self.wait_ready()
        except BaseException:
            self.stop(timeout=0)
            raise

    def spawn(self) -> "subprocess.Popen[bytes]":
        """Starts the process and does not wait until it answers."""
        if self.process is not None and self.process.poll() is None:
            return self.process
        self._refuse_second_stack()
        self.port = self.port or self._choose_port()
        self._prepare()
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self.process = self._popen(self._command(), log)
        return self.process

    def wait_ready(self) -> None:
        """Returns when a client gets an answer, raises EmbeddedError when that cannot happen."""
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers(self.port):
            if self.process is None or self.process.poll() is not None:
                raise EmbeddedError(f"{self.name} did not start: {self._reason()} (see {self.log})")
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"{self.name} did not answer on port {self.port} in {READY_SECONDS:.0f} s:"
                    f" {self._reason()} (see {self.log})"
                )
            time.sleep(0.05)

    def stop(self, timeout: float = 5.0) -> None:
        """Stops the server, by force after `timeout` seconds; only its data and log are left."""
        if self.process is None:
            return  # what is in its home is another stack's
        try:
            self._ask_to_stop(self.process, timeout)
        finally:
            self.process.kill()
            self.process.wait()
        self._clean_up()

    def _ask_to_stop(self, process: "subprocess.Popen[bytes]", timeout: float) -> None:
        for signum, patience in zip(self.stop_signals, (timeout, 1.0), strict=False):
            if process.poll() is None:
                process.send_signal(signum)
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
            return

    def _popen(self, command: list[str], log: Any, **options: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C goes to the supervisor alone
            preexec_fn=die_with_parent(self.stop_signals[0]),  # noqa: PLW1509
            **options,
        )

    def _choose_port(self) -> int:
        last = read_number(self._port_file)
        port = last if last and port_is_free(last) else free_port()
        self._port_file.write_text(str(port))
        return port

    def _reason(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return telling_line(log.read().decode(errors="replace"))

    def _refuse_second_stack(self) -> None:
        raise NotImplementedError

    def _prepare(self) -> None:
        raise NotImplementedError

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self, port: int) -> bool:
        raise NotImplementedError

    def _clean_up(self) -> None:
        """Removes what a forced stop leaves behind."""


def telling_line(log: str) -> str:
    """The line of a log that says why a server gave up: the last error, or else the last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"FATAL|PANIC|ERROR|error|ailed|not ", line)]
    return (errors or lines or ["it wrote no log"])[-1]


def wheel_folder(package: str) -> Path:
    """Where a package is installed, without importing it; an unlikely path when it is not."""
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else Path(os.devnull)
