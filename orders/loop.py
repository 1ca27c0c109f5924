"""The event loop of a process, in a thread of its own: a worker's orders are coroutines on it."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Wait for the coroutine on this process's loop. From any thread but the loop's own."""
    return asyncio.run_coroutine_threadsafe(coroutine, _loop()).result()


def soon(call: Callable[[], object]) -> None:
    """Call on this process's loop, at once where that is the running one."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is _loop():
        call()
    else:
        _loop().call_soon_threadsafe(call)


_starting = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}  # by process: threads do not survive a fork


def _loop() -> asyncio.AbstractEventLoop:
    with _starting:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="orders", daemon=True).start()
    return loop


class AfterTurn:
    """Calls once for all that is asked for in one turn of an event loop; at once where none runs.

    What was done before asking is done before the call.
    """

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._asked = False

    def ask(self) -> None:
        if self._asked:
            return
        self._asked = True
        try:
            asyncio.get_running_loop().call_soon(self._now)
        except RuntimeError:  # of no loop
            self._now()

    def _now(self) -> None:
        self._asked = False
        self._call()
