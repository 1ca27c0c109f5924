"""How many sockets are open: exact for this process, a few seconds old for the others."""

import itertools
import os
import secrets

import redis
import structlog
from django.conf import settings

log = structlog.get_logger(__name__)

KEY = "presence:web:"
EXPIRE_SECONDS = 10

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


def client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=0.2, socket_timeout=0.2, decode_responses=True
    )


def report() -> None:
    """Tell the other web processes; call every few seconds. Best effort."""
    try:
        with client() as connection:
            connection.set(KEY + _process, len(_open), ex=EXPIRE_SECONDS)
    except redis.RedisError as error:
        log.debug("presence.unreported", error=str(error))


def connections() -> int:
    """Sockets open in the whole fleet; this process's alone while Redis is away."""
    try:
        with client() as connection:
            others = [k for k in connection.scan_iter(KEY + "*") if k != KEY + _process]
            counts = connection.mget(others) if others else []
    except redis.RedisError:
        counts = []
    return len(_open) + sum(int(count) for count in counts if count)
