"""The loop of a process."""

import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from orders import loop


def test_a_forked_process_has_a_loop_of_its_own() -> None:
    mine = pid_of_its_loop()
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as forked:
        theirs = forked.submit(pid_of_its_loop).result(10)

    assert mine == os.getpid() != theirs


def pid_of_its_loop() -> int:
    async def pid() -> int:
        return os.getpid()

    return loop.run(pid())


def test_calls_of_any_thread_are_made_on_the_one_loop_of_the_process() -> None:
    made_in: list[str] = []
    last = threading.Event()

    async def note() -> None:
        loop.soon(lambda: made_in.append(threading.current_thread().name))  # at once
        made_in.append("then")

    loop.run(note())
    loop.soon(last.set)

    assert last.wait(5)
    assert made_in == ["orders", "then"]
