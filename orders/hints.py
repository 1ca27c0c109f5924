"""Hints to the workers: "look at order N". A hint may be lost or doubled; neither does harm."""

import queue
import threading
import time
from collections.abc import Sequence

import redis
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from orders import claims
from orders.once import once
from orders.tasks import execute_order

log = structlog.get_logger(__name__)

# Commits whose orders may wait for their hints; more are left to the dispatcher.
BACKLOG = 1000
# Hints in Redis are counted so often. What was sent since is known without.
LOOK_SECONDS = 0.2


def send(order_id: str) -> bool:
    """Publish one hint; False when Redis does not take it within about a second."""
    try:
        # The order's id is the task's id: Flower shows one line for each order.
        execute_order.apply_async((order_id,), task_id=order_id)
    except Exception as error:  # whatever the broker does, the order is stored
        log.warning("hint.failed", order_id=order_id, error=str(error))
        return False
    return True


def waiting() -> int:
    """How many hints Redis holds that no worker has taken. Raises redis.RedisError."""
    return int(_broker().llen(settings.CELERY_TASK_DEFAULT_QUEUE))


def send_soon(order_ids: Sequence[str]) -> None:
    """Publish what one commit has stored, the oldest first, from a thread of its own.

    Whoever answers a client does not wait for Redis.
    """
    try:
        _backlog().put_nowait(order_ids)
    except queue.Full:
        log.debug("hint.left_out", orders=order_ids)


def enough() -> int:
    """So many hints start all that may run at once: whatever order one names, the first starts.

    Beyond them Redis would grow with a queue that workers cannot shorten.
    """
    return settings.QUEUE_CONCURRENCY or claims.MOST_HINTS


@once
def _broker() -> redis.Redis:
    """Connects again where Redis has restarted; does not try twice where it is away."""
    return redis.Redis.from_url(
        settings.CELERY_BROKER_URL,
        socket_connect_timeout=0.5,
        socket_timeout=1,
        retry=Retry(NoBackoff(), 0),
    )


@once
def _backlog() -> queue.Queue[Sequence[str]]:
    backlog: queue.Queue[Sequence[str]] = queue.Queue(BACKLOG)
    threading.Thread(target=_publish, args=(backlog,), name="hints", daemon=True).start()
    return backlog


def _publish(backlog: queue.Queue[Sequence[str]]) -> None:
    lacking, looked_at = 0, -LOOK_SECONDS
    while True:
        order_ids = backlog.get()
        if time.monotonic() - looked_at >= LOOK_SECONDS:
            lacking, looked_at = _lacking(), time.monotonic()
        hinted, left_out = order_ids[:lacking], order_ids[lacking:]
        lacking -= len(hinted)
        for order_id in hinted:
            send(order_id)
        if left_out:
            log.debug("hint.left_out", orders=left_out)


def _lacking() -> int:
    """How many more hints Redis can use; all, when it does not say."""
    try:
        return max(0, enough() - waiting())
    except Exception as error:  # whatever Redis does, this thread goes on
        log.debug("hint.redis_away", error=str(error))
        return enough()
