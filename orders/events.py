"""What a subscriber sees: the shape of an event, the groups it goes to, and the doorbell.

A doorbell is best effort. The promise that a client sees every event rests on the rows.
"""

import queue
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
import structlog
from channels.layers import BaseChannelLayer, get_channel_layer
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from redis.backoff import NoBackoff
from redis.retry import Retry

from orders.once import once

log = structlog.get_logger(__name__)

# Doorbells that may wait for Redis; more are dropped, the sockets' poll finds the rows.
BACKLOG = 1000
TOGETHER = 100
SEND_TIMEOUT_SECONDS = 1.0
ORDER_GROUP = "order."
# One call for many messages: a command for each would cost the client more than Redis.
PUBLISH = "for i = 1, #ARGV, 2 do redis.call('PUBLISH', ARGV[i], ARGV[i + 1]) end"
EPOCH, MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)

# What became of this process's doorbells: published, failed (Redis), dropped (the backlog is full).
rung = Counter({"published": 0, "failed": 0, "dropped": 0})


def iso(moment: datetime) -> str:
    """UTC with milliseconds: 2025-11-08T10:30:00.000Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(moment: datetime) -> int:
    """Since 1970, rounded down as `iso` does."""
    return (moment - EPOCH) // MILLISECOND


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
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
    return f"owner.{owner_id if owner_id is not None else 'open'}"


def publish(event: Event) -> None:
    """Ring at the order's group and its owner's; returns at once and never fails."""
    _doorbell().ring(event)


class Doorbell:
    """Sends from one thread, everything that waits in one call.

    The layer's own group_send() needs an event loop and costs as much as moving the order.
    """

    def __init__(self) -> None:
        self._events: queue.Queue[Event] = queue.Queue(BACKLOG)
        threading.Thread(target=self._send_all, name="doorbell", daemon=True).start()

    def ring(self, event: Event) -> None:
        try:
            self._events.put_nowait(event)
        except queue.Full:
            rung["dropped"] += 1

    def _send_all(self) -> None:
        while True:
            waiting = [self._events.get()]
            with suppress(queue.Empty):
                while len(waiting) < TOGETHER:
                    waiting.append(self._events.get_nowait())
            try:
                send(waiting)
                rung["published"] += len(waiting)
            except Exception as error:  # whatever Redis does, orders go on
                rung["failed"] += len(waiting)
                log.warning("doorbell.failed", events=len(waiting), error=repr(error))


def send(events: Sequence[Event]) -> None:
    """Ring for each, in order. Raises redis.RedisError."""
    messages: list[bytes | str] = []
    for event in events:
        frame = event.frame(replayed=False)
        for group in (order_group(event.order_id), owner_group(event.owner_id)):
            messages += message(group, {"type": "order.event", "group": group, "frame": frame})
    _redis().eval(PUBLISH, 0, *messages)


def message(group: str, content: dict[str, Any]) -> tuple[str, bytes]:
    """(Redis channel, bytes) as channels_redis.pubsub publishes it; a test compares the two."""
    layer: Any = channel_layer()
    return f"{config()['prefix']}__group__{group}", layer.serialize(content)


def config() -> dict[str, Any]:
    """Of the channel layer."""
    layers: Any = settings.CHANNEL_LAYERS
    return dict(layers["default"]["CONFIG"])


@once
def _redis() -> redis.Redis:
    """Connects again where Redis has restarted; does not try twice where it is away."""
    (host,) = config()["hosts"]
    return redis.Redis.from_url(
        host["address"],
        socket_connect_timeout=host["socket_connect_timeout"],
        socket_timeout=SEND_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def channel_layer() -> BaseChannelLayer:
    """Redis's pub/sub, as settings have it."""
    layer = get_channel_layer()
    if layer is None:
        raise ImproperlyConfigured("CHANNEL_LAYERS has no default")
    return layer


@once
def _doorbell() -> Doorbell:
    return Doorbell()
