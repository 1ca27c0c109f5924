"""Celery's consumer, of workers only: who sends a task does not load it."""

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any

import structlog
from celery.worker.consumer import Consumer
from celery.worker.control import Panel
from kombu.utils.limits import TokenBucket

# What Celery's remote control may not do, through Flower or Redis: it would stop executions while
# /health is green, or worker after worker. Signals stop a worker, and the environment limits it.
CLOSED = (
    *("add_consumer", "autoscale", "cancel_consumer", "pool_grow", "pool_restart", "pool_shrink"),
    *("rate_limit", "revoke", "revoke_by_stamped_headers", "shutdown", "terminate", "time_limit"),
)
log = structlog.get_logger(__name__)


def closed(command: str) -> Callable[..., dict[str, str]]:
    """What a worker answers instead. Of a command that is unknown kombu logs a stack."""

    def refuse(_state: Any, /, **_: Any) -> dict[str, str]:
        log.warning("control.closed", command=command)
        return {"error": "closed: cancel orders and halt trading in /admin/, stop by signal"}

    return refuse


Panel.data.update((name, closed(name)) for name in CLOSED)

# Kombu's own waits grow to 30 s: a Redis that is back would have no workers for as long.
RECONNECT_SECONDS = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 2}


class Bucket(TokenBucket):
    """A bucket whose tokens several threads may take: kombu's has no lock."""

    def __init__(self, fill_rate: float, capacity: int) -> None:
        super().__init__(fill_rate, capacity)
        self._lock = Lock()

    def can_consume(self, tokens: int = 1) -> bool:
        with self._lock:
            return bool(super().can_consume(tokens))


class WorkerConsumer(Consumer):
    """Celery's consumer, with two habits mended.

    It applies a task's `rate_limit` evenly, with room for a second's worth at once. Celery's own
    bucket holds one token and sets a timer for every message that waits. Past ten such timers
    kombu's event loop sleeps a full second after each ten (`Hub.fire_timers`): 20/s became 0.9/s
    with a dozen messages waiting. And it looks for a lost Redis every RECONNECT_SECONDS.
    """

    def ensure_connected(self, conn: Any) -> Any:
        conn.ensure_connection = partial(conn.ensure_connection, **RECONNECT_SECONDS)
        return super().ensure_connected(conn)

    def bucket_for_task(self, type: Any) -> TokenBucket | None:
        limit = super().bucket_for_task(type)
        bucket = limit and Bucket(limit.fill_rate, capacity=max(1, int(limit.fill_rate)))
        type.bucket = bucket  # an order that a task goes on with, without a message, pays as well
        return bucket

    def _limit_task(self, request: Any, bucket: Any, tokens: int) -> None:
        bucket.add((request, tokens))
        if len(bucket.contents) == 1:  # else a timer is set already, and takes this one, too
            self._schedule_bucket_request(bucket)  # type: ignore[attr-defined]
