"""Waiting for swaps: one question at a time for all that a process waits for at a venue."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from dex.errors import VenueUnavailable
from dex.types import Swap, SwapState, SwapStatus

# The pause between two questions is longer by this for each that is asked for: a thousand are not
# asked for as often as ten. A new one is asked for at once.
POLL_SECONDS_EACH = 0.0001
# The pause after a question that had no answer, at least.
FAILED_PAUSE_SECONDS = 0.5
# Those that wait meanwhile are asked for after it.
ASK_SECONDS = 5.0

PENDING = SwapState(status=SwapStatus.PENDING)

Ask = Callable[[Sequence[Swap]], Awaitable[Sequence[SwapState | Exception]]]


class Watch:
    """One swap that somebody waits for, until it is closed."""

    def __init__(self, swap: Swap, close: Callable[["Watch"], None]) -> None:
        self.swap = swap
        self._close = close
        self._answer: SwapState | Exception = PENDING
        self._told = asyncio.Event()

    async def next_state(self, seconds: float) -> SwapState:
        """The newest answer that is more than pending, of those since the last; pending where there
        is none in `seconds`.

        Raises what asking raised, or was answered for this swap.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._told.wait()
        except TimeoutError:
            return PENDING
        self._told.clear()
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def tell(self, answer: SwapState | Exception) -> None:
        if answer != PENDING:
            self._answer = answer
            self._told.set()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self._close(self)


class Watcher:
    """Asks one venue from a task of its own, which is there while anybody waits; pauses so many
    seconds between two questions for the same swap."""

    def __init__(self, ask: Ask, pause: float) -> None:
        self._ask = ask
        self._pause = pause
        self._new: list[Watch] = []
        self._open: set[Watch] = set()
        self._came = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def watch(self, swap: Swap) -> Watch:
        watch = Watch(swap, self._open.discard)
        self._open.add(watch)
        self._new.append(watch)
        self._came.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        return watch

    async def _run(self) -> None:
        loop, due = asyncio.get_running_loop(), 0.0
        while self._open:
            if not self._new and loop.time() < due:
                await self._wait(due - loop.time())
            asked, self._new = self._new, []
            self._came.clear()
            if loop.time() >= due:
                asked = list(self._open)
                due = loop.time() + self._pause + POLL_SECONDS_EACH * len(asked)
            if not await self._tell(asked):
                due = loop.time() + max(self._pause, FAILED_PAUSE_SECONDS)
        self._task = None

    async def _wait(self, seconds: float) -> None:
        """Until then, or until somebody new waits."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._came.wait()

    async def _tell(self, asked: list[Watch]) -> bool:
        """Whether there was an answer to any."""
        if not asked:
            return True
        try:
            async with asyncio.timeout(ASK_SECONDS):
                answers = await self._ask([watch.swap for watch in asked])
            told = list(zip(asked, answers, strict=True))
        except TimeoutError:
            late = VenueUnavailable("QUOTE_UNAVAILABLE", f"no answer in {ASK_SECONDS:g} s")
            told = [(watch, late) for watch in asked]
        except Exception as error:  # theirs to judge; this task goes on for all others
            told = [(watch, error) for watch in asked]
        for watch, answer in told:
            watch.tell(answer)
        return not all(isinstance(answer, Exception) for _, answer in told)
