"""What a subscriber sees: the shape of an event, the groups it goes to, and the doorbell.

A doorbell is best effort. The promise that a client sees every event rests on the rows.
"""

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from channels.layers import BaseChannelLayer, get_channel_layer
from django.core.exceptions import ImproperlyConfigured

from orders.once import once

log = structlog.get_logger(__name__)

# Doorbells that may wait for Redis; more are dropped, the sockets' poll finds the rows.
BACKLOG = 1000
SEND_TIMEOUT_SECONDS = 1.0
ORDER_GROUP = "order."
EPOCH, MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)

# What became of this process's doorbells: published, failed (Redis), dropped (the backlog is full).
# Counted in the doorbell's one thread.
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
    """Sends from one event loop in one thread: a loop per send would cost 20 ms each."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue(BACKLOG)
        threading.Thread(target=self._run, name="doorbell", daemon=True).start()

    def ring(self, event: Event) -> None:
        self._loop.call_soon_threadsafe(self._enqueue, event)

    def _enqueue(self, event: Event) -> None:
        if self._events.full():
            rung["dropped"] += 1
        else:
            self._events.put_nowait(event)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._send_all())

    async def _send_all(self) -> None:
        while True:
            event = await self._events.get()
            try:
                async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                    await send(event)
                rung["published"] += 1
            except Exception as error:  # whatever Redis does, an order goes on
                rung["failed"] += 1
                log.warning("doorbell.failed", order_id=event.order_id, error=repr(error))


async def send(event: Event) -> None:
    layer = channel_layer()
    frame = event.frame(replayed=False)
    for group in (order_group(event.order_id), owner_group(event.owner_id)):
        await layer.group_send(group, {"type": "order.event", "group": group, "frame": frame})


def channel_layer() -> BaseChannelLayer:
    """Redis's pub/sub, as settings have it."""
    layer = get_channel_layer()
    if layer is None:
        raise ImproperlyConfigured("CHANNEL_LAYERS has no default")
    return layer


@once
def _doorbell() -> Doorbell:
    return Doorbell()
