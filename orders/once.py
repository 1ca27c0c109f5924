"""One of a kind in each process, or on each event loop."""

import asyncio
from collections.abc import Callable
from functools import cache, wraps
from threading import Lock
from typing import TypeVar
from weakref import finalize

T = TypeVar("T")


def once(make: Callable[[], T]) -> Callable[[], T]:
    """Calls `make` at the first use and answers the same from then on.

    functools.cache alone lets threads that come at the same moment each make one.
    """
    lock, made = Lock(), cache(make)

    @wraps(make)
    def get() -> T:
        with lock:
            return made()

    return get


def once_per_loop(make: Callable[[], T]) -> Callable[[], T]:
    """The same for what holds tasks and futures: one for each running event loop."""
    made: dict[int, T] = {}

    @wraps(make)
    def get() -> T:
        loop = asyncio.get_running_loop()
        found = made.get(id(loop))
        if found is None:
            found = made[id(loop)] = make()
            finalize(loop, made.pop, id(loop)).atexit = False
        return found

    return get
