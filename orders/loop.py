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
    """Call at once where a loop is running, else on this process's loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        _loop().call_soon_threadsafe(call)
    else:
        call()


_starting = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}  # by process: threads do not survive a fork


def _loop() -> asyncio.AbstractEventLoop:
    with _starting:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="orders", daemon=True).start()
    return loop
