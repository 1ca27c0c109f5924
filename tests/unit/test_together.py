"""Calls of many threads, made together."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from orders.together import MOST, Together
from tests.stacks import wait_until


class Server:
    """Answers twice what it is asked. Its first call waits until it is told to go on."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.go_on = Event()
        self.together: Together[int, int | None] = Together(self.answer)

    def answer(self, asked: Sequence[int]) -> Sequence[Any]:
        self.calls.append(list(asked))
        if len(self.calls) == 1:
            self.go_on.wait(10)
        return [ValueError(n) if n < 0 else n * 2 if n else None for n in asked]

    def ask_while_one_is_under_way(self, numbers: Sequence[int]) -> list[Any]:
        """Answers, or what was raised, with the first call's in front."""
        with ThreadPoolExecutor(len(numbers) + 1) as threads:
            first = threads.submit(self.together, 1)
            wait_until(lambda: self.calls)
            others = [threads.submit(self.together, n) for n in numbers]
            wait_until(lambda: len(self.together._waiting) == len(numbers))
            self.go_on.set()
            return [f.exception(10) or f.result() for f in (first, *others)]


def test_who_comes_alone_calls_at_once() -> None:
    server = Server()
    server.go_on.set()

    assert [server.together(n) for n in (1, 2, 0)] == [2, 4, None]
    assert server.calls == [[1], [2], [0]]


def test_what_is_asked_meanwhile_is_one_call_and_each_gets_its_own_answer() -> None:
    server = Server()

    assert server.ask_while_one_is_under_way([2, 3, 0, 4]) == [2, 4, 6, None, 8]
    assert [sorted(call) for call in server.calls] == [[1], [0, 2, 3, 4]]


def test_an_exception_among_the_answers_is_raised_to_its_caller_alone() -> None:
    first, second, bad, third = Server().ask_while_one_is_under_way([5, -1, 6])

    assert (first, second, third) == (2, 10, 12)
    assert isinstance(bad, ValueError)


@pytest.mark.parametrize("error", [RuntimeError("away"), SystemExit()])
def test_a_call_that_fails_fails_for_all_and_the_next_is_made(error: BaseException) -> None:
    calls: list[list[int]] = []

    def fail_once(asked: Sequence[int]) -> Sequence[int]:
        calls.append(list(asked))
        if len(calls) == 1:
            raise error
        return asked

    together: Together[int, int] = Together(fail_once)

    with pytest.raises(type(error)):
        together(1)
    assert together(2) == 2


def test_no_call_is_larger_than_the_largest() -> None:
    server = Server()

    server.ask_while_one_is_under_way(range(1, MOST + 11))

    assert [len(call) for call in server.calls] == [1, MOST, 10]


def test_thousands_of_calls_of_many_threads_are_all_answered() -> None:
    server = Server()
    server.go_on.set()

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(server.together, range(1, 5_001)))

    assert answers == [n * 2 for n in range(1, 5_001)]
