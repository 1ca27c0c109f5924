"""Calls of one moment are made together: who is answered with what, and who is not made to wait."""

import asyncio
from contextvars import ContextVar

import psycopg
import pytest

from dex import grouping
from dex.grouping import Grouped


class Call:
    """Doubles numbers, when it is let go; keeps the groups it was called with."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go_on = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, items: list[int]) -> list[int]:
        self.groups.append(items)
        await self.go_on.wait()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return [2 * item for item in items]


@pytest.fixture
def call() -> Call:
    return Call()


async def begin(grouped: "Grouped[int, int]", *items: int) -> "list[asyncio.Task[int]]":
    async def one(item: int) -> int:
        return await grouped(item)

    tasks = [asyncio.create_task(one(item)) for item in items]
    await asyncio.sleep(0.02)
    return tasks


async def test_what_comes_during_a_call_is_the_next_one_in_order(call: Call) -> None:
    grouped = Grouped(call, away=(psycopg.OperationalError,))

    tasks = await begin(grouped, 1) + await begin(grouped, 2, 3, 4)
    call.go_on.set()

    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert call.groups == [[1], [2, 3, 4]]


async def test_a_group_has_no_more_than_so_many(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "MOST", 2)
    grouped = Grouped(call, away=(psycopg.OperationalError,))
    call.go_on.set()

    assert await asyncio.gather(*map(grouped, range(5))) == [0, 2, 4, 6, 8]
    assert call.groups == [[0, 1], [2, 3], [4]]


async def test_whoever_leaves_is_left_out_and_the_others_are_answered(call: Call) -> None:
    grouped = Grouped(call, away=(psycopg.OperationalError,))
    called, stays = await begin(grouped, 1, 2)
    waits, leaves = await begin(grouped, 3, 4)

    called.cancel()
    leaves.cancel()
    call.go_on.set()

    assert await asyncio.gather(stays, waits) == [4, 6]
    assert call.groups == [[1, 2], [3]]


async def test_where_all_have_left_nothing_is_called(call: Call) -> None:
    grouped = Grouped(call, away=(psycopg.OperationalError,))
    (called,), leaves = await begin(grouped, 1), await begin(grouped, 2, 3)

    for task in leaves:
        task.cancel()
    call.go_on.set()

    assert await called == 2
    assert await grouped(4) == 8
    assert call.groups == [[1], [4]]


async def test_an_error_is_that_of_its_group_alone(call: Call) -> None:
    grouped = Grouped(call, away=(psycopg.OperationalError,))
    call.error = psycopg.OperationalError("gone")
    first = await begin(grouped, 1, 2)
    second = await begin(grouped, 3)
    call.go_on.set()

    errors = await asyncio.gather(*first, return_exceptions=True)

    assert [str(error) for error in errors] == ["gone", "gone"]
    assert await second[0] == 6


async def test_an_error_among_the_answers_is_that_of_one_alone() -> None:
    async def call(items: list[int]) -> list[int | Exception]:
        return [ValueError(str(item)) if item % 2 else item for item in items]

    grouped: Grouped[int, int] = Grouped(call)

    answers = await asyncio.gather(*map(grouped, range(4)), return_exceptions=True)

    assert [str(answer) for answer in answers] == ["0", "1", "2", "3"]
    assert [isinstance(answer, ValueError) for answer in answers] == [False, True, False, True]


async def test_whoever_has_waited_long_for_a_database_that_is_away_hears_it(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "PATIENCE_SECONDS", 60)
    grouped = Grouped(call, away=(psycopg.OperationalError,))
    call.error = psycopg.OperationalError("silent")
    tasks = await begin(grouped, 1) + await begin(grouped, 2)
    grouped.waiting[0].since -= 61
    [late] = await begin(grouped, 3)
    call.go_on.set()

    errors = await asyncio.gather(*tasks, return_exceptions=True)

    assert [str(error) for error in errors] == ["silent", "silent"]
    assert await late == 6
    assert call.groups == [[1], [3]]


async def test_an_error_that_is_not_of_the_server_is_not_that_of_who_waits(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "PATIENCE_SECONDS", 0.05)
    grouped = Grouped(call, away=(psycopg.OperationalError,))
    call.error = ValueError("a bug with 1")
    tasks = await begin(grouped, 1) + await begin(grouped, 2)
    await asyncio.sleep(0.1)
    call.go_on.set()

    first, second = await asyncio.gather(*tasks, return_exceptions=True)

    assert (str(first), second) == ("a bug with 1", 4)


async def test_a_call_after_a_pause_is_made(call: Call) -> None:
    grouped = Grouped(call, away=(psycopg.OperationalError,))
    call.go_on.set()

    assert await grouped(1) == 2
    await asyncio.sleep(0.01)
    assert await grouped(2) == 4


async def test_a_call_is_not_made_in_the_context_of_one_who_asked() -> None:
    request_id: ContextVar[str] = ContextVar("request_id", default="")

    async def call(items: list[int]) -> list[str]:
        return [request_id.get() for _ in items]

    request_id.set("req_1")

    assert await Grouped(call)(1) == ""
