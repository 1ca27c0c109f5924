"""The event loop of a worker: the orders in execution are coroutines in one thread of its own."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from orders.once import once

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Wait for the coroutine on this process's loop. From any thread but the loop's own."""
    return asyncio.run_coroutine_threadsafe(coroutine, _loop()).result()


@once
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="orders", daemon=True).start()
    return loop
