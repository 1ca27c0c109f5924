"""What a subscriber sees: the shape of an event, the groups it goes to, and the doorbell.

A doorbell is best effort. The promise that a client sees every event rests on the rows.
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import redis.asyncio
import structlog
from channels.layers import BaseChannelLayer, get_channel_layer
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from orders import loop
from orders.once import once, once_per_loop

log = structlog.get_logger(__name__)

# Doorbells that may wait for Redis; more are dropped, the sockets' poll finds the rows.
BACKLOG = 5000
TOGETHER = 100
SEND_TIMEOUT_SECONDS = 1.0
ORDER_GROUP, OWNER_GROUP, OPEN = "order.", "owner.", "open"
# One call for many messages: a command for each would cost the client more than Redis.
PUBLISH = "for i = 1, #ARGV, 2 do redis.call('PUBLISH', ARGV[i], ARGV[i + 1]) end"
EPOCH, MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)

# What became of this process's doorbells: published, failed (Redis), dropped (the backlog is full).
rung = Counter({"published": 0, "failed": 0, "dropped": 0})


def iso(moment: datetime) -> str:
    """UTC with milliseconds: 2025-11-08T10:30:00.000Z."""
    return _iso_of_utc(moment.astimezone(UTC))


@lru_cache(maxsize=256)  # orders that came together have the same, and each shows it twice
def _iso_of_utc(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(moment: datetime) -> int:
    """Since 1970, rounded down as `iso` does."""
    return (moment - EPOCH) // MILLISECOND


class Event(NamedTuple):
    """A row of `orders_orderevent`, with the owner of its order."""

    order_id: str
    owner_id: int | None
    seq: int
    status: str
    previous_status: str
    attempt: int
    created_at: datetime
    data: dict[str, Any]

    def frame(self, *, replayed: bool) -> dict[str, Any]:
        """The `order.status` frame of the WebSocket, which GET …/events returns as well."""
        return {
            "type": "order.status",
            "orderId": self.order_id,
            "seq": self.seq,
            "status": self.status,
            "previousStatus": self.previous_status or None,
            "attempt": self.attempt,
            "timestamp": iso(self.created_at),
            "replayed": replayed,
            "data": self.data,
        }


def order_group(order_id: str) -> str:
    return ORDER_GROUP + order_id


def owner_group(owner_id: int | None) -> str:
    """Everything of one owner; orders placed without a key in development share one."""
    return f"{OWNER_GROUP}{OPEN if owner_id is None else owner_id}"


def owner_of_group(group: str) -> int | None:
    """The other way."""
    name = group.removeprefix(OWNER_GROUP)
    return None if name == OPEN else int(name)


def groups_of(event: Event) -> list[str]:
    """The first event rings for its owner alone: who follows an order by its id reads that one."""
    owners = owner_group(event.owner_id)
    return [owners] if event.seq == 1 else [order_group(event.order_id), owners]


def publish(event: Event) -> None:
    """Ring for the event at its groups; returns at once and never fails."""
    loop.soon(lambda: _doorbell().ring(event))


class Doorbell:
    """Sends from one event loop, everything that waits in one call.

    The layer's own group_send() costs as much as moving the order.
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._redis = open_connection()

    def ring(self, event: Event) -> None:
        if len(self._events) >= BACKLOG:
            rung["dropped"] += 1
            return
        self._events.append(event)
        if self._sending is None:
            # It is not the first ringer's: its log lines have no request id.
            self._sending = asyncio.create_task(self._send_all(), context=Context())

    async def _send_all(self) -> None:
        try:
            await asyncio.sleep(0)  # whoever waits for an answer gets it first
            while self._events:
                some = min(TOGETHER, len(self._events))
                await self._try([self._events.popleft() for _ in range(some)])
        finally:
            self._sending = None

    async def _try(self, waiting: Sequence[Event]) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await send(waiting, self._redis)
            rung["published"] += len(waiting)
        except Exception as error:  # whatever Redis does, orders go on
            rung["failed"] += len(waiting)
            log.warning("doorbell.failed", events=len(waiting), error=repr(error))
            with suppress(Exception):
                await self._redis.disconnect(nowait=True)


async def send(events: Sequence[Event], connection: Any) -> None:
    """Ring for each, in order, with one message to each group. Raises redis.RedisError."""
    frames = defaultdict(list)
    for event in events:
        frame = event.frame(replayed=False)
        for group in groups_of(event):
            frames[group].append(frame)
    messages: list[bytes | str] = []
    for group, some in frames.items():
        messages += message(group, {"type": "order.events", "group": group, "frames": some})
    try:
        await call(connection, "EVAL", PUBLISH, 0, *messages)
    except redis.ConnectionError:  # Redis has restarted; heard twice is heard once
        await call(connection, "EVAL", PUBLISH, 0, *messages)


async def call(connection: Any, *command: bytes | str | int) -> None:
    """On a connection of its own: a client would look for one each time."""
    await connection.send_command(*command, check_health=False)
    await connection.read_response()


def message(group: str, content: dict[str, Any]) -> tuple[str, bytes]:
    """(Redis channel, bytes) as channels_redis.pubsub publishes it; a test compares the two."""
    prefix, serialize = _format()
    return f"{prefix}__group__{group}", serialize(content)


@once
def _format() -> tuple[str, Callable[[Any], bytes]]:
    layer: Any = channel_layer()
    return config()["prefix"], layer.serialize


def config() -> dict[str, Any]:
    """Of the channel layer."""
    layers: Any = settings.CHANNEL_LAYERS
    return dict(layers["default"]["CONFIG"])


def open_connection() -> Any:
    """Connects with the first command, and with the next one after an error."""
    (host,) = config()["hosts"]
    client: Any = redis.asyncio.Redis.from_url(
        host["address"],
        socket_connect_timeout=host["socket_connect_timeout"],
        retry=Retry(NoBackoff(), 0),
    )
    return client.connection_pool.make_connection()


def channel_layer() -> BaseChannelLayer:
    """Redis's pub/sub, as settings have it."""
    layer = get_channel_layer()
    if layer is None:
        raise ImproperlyConfigured("CHANNEL_LAYERS has no default")
    return layer


_doorbell = once_per_loop(Doorbell)
