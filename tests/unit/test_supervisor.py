"""The supervisor, with small shell scripts for children."""

import asyncio
import io
import os
import re
import subprocess
import sys
import time
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fcntl import ioctl
from functools import partial
from itertools import islice
from pathlib import Path
from termios import FIONREAD
from typing import IO

import psutil
import pytest

from orderengine import supervisor as module
from orderengine.screen import Screen
from orderengine.supervisor import Child, Supervisor, command
from tests.stacks import wait_until


def shell(name: str, script: str) -> Child:
    return Child(name=name, spawn=command(["sh", "-c", script], {}, Path.cwd()))


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a process has no event to wait for
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(*children: Child) -> AsyncIterator[tuple[Supervisor, io.StringIO]]:
    """A supervisor at work; the way out of the block waits until it has ended."""
    output = io.StringIO()
    supervisor = Supervisor(children, output)
    work = asyncio.create_task(supervisor.run())
    try:
        yield supervisor, output
    finally:
        supervisor.stop()
        await asyncio.wait_for(work, 10)


async def test_output_carries_the_name_of_its_process() -> None:
    talker = shell("web", "echo one; echo two >&2; exec sleep 60")
    async with running(talker, shell("dispatcher", "exec sleep 60")) as (_, output):
        await until(lambda: output.getvalue().count("\n") == 2)

    assert output.getvalue() == "web        | one\nweb        | two\n"


async def test_last_words_are_shown_though_no_newline_ends_them() -> None:
    async with running(shell("web", "printf farewell; exit 3")) as (_, output):
        await until(lambda: "died" in output.getvalue())

    assert output.getvalue().splitlines() == [
        "web | farewell",
        "web died (exit code 3), restarting in 0.5 s",
    ]


async def test_endless_line_is_cut_and_not_kept_in_memory() -> None:
    size = 3 * module.LONGEST_LINE
    async with running(shell("web", f"head -c {size} /dev/zero | tr '\\0' x; exec sleep 60")) as (
        _,
        output,
    ):
        await until(lambda: output.getvalue().count("x") > size / 2)


async def test_a_reader_who_pauses_stops_no_child_and_misses_nothing(tmp_path: Path) -> None:
    said, done = 100_000, tmp_path / "done"  # more than two pipes hold
    talker = shell("web", f"head -c {said} /dev/zero | tr '\\0' '\\n'; touch {done}; exec sleep 60")
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as reader, open(write_end, "w") as output:  # noqa: ASYNC230
        supervisor = Supervisor([talker], output)
        work = asyncio.create_task(supervisor.run())
        await until(done.exists)

        lines = await asyncio.to_thread(lambda: set(islice(reader, said)))

        supervisor.stop()
        await asyncio.wait_for(work, 10)
    assert lines == {b"web | \n"}


LEFT_OUT = re.compile(r"^\.\.\. ([0-9]+) lines were left out: nobody was reading\n$")


def test_of_what_a_reader_has_missed_he_is_told_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orderengine.screen.KEPT", 100_000)
    line = "x" * 999
    read_end, write_end = os.pipe()
    with open(read_end) as reader, open(write_end, "w") as output:
        screen = Screen(output)
        for _ in range(1000):
            screen.show(line)
        assert not screen.all_shown(0.05)
        shown = left_out = 0
        while shown + left_out < 1000:  # told in two parts where the first lines were read at once
            if (told := reader.readline()) == line + "\n":
                shown += 1
            else:
                [count] = LEFT_OUT.findall(told)
                left_out += int(count)
        assert screen.all_shown(5)
        screen.show("again")
        assert reader.readline() == "again\n"

    assert shown + left_out == 1000
    assert 100 < shown < 300


def test_nobody_waits_for_a_reader_who_has_gone() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w") as output:
        screen = Screen(output)
        for line in ("this is lost", "this, too"):
            screen.show(line)
            assert screen.all_shown(5)


def test_a_terminal_that_does_not_wait_is_waited_for() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with open(read_end) as reader, open(write_end, "w") as output:
        screen = Screen(output)
        screen.show("x" * 2 * PIPE)
        assert not screen.all_shown(0.05)

        assert reader.readline() == "x" * 2 * PIPE + "\n"


PIPE = 64 * 1024 - 4096  # a page of it may be left that no line fits into


def unread(pipe: IO[bytes] | None) -> int:
    """The bytes that wait in it."""
    assert pipe is not None
    size = array("i", [0])
    ioctl(pipe, FIONREAD, size)
    return size[0]


def test_a_stack_ends_though_nobody_reads() -> None:
    script = (
        "import asyncio, pathlib\n"
        "from orderengine.supervisor import Child, Supervisor, command\n"
        "talker = command(['sh', '-c', 'yes >&2; exec sleep 60'], {}, pathlib.Path('.'))\n"
        "async def main(): await Supervisor([Child(name='worker', spawn=talker)]).run()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as stack:
        assert stack.stdout is not None
        assert stack.stdout.read(1)
        wait_until(lambda: unread(stack.stdout) >= PIPE)
        stack.terminate()
        assert (stack.wait(10), stack.stderr and stack.stderr.read()) == (0, b"")


async def test_killed_child_comes_back_and_the_user_is_told() -> None:
    worker = shell("worker", "exec sleep 60")
    async with running(worker) as (_, output):
        await until(lambda: worker.alive)
        first = worker.process
        assert first is not None
        first.kill()
        await until(lambda: worker.alive and worker.process is not first)

    assert output.getvalue() == "worker died (killed by SIGKILL), restarting in 0.5 s\n"


async def test_child_that_cannot_live_is_restarted_ever_more_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.15)
    async with running(shell("worker", "exit 1")) as (_, output):
        await until(lambda: output.getvalue().count("died") == 4)

    pauses = [line.split()[-2] for line in output.getvalue().splitlines()]
    assert pauses[:4] == ["0.05", "0.1", "0.15", "0.15"]


async def test_pause_is_short_again_after_a_steady_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(module, "STEADY_SECONDS", 0.2)
    async with running(shell("worker", "sleep 0.3; exit 1")) as (_, output):
        await until(lambda: output.getvalue().count("died") == 3)

    assert output.getvalue().count("restarting in 0.05 s") == 3


async def test_program_that_does_not_exist_is_told_in_one_line() -> None:
    missing = Child(name="web", spawn=command(["/no/such/program"], {}, Path.cwd()))
    async with running(missing) as (_, output):
        await until(output.getvalue)

    assert output.getvalue().startswith("web did not start (")
    assert "/no/such/program" in output.getvalue()


async def test_stop_asks_first() -> None:
    polite = shell("web", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done")
    async with running(polite) as (_, output):
        await until(lambda: "up" in output.getvalue())

    assert output.getvalue().splitlines() == ["web | up", "web | bye"]


async def test_stubborn_child_and_its_children_are_killed_when_grace_is_over() -> None:
    stubborn = shell("worker", "trap '' TERM; sleep 60 & echo $! $$; wait; sleep 60")
    async with running(stubborn) as (supervisor, output):
        supervisor.grace = 0.3
        await until(output.getvalue)
        begun = time.monotonic()

    assert time.monotonic() - begun < 3
    assert_gone(output)


async def test_child_that_left_children_behind_takes_them_along() -> None:
    async with running(shell("worker", "sleep 60 & echo $!; exit 1")) as (_, output):
        await until(lambda: "died" in output.getvalue())
        assert_gone(output)


async def test_second_stop_does_not_wait() -> None:
    async with running(shell("worker", "trap '' TERM; echo $$; while :; do sleep 1; done")) as (
        supervisor,
        output,
    ):
        await until(output.getvalue)
        supervisor.stop()
        begun = time.monotonic()

    assert time.monotonic() - begun < 2
    assert_gone(output)


async def test_sigterm_to_the_supervisor_stops_it() -> None:
    async with running(shell("web", "echo $$; exec sleep 60")) as (supervisor, output):
        await until(output.getvalue)
        os.kill(os.getpid(), module.signal.SIGTERM)
        await until(lambda: not supervisor.children[0].alive)

    assert_gone(output)


async def test_process_of_another_owner_is_kept_alive_but_not_stopped() -> None:
    server = shell("redis", "exec sleep 60")
    server.owned = False
    async with running(server):
        await until(lambda: server.alive)

    assert server.alive
    server.kill_group()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_children_do_not_outlive_a_killed_supervisor() -> None:
    script = (
        "import asyncio, pathlib\n"
        "from orderengine.supervisor import Child, Supervisor, command\n"
        "trap = command(['sh', '-c', \"trap '' TERM; echo $$; sleep 60\"], {}, pathlib.Path('.'))\n"
        "async def main(): await Supervisor([Child(name='worker', spawn=trap)]).run()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        child = psutil.Process(int(killed.stdout.readline().partition(b"|")[2]))
        killed.kill()

    child.wait(5)


def assert_gone(output: io.StringIO) -> None:
    """No process runs whose number a child has printed in its first line."""
    numbers = output.getvalue().splitlines()[0].partition("|")[2].split()
    assert numbers
    for number in numbers:
        wait_until(partial(is_gone, int(number)), seconds=3)


def is_gone(number: int) -> bool:
    try:
        return psutil.Process(number).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
