"""How often a caller may ask: a bucket for each in Redis, shared by all web processes.

A bucket holds as many requests as API_RATE_LIMIT names and fills at that rate. Redis keeps the time
at which it will be full (the generic cell rate algorithm), by its own clock. Nobody is refused, and
nobody waits, while Redis is away.
"""

import math
import time
from collections.abc import Callable

import redis
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from orders import keys
from orders.keys import Caller
from orders.once import once
from orders.problems import Problem

log = structlog.get_logger(__name__)

# Connecting and asking may each take so long, and no retry: 0.2 s in all.
REDIS_SECONDS = 0.1
# After Redis failed, one call in so many seconds tries it; the others do not wait.
PAUSE_SECONDS = 5.0
# Of a caller's sockets together, at least: twice as many as requests.
FRAMES_AT_ONCE = 1_000
FRAMES_A_SECOND = 50
MOST_PACES = 10_000

# Microseconds. ARGV: of one request, of a whole bucket.
# Returns whether they are granted, what is left, until the bucket is full, until they would be.
SPEND = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local each, whole = tonumber(ARGV[1]), tonumber(ARGV[2])
-- It takes no longer than an empty bucket does, whatever rate or clock it was stored with.
local stored = tonumber(redis.call('GET', KEYS[1]) or now)
local full_at = math.min(math.max(stored, now), now + whole)
local then_full_at = full_at + each
local room = whole - (then_full_at - now)
if room < 0 then
    return {0, math.floor((whole - (full_at - now)) / each), full_at - now, -room}
end
redis.call('SET', KEYS[1], string.format('%.0f', then_full_at),
           'PX', math.ceil((then_full_at - now) / 1000))
return {1, math.floor(room / each), then_full_at - now, 0}
"""


class Breaker:
    """Open after a failure: then one call each PAUSE_SECONDS is let through, to see."""

    def __init__(self) -> None:
        self.failed = False
        self.next_try = 0.0

    def lets_through(self) -> bool:
        if self.failed:
            if time.monotonic() < self.next_try:
                return False
            self.next_try = time.monotonic() + PAUSE_SECONDS
        return True

    def record(self, *, failed: bool) -> None:
        self.failed = failed
        self.next_try = time.monotonic() + PAUSE_SECONDS


breaker = Breaker()


@once
def client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL,
        protocol=2,
        socket_connect_timeout=REDIS_SECONDS,
        socket_timeout=REDIS_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def bucket_of(caller: Caller, address: str | None) -> str:
    """A key's own, or its user's where a session asks, or the address's where nobody signed in."""
    if caller.key_id is not None:
        return f"key.{caller.key_id}"
    if caller.owner_id is not None:
        return f"user.{caller.owner_id}"
    return f"address.{address}"


def counted_caller(authorization: str, address: str | None) -> Caller:
    """As keys.caller_of_key; who has no good key is counted by address. Raises Problem."""
    return counted(lambda: keys.caller_of_key(authorization), address)


def counted(sign_in: Callable[[], Caller], address: str | None) -> Caller:
    """What it answers; a refusal is counted by address. Raises Problem."""
    try:
        return sign_in()
    except Problem:
        spend(bucket_of(Caller(None), address))
        raise


class Pace:
    """How many frames of a caller are heard: many at once, then at a pace. Who sends more waits.

    They are not counted as requests, for a client that comes back follows all its orders again; but
    each may ask PostgreSQL. In this process; its sockets are opened at the pace of API_RATE_LIMIT.
    """

    def __init__(self) -> None:
        self.full_at = 0.0  # of the loop's clock

    def wait(self, now: float) -> float:
        """Seconds until the next frame may be heard."""
        if settings.API_RATE_LIMIT is None:
            return 0.0
        most, seconds = settings.API_RATE_LIMIT
        each = 1 / max(FRAMES_A_SECOND, 2 * most / seconds)
        self.full_at = max(self.full_at, now) + each
        return max(0.0, self.full_at - now - each * max(FRAMES_AT_ONCE, most))


_paces: dict[str, Pace] = {}


def pace_of(bucket: str) -> Pace:
    """All sockets of a caller have one, also those that are opened later."""
    if len(_paces) >= MOST_PACES:
        _paces.clear()
    return _paces.setdefault(bucket, Pace())


def spend(bucket: str, allowance: tuple[int, int] | None = None) -> dict[str, str]:
    """Take one request (a batch is one) out of a bucket; the headers that say what is left.

    `allowance` is (requests, seconds), API_RATE_LIMIT if not given. Raises Problem when there is
    none left.
    """
    allowance = allowance or settings.API_RATE_LIMIT
    if allowance is None or not breaker.lets_through():
        return {}
    most, seconds = allowance
    whole = seconds * 1_000_000
    try:
        granted, left, full_in, wait = client().eval(
            SPEND, 1, f"limit:{bucket}", whole // most, whole
        )
    except redis.RedisError as error:
        breaker.record(failed=True)
        log.warning("limits.redis_away", error=repr(error))
        return {}
    breaker.record(failed=False)
    headers = {
        "RateLimit-Limit": str(most),
        "RateLimit-Remaining": str(left),
        "RateLimit-Reset": str(whole_seconds(full_in)),
    }
    if granted:
        return headers
    again = str(max(1, whole_seconds(wait)))
    detail = f"More than {most} requests in {seconds} s: the next may be made in {again} s."
    headers["Retry-After"] = again
    raise Problem(status=429, code="TOO_MANY_REQUESTS", detail=detail, headers=headers)


def whole_seconds(microseconds: int) -> int:
    return math.ceil(microseconds / 1_000_000)
