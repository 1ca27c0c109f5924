"""Calls that come in while one of their kind is under way are made together, as the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MOST = 100
# Whoever has waited so long for a server that is away is not made to wait for another call: it may
# fail as late (dex.postgres.ANSWER_SECONDS), and a refusal is promised within 3 s.
PATIENCE_SECONDS = 0.4


@dataclass(eq=False, slots=True)
class Waiting(Generic[T, R]):
    item: T
    since: float
    answer: "asyncio.Future[R]"


class Grouped(Generic[T, R]):
    """A call for one item, around a call for several.

    One call is made at a time; there is no timer. Whoever stops waiting before the call has begun
    is left out, and the others are not disturbed. The call answers each item, in order; an
    exception among the answers is raised to its item alone. What the call itself raises is raised
    to all of its group; where it is one of `away`, also to whoever waits for the next call and has
    done so for PATIENCE_SECONDS.
    """

    def __init__(
        self,
        call: Callable[[list[T]], Awaitable[Sequence[R | Exception]]],
        away: tuple[type[Exception], ...] = (),
    ) -> None:
        self.call = call
        self.away = away
        self.waiting: list[Waiting[T, R]] = []
        self.running: asyncio.Task[None] | None = None

    async def __call__(self, item: T) -> R:
        """Raises what the call answers or raises. From one event loop only."""
        loop = asyncio.get_running_loop()
        waiting: Waiting[T, R] = Waiting(item, loop.time(), loop.create_future())
        self.waiting.append(waiting)
        if self.running is None:
            # Not in the context of the first who called: the call is for all.
            self.running = loop.create_task(self.run(), context=Context())
        return await waiting.answer

    async def run(self) -> None:
        try:
            while self.waiting:
                group, self.waiting = self.waiting[:MOST], self.waiting[MOST:]
                if asked := [each for each in group if not each.answer.done()]:
                    await self.answer(asked)
        finally:
            self.running = None

    async def answer(self, group: list[Waiting[T, R]]) -> None:
        loop = asyncio.get_running_loop()
        items = [each.item for each in group]
        try:
            answers = await self.call(items)
            answered = list(zip(group, answers, strict=True))
        except Exception as error:
            if isinstance(error, self.away):
                since = loop.time() - PATIENCE_SECONDS
                group += [each for each in self.waiting if each.since < since]
            for each in group:
                refuse(each.answer, error)
        else:
            for each, answer in answered:
                if isinstance(answer, Exception):
                    refuse(each.answer, answer)
                elif not each.answer.done():
                    each.answer.set_result(answer)


def refuse(answer: "asyncio.Future[R]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
