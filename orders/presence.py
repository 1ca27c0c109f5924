"""Open sockets and live workers of the fleet, as Redis has them, a few seconds old.

The sockets of this process are counted exactly.
"""

import itertools
import os
import re
import secrets
from typing import Any

import redis
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from orders.once import once

log = structlog.get_logger(__name__)

KEY = "presence:web:"
WORKER_KEY = "presence:worker:"
COUNT = re.compile(rb"[0-9]{1,6}")
EXPIRE_SECONDS = 10
SCAN_AT_ONCE = 1000

_process = f"{os.getpid()}-{secrets.token_hex(4)}"
_open: set[int] = set()
_numbers = itertools.count()


def opened() -> int:
    """Count one more socket; the number is for closed()."""
    number = next(_numbers)
    _open.add(number)
    return number


def closed(number: int) -> None:
    _open.discard(number)


def here() -> int:
    """Sockets open in this process."""
    return len(_open)


@once
def client() -> redis.Redis:
    """Tries once more: what Redis has closed by restarting is found out with a command."""
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=0.2,
        socket_timeout=0.2,
        retry=Retry(NoBackoff(), 1),
    )


def report() -> None:
    """Tell the other web processes; call every few seconds. Best effort."""
    _tell(KEY, len(_open))


def connections() -> int:
    """Sockets open in the whole fleet; this process's alone while Redis is away."""
    try:
        found = client().scan_iter(KEY + "*", count=SCAN_AT_ONCE)
        others = [key for key in found if key != (KEY + _process).encode()]
        counts = client().mget(others) if others else []
    except redis.RedisError:
        counts = []
    return len(_open) + sum(map(number_in, counts))


def number_in(stored: Any) -> int:
    """0 where it is none: anybody who reaches Redis may have written it."""
    return int(stored) if stored and COUNT.fullmatch(stored) else 0


def report_worker() -> None:
    """Tell the web processes that this worker lives; call every few seconds. Best effort."""
    _tell(WORKER_KEY, 1)


def _tell(key: str, number: int) -> None:
    try:
        client().set(key + _process, number, ex=EXPIRE_SECONDS)
    except redis.RedisError as error:
        log.debug("presence.unreported", error=str(error))


def worker_leaves() -> None:
    """Best effort; a worker that is killed is counted until EXPIRE_SECONDS later."""
    try:
        client().delete(WORKER_KEY + _process)
    except redis.RedisError as error:
        log.debug("presence.unreported", error=str(error))


def workers() -> int | None:
    """Worker processes of the fleet; None while Redis is away."""
    try:
        return sum(1 for _ in client().scan_iter(WORKER_KEY + "*", count=SCAN_AT_ONCE))
    except redis.RedisError:
        return None
