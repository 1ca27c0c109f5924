"""How long the stages of orders take and how often they are tried again: counts that only grow.

A process counts its own moves and adds them to the rows of `orders_measure` every second: all add
up, and a restart loses nothing. A kill loses the last second's, never a part of a count, and what a
connection breaks on at its COMMIT may be added twice: these are no promises, and the numbers of
orders come from the tally, which counts with the move.
"""

import atexit
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from datetime import datetime
from math import inf

import psycopg
import structlog
from psycopg.types.json import Jsonb

from orders import database
from orders.events import Event
from orders.models import Order, Status
from orders.once import once

log = structlog.get_logger(__name__)

# What a stage of an order is called, by the event that begins it and the one that ends it.
STAGES = {
    ("routing", "building"): "routing",
    ("building", "submitted"): "building",
    ("submitted", "confirmed"): "submitted",
}
QUEUED = "queued"  # from placed to its first start; not the wait before a retry
TOTAL = "total"  # from placed to confirmed
RETRIES = "retries"
# Upper bounds of the buckets, in seconds. They may be changed at any time: each row has its own.
BOUNDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)
FLUSH_SECONDS = 1.0

ADD = """
INSERT INTO orders_measure (name, le, shard, count, seconds)
SELECT name, le::float8, pg_backend_pid() %% 16, count, seconds
FROM jsonb_to_recordset(%(counted)s) AS c(name text, le text, count bigint, seconds float8)
ORDER BY name, le
ON CONFLICT (name, le, shard) DO UPDATE
SET count = orders_measure.count + excluded.count,
    seconds = orders_measure.seconds + excluded.seconds
RETURNING name
"""


class Counts:
    """What this process has counted since it last added to the rows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, float], list[float]] = defaultdict(lambda: [0, 0.0])

    def add(self, name: str, le: float, count: int, seconds: float) -> None:
        with self._lock:
            counted = self._counts[name, le]
            counted[0] += count
            counted[1] += seconds

    def took(self, name: str, begun: datetime, ended: datetime) -> None:
        # A clock that was set back must not make a sum smaller.
        seconds = max(0.0, (ended - begun).total_seconds())
        self.add(name, bound_of(seconds), 1, seconds)

    def flush(self) -> None:
        """Add to the rows. Keeps what it has while the database is away."""
        with self._lock:
            counts, self._counts = self._counts, defaultdict(lambda: [0, 0.0])
        if not counts:
            return
        rows = [
            {"name": name, "le": str(le), "count": count, "seconds": seconds}
            for (name, le), (count, seconds) in counts.items()
        ]
        try:
            database.rows(ADD, {"counted": Jsonb(rows)})
        except psycopg.Error as error:
            log.debug("measures.kept", error=str(error).strip())
            for (name, le), (count, seconds) in counts.items():
                self.add(name, le, int(count), seconds)

    def keep_flushing(self) -> None:
        while True:
            time.sleep(FLUSH_SECONDS)
            self.flush()


def bound_of(seconds: float) -> float:
    at = bisect_left(BOUNDS, seconds)
    return BOUNDS[at] if at < len(BOUNDS) else inf


def queued(order: Order) -> None:
    """Count the first start of an order."""
    counts().took(QUEUED, order.created_at, order.updated_at)


def moved(event: Event, *, since: Order) -> None:
    """Count a move. `since` is the order as it was before."""
    if stage := STAGES.get((event.previous_status, event.status)):
        counts().took(stage, since.updated_at, event.created_at)
    if event.status == Status.CONFIRMED:
        counts().took(TOTAL, since.created_at, event.created_at)
    if event.attempt > since.attempt:
        counts().add(RETRIES, inf, 1, 0.0)


@once
def counts() -> Counts:
    made = Counts()
    atexit.register(made.flush)
    threading.Thread(target=made.keep_flushing, name="measures", daemon=True).start()
    return made
