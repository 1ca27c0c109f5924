"""One of a kind in each process."""

from collections.abc import Callable
from functools import cache, wraps
from threading import Lock
from typing import TypeVar

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
