"""Runs the processes of a stack: shows what they say, restarts what dies, stops them together."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO

from orderengine.embedded.server import EmbeddedError, die_with_parent
from orderengine.screen import Screen

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 10.0
STEADY_SECONDS = 30.0
GRACE_SECONDS = 7.0
LAST_WORDS_SECONDS = 0.5
LONGEST_LINE = 64 * 1024
GATHER_SECONDS = 0.02  # lines that come so soon after others are shown with one wake-up
COLOURS = (36, 32, 33, 35, 34, 96, 92, 95)

Process = subprocess.Popen[bytes]


@dataclass(kw_only=True)
class Child:
    """One process to keep alive. Who passes `owned=False` stops it himself."""

    name: str
    spawn: Callable[[], Process]
    owned: bool = True
    stop_signal: signal.Signals = signal.SIGTERM
    process: Process | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def terminate(self) -> None:
        if self.process is not None:
            self.process.send_signal(self.stop_signal)

    def kill_group(self) -> None:
        """Kills the process and all it started, also when only those are left."""
        if self.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def command(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: Path,
    death_signal: signal.Signals = signal.SIGKILL,
) -> Callable[[], Process]:
    """Starts `argv` in a process group of its own, its output on a pipe.

    `death_signal` is what it gets when the supervisor is killed. The servers end at the same
    moment, and a worker that was only asked to would wait for them in vain.
    """

    def spawn() -> Process:
        return subprocess.Popen(  # noqa: S603
            argv,
            cwd=cwd,
            env={**os.environ, **env, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(death_signal),  # noqa: PLW1509
        )

    return spawn


class Supervisor:
    """Keeps children alive until SIGINT, SIGTERM or SIGHUP; the second of them is impatient."""

    def __init__(self, children: Sequence[Child], output: TextIO = sys.stdout) -> None:
        self.children = children
        self.output = output
        self.screen = Screen(output)
        self.grace = GRACE_SECONDS
        self._told = asyncio.Event()
        self._readers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Keeps the children until a signal; returns when they have ended."""
        loop = asyncio.get_running_loop()
        for signum in ending_signals():
            loop.add_signal_handler(signum, self.stop)
        try:
            await self.keep()
        finally:
            for signum in ending_signals():
                loop.remove_signal_handler(signum)

    async def keep(self) -> None:
        """Until stop(); returns when every owned child, and whatever it started, has ended."""
        try:
            await self._keep_all()
        finally:
            await self._end_all()

    def stop(self) -> None:
        """The first call leaves the children `GRACE_SECONDS`, the second nothing."""
        if self._told.is_set():
            self.grace = 0.0
        self._told.set()

    def say(self, text: str) -> None:
        """Shows lines of the supervisor's own."""
        self.screen.show(text)

    async def _keep_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            keepers = [group.create_task(self._keep(child)) for child in self.children]
            await self._told.wait()
            for keeper in keepers:
                keeper.cancel()

    async def _end_all(self) -> None:
        owned = [child for child in self.children if child.owned]
        for child in owned:
            child.terminate()
        begun = time.monotonic()
        while any(child.alive for child in owned) and time.monotonic() < begun + self.grace:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        for child in owned:
            child.kill_group()
        readers = set(self._readers)
        if readers:
            await asyncio.wait(readers, timeout=0.5)
        for reader in readers:
            reader.cancel()
        await asyncio.to_thread(self.screen.all_shown, LAST_WORDS_SECONDS)

    async def _keep(self, child: Child) -> None:
        pause = FIRST_PAUSE
        while True:
            born = time.monotonic()
            ending = await self._live(child)
            if time.monotonic() - born >= STEADY_SECONDS:
                pause = FIRST_PAUSE
            self.say(f"{child.name} {ending}, restarting in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _live(self, child: Child) -> str:
        """Starts a child unless it runs already, and returns how that ended."""
        try:
            process = child.process if child.process and child.alive else child.spawn()
        except (OSError, EmbeddedError) as error:
            return f"did not start ({error})"
        child.process = process
        reader = self._start_reader(child.name, process.stdout)
        while process.poll() is None:  # noqa: ASYNC110 - a process has no event to wait for
            await asyncio.sleep(0.05)
        child.kill_group()
        child.process = None
        await asyncio.wait([reader], timeout=0.5)
        return f"died ({how_it_ended(process.returncode)})"

    def _start_reader(self, name: str, pipe: IO[bytes] | None) -> asyncio.Task[None]:
        reader = asyncio.create_task(self._show(name, pipe))
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        return reader

    async def _show(self, name: str, pipe: IO[bytes] | None) -> None:
        """Prints what comes down the pipe, line by line, with the name in front."""
        if pipe is None:
            return
        with pipe:
            rest = b""
            while chunk := await next_chunk(pipe.fileno()):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > LONGEST_LINE:
                    lines, rest = [*lines, rest], b""
                self._show_lines(name, lines)
                if len(chunk) < LONGEST_LINE:
                    await asyncio.sleep(GATHER_SECONDS)
            self._show_lines(name, [rest] if rest else [])

    def _show_lines(self, name: str, lines: Sequence[bytes]) -> None:
        if lines:
            label = self._label(name)
            self.say("\n".join(f"{label} {line.decode(errors='replace')}" for line in lines))

    def _label(self, name: str) -> str:
        names = [child.name for child in self.children]
        label = f"{name.ljust(max(map(len, names)))} |"
        if not self.output.isatty() or "NO_COLOR" in os.environ:
            return label
        return f"\033[{COLOURS[names.index(name) % len(COLOURS)]}m{label}\033[0m"


async def next_chunk(fd: int) -> bytes:
    """What a pipe holds, as soon as it holds something; empty at its end."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(fd)
    return os.read(fd, LONGEST_LINE)


def ending_signals() -> list[signal.Signals]:
    """The signals that end a stack; SIGHUP is not one of them under nohup."""
    hangup = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hangup]


def how_it_ended(status: int) -> str:
    """How a process ended, from its return code."""
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
