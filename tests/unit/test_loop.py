"""The loop of a process, and what is done once a turn."""

import asyncio
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from orders import loop
from orders.loop import AfterTurn


async def test_what_is_asked_for_in_one_turn_is_done_once_after_it() -> None:
    calls: list[int] = []
    after = AfterTurn(lambda: calls.append(len(asked)))
    asked = []

    for n in range(3):
        asked.append(n)
        after.ask()
    assert calls == []
    await asyncio.sleep(0)
    after.ask()
    await asyncio.sleep(0)

    assert calls == [3, 3]


def test_without_a_loop_it_is_done_at_once() -> None:
    calls: list[str] = []

    AfterTurn(lambda: calls.append("done")).ask()

    assert calls == ["done"]


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
