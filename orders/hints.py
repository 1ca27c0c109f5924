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
    backlog, room = _publisher()
    if room.is_full():  # the thread would do no more, and waking it costs more than the rest
        log.debug("hint.left_out", orders=order_ids)
        return
    try:
        backlog.put_nowait(order_ids)
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


class Room:
    """How many more hints Redis can use, as the publishing thread has found and counts on."""

    def __init__(self) -> None:
        self._left = 0
        self._looked_at = -LOOK_SECONDS

    def is_full(self) -> bool:
        return self._left == 0 and self._is_known()

    def take(self, wanted: int) -> int:
        """So many of them are about to be sent."""
        if not self._is_known():
            self._left, self._looked_at = _lacking(), time.monotonic()
        taken = min(wanted, self._left)
        self._left -= taken
        return taken

    def _is_known(self) -> bool:
        return time.monotonic() - self._looked_at < LOOK_SECONDS


@once
def _publisher() -> tuple[queue.Queue[Sequence[str]], Room]:
    backlog: queue.Queue[Sequence[str]] = queue.Queue(BACKLOG)
    room = Room()
    threading.Thread(target=_publish, args=(backlog, room), name="hints", daemon=True).start()
    return backlog, room


def _publish(backlog: queue.Queue[Sequence[str]], room: Room) -> None:
    while True:
        order_ids = backlog.get()
        hinted = room.take(len(order_ids))
        for order_id in order_ids[:hinted]:
            send(order_id)
        if hinted < len(order_ids):
            log.debug("hint.left_out", orders=order_ids[hinted:])


def _lacking() -> int:
    """How many more hints Redis can use; all, when it does not say."""
    try:
        return max(0, enough() - waiting())
    except Exception as error:  # whatever Redis does, this thread goes on
        log.debug("hint.redis_away", error=str(error))
        return enough()
