"""An event loop in virtual time: nobody waits, and every run of a seed is the same."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class Idle(selectors.SelectSelector):
    """Nothing comes from outside: while the loop has nothing to do, time passes at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "nothing will ever happen any more"
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`in_thread` makes the calls that would go to threads."""

    in_thread: Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]]

    def __init__(self) -> None:
        self._idle = Idle()
        super().__init__(self._idle)

    def time(self) -> float:
        return self._idle.now

    def run_in_executor(self, executor: Any, call: Any, *args: Any) -> Any:
        assert not args
        return self.create_task(self.in_thread(call))
