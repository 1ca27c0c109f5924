"""What POST, stats, claim and dispatcher take before a queue of waiting orders.

    python -m tests.faults.backlog --depths 0,10000,100000 --samples 100

Starts servers and processes of its own, with fsync on, and removes them. Exits with 1 when a median
before the longest queue is more than twice that before the shortest and 2 ms, or when Redis holds
more than twice what keeps all workers busy.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import redis
from django.conf import settings
from psycopg.rows import dict_row
from rich.console import Console
from rich.table import Table

from orderengine.embedded import Stack
from orderengine.management.commands.up import interrupt_on_signals, manage
from orders import claims, database, hints, lifecycle
from tests.stacks import ORDER, engine

Row = dict[str, Any]
Spread = tuple[float, float]  # the median and the 95th percentile, in ms

# A table of less than a quarter of these is read from its start whenever no index is used.
BUFFERS = {"shared_buffers": "512MB"}
MOST_TIMES_SLOWER = 2.0
NOISE_MS = 2.0
HINTED_ORDERS = 1000

# A day old; nothing here reads the events and the tally of those.
FINISHED = """
INSERT INTO orders_order (id, order_type, token_in, token_out, amount_in, slippage_bps, venue,
                          status, seq, started_at, completed_at)
SELECT 'ord_' || (extract(epoch FROM now()) * 1000)::bigint - 86400000 || '_'
           || lpad(n::text, 10, '0'),
       'market', 'SOL', 'USDC', 1500000000, 100, 'raydium',
       'confirmed', 5, now() - interval '1 day', now() - interval '1 day'
FROM generate_series(1, %(count)s) n
"""
# As placement.PLACE writes them, older than any order that is posted. A tenth has a deadline.
WAITING = """
WITH o AS (
    INSERT INTO orders_order (id, order_type, token_in, token_out, amount_in, slippage_bps,
                              deadline_at)
    SELECT 'ord_' || (extract(epoch FROM now()) * 1000)::bigint - 600000 || '_'
               || lpad(n::text, 10, '0'),
           'market', 'SOL', 'USDC', 1500000000, 100,
           CASE WHEN n %% 10 = 0 THEN now() + interval '1 hour' END
    FROM generate_series(1, %(count)s) n
    RETURNING id, created_at
), e AS (
    INSERT INTO orders_orderevent
        (order_id, seq, status, previous_status, attempt, created_at, data)
    SELECT id, 1, 'pending', '', 1, created_at,
           '{"orderType": "market", "tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5"}'
    FROM o
)
INSERT INTO orders_tally (kind, shard, count) VALUES ('placed', 0, %(count)s)
ON CONFLICT (kind, shard) DO UPDATE SET count = orders_tally.count + excluded.count
"""
NEWEST = "SELECT max(id) AS id FROM orders_order WHERE status = 'pending'"
NO_LIMIT: Row = {
    **{"wanted": [claims.ANY], "lease": 15, "most": claims.MOST_HINTS},
    **{"concurrency": 0, "starts": 0},
}
LIMITS: Row = {**NO_LIMIT, "concurrency": 10, "starts": 100}
STATEMENTS: dict[str, tuple[str, Row]] = {
    "claim that finds one": (claims.CLAIM, NO_LIMIT),
    "claim, 10 and 100 a minute": (claims.CLAIM, LIMITS),
    "runnable, no limit": (claims.RUNNABLE, NO_LIMIT),
    "runnable, 10 and 100 a minute": (claims.RUNNABLE, LIMITS),
    "overdue": (claims.OVERDUE, {}),
}

progress = Console(stderr=True, highlight=False)


class Queue:
    """The orders of a running engine, seen by a client and by a worker's connection."""

    def __init__(
        self, client: httpx.Client, conn: psycopg.Connection[Row], database_url: str
    ) -> None:
        self.client = client
        self.conn = conn
        self.database_url = database_url

    def post(self, count: int = 1) -> None:
        for _ in range(count):
            self.client.post("/api/orders/execute", json=ORDER).raise_for_status()

    def stats(self) -> dict[str, int]:
        answer = self.client.get("/api/orders/stats").raise_for_status()
        found: dict[str, int] = answer.json()["queue"]
        return found

    def fill(self, depth: int) -> None:
        """Let `depth` orders wait, if fewer do."""
        if (missing := depth - self.stats()["waiting"]) > 0:
            self.manage(WAITING, count=missing)
            self.manage("CHECKPOINT")  # what filling leaves to write is not measured

    def manage(self, statement: str, **params: int) -> None:
        """Run it on a connection of its own, without the limits of a worker's."""
        with psycopg.connect(self.database_url, autocommit=True) as conn:
            conn.execute(statement, params)

    def measure(self, samples: int) -> dict[str, Spread]:
        """The times of each operation. Orders wait and the fleet is full at any depth."""

        def times(call: Callable[[], float]) -> Spread:
            percentiles = statistics.quantiles((call() for _ in range(samples)), n=20)
            return percentiles[9], percentiles[18]

        found = {
            "POST /api/orders/execute": times(lambda: timed(self.post)),
            "GET /api/orders/stats": times(lambda: timed(self.stats)),
        }
        newest = self.one(NEWEST, {})
        for name, (statement, params) in STATEMENTS.items():
            wanted = {**params, **newest}
            run = self.undone if statement is claims.CLAIM else self.done
            found[name] = times(lambda: run(statement, wanted))  # noqa: B023 called here
        found["end of an order"] = times(self.end_undone)
        return found

    def done(self, statement: str, params: Row) -> float:
        """How long a statement takes that only reads, by the plan that the connection keeps."""
        return timed(lambda: self.conn.execute(statement, params).fetchall())

    def undone(self, statement: str, params: Row) -> float:
        """How long a statement takes that is rolled back: nothing is claimed."""
        with self.conn.transaction(force_rollback=True):
            return self.done(statement, params)

    def end_undone(self) -> float:
        with self.conn.transaction(force_rollback=True):
            claimed = self.one(claims.CLAIM, NO_LIMIT)
            failed = {
                **{"id": claimed["id"], "fence": claimed["fence"]},
                **{"from": "routing", "to": "failed", "data": {}, "changes": {}},
            }
            return self.done(lifecycle.MOVE, lifecycle.parameters([failed]))

    def one(self, statement: str, params: Row) -> Row:
        found = self.conn.execute(statement, params).fetchone()
        assert found is not None, statement
        return found


def timed(call: Callable[[], Any]) -> float:
    """How long it took, in ms."""
    begun = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - begun)


@contextmanager
def servers(settings: dict[str, str] = BUFFERS) -> Iterator[Stack]:
    """PostgreSQL, migrated, and Redis; stopped and removed at the end."""
    stack = Stack(Path(tempfile.mkdtemp(prefix="orders-backlog-")), environ={})
    if stack.postgres is not None:
        stack.postgres.settings |= settings
    try:
        stack.start()
        manage(stack.env, "migrate", "--verbosity", "0")
        yield stack
    finally:
        stack.stop()
        shutil.rmtree(stack.data_dir, ignore_errors=True)


@contextmanager
def queue(finished: int) -> Iterator[tuple[Queue, redis.Redis]]:
    """Of an engine that has ended so many orders and is busy, and its Redis."""
    with servers() as stack:
        database_url, redis_url = stack.env["DATABASE_URL"], stack.env["REDIS_URL"]
        os.environ["REDIS_URL"] = redis_url  # engine() asks for it
        with (
            redis.Redis.from_url(redis_url) as broker,
            psycopg.connect(
                database_url,
                autocommit=True,
                prepare_threshold=2,
                row_factory=dict_row,
                options=database.session_options(),
            ) as conn,
            httpx.Client(timeout=30, trust_env=False) as client,
        ):
            found = Queue(client, conn, database_url)
            found.manage(FINISHED, count=finished)
            found.manage("VACUUM ANALYZE")
            with engine(
                database_url,
                REDIS_URL=redis_url,
                QUEUE_CONCURRENCY="10",  # ends about four orders a second
                QUEUE_RATE_LIMIT="0",
            ) as running:
                client.base_url = running.url
                found.post(50)
                yield found, broker


def hints_held(broker: redis.Redis) -> tuple[int, int]:
    """How many, and the bytes that Redis uses for all it holds."""
    return broker.llen(settings.CELERY_TASK_DEFAULT_QUEUE), broker.info("memory")["used_memory"]


def too_slow(first: Spread, last: Spread) -> bool:
    return last[0] > MOST_TIMES_SLOWER * first[0] + NOISE_MS


def table(measured: dict[int, dict[str, Spread]]) -> Table:
    first, *_, last = measured.values()
    found = Table("p50 / p95 in ms, orders waiting:", box=None, padding=(0, 2, 0, 0))
    for depth in measured:
        found.add_column(f"{depth:,}", justify="right")
    found.add_column("ratio of p50")
    for name in first:
        cells = [f"{p50:.2f} / {p95:.2f}" for p50, p95 in (m[name] for m in measured.values())]
        verdict = "  too slow" if too_slow(first[name], last[name]) else ""
        found.add_row(name, *cells, f"{last[name][0] / first[name][0]:.2f}{verdict}")
    return found


def run(options: Namespace) -> bool:
    """Prints what was measured; False when something is slower or larger than it should be."""
    measured: dict[int, dict[str, Spread]] = {}
    progress.print("starting PostgreSQL, Redis, web, worker and dispatcher")
    with queue(options.finished) as (waiting, broker):
        for depth in options.depths:
            progress.print(f"{depth:,} orders waiting")
            waiting.fill(depth)
            if not options.unanalyzed:
                waiting.manage("ANALYZE")
            measured[depth] = waiting.measure(options.samples)
        held, used = hints_held(broker)
        waiting.post(HINTED_ORDERS)
        held_then, used_then = hints_held(broker)
    console = Console(width=120, highlight=False)
    console.print(table(measured))
    console.print(
        f"\nhints in Redis after {HINTED_ORDERS:,} orders more: {held} -> {held_then}, "
        f"memory {used / 2**20:.2f} -> {used_then / 2**20:.2f} MiB"
    )
    first, *_, last = measured.values()
    slow = [name for name in first if too_slow(first[name], last[name])]
    return not slow and held_then <= 2 * hints.enough()


def depths(text: str) -> list[int]:
    found = sorted({int(depth) for depth in text.split(",")})
    if len(found) < 2:
        raise ValueError("one depth has nothing to be compared with")
    return found


def main() -> None:
    parser = ArgumentParser(description="Measures before a queue of waiting orders.")
    parser.add_argument("--depths", type=depths, default="0,10000,100000", help="orders that wait")
    parser.add_argument("--samples", type=int, default=100, help="of each operation, 2 or more")
    parser.add_argument("--finished", type=int, default=100_000, help="orders that have ended")
    parser.add_argument(
        "--unanalyzed",
        action="store_true",
        help="keep the statistics of the database from before the queue, as a burst meets them",
    )
    interrupt_on_signals()
    try:
        passed = run(parser.parse_args())
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(not passed)


if __name__ == "__main__":
    main()
