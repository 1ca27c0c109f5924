"""The queue: limits of the fleet, order of starts, retries, takeover, lost hints."""

import signal
import time
from itertools import pairwise

import httpx
import pytest
import redis
from django.conf import settings
from kombu import Connection
from kombu.simple import SimpleQueue

from dex.venues.registry import SIMULATED
from orders.tasks import execute_order
from tests.stacks import ORDER, Running, engine, wait_until

pytestmark = pytest.mark.fleet

FIRST_STARTS = """
SELECT order_id, min(created_at) AS at FROM orders_orderevent
WHERE status = 'routing' GROUP BY order_id ORDER BY at
"""
LANDED_TWICE_OR_NEVER = """
SELECT id FROM orders_order LEFT JOIN chain.transaction t ON t.order_id = id AND t.status = 'landed'
GROUP BY id HAVING count(t.signature) <> 1
"""
# At each start: how many orders were between a routing event and the next event that ends it.
MOST_IN_EXECUTION = """
WITH changes AS (
    SELECT created_at, CASE
        WHEN status = 'routing' AND previous_status = 'pending' THEN 1
        WHEN previous_status IN ('routing', 'building', 'submitted')
             AND status NOT IN ('routing', 'building', 'submitted') THEN -1
        ELSE 0 END AS change
    FROM orders_orderevent
)
SELECT max(running) AS most FROM (
    SELECT sum(change) OVER (ORDER BY created_at, change) AS running FROM changes
) r
"""


@pytest.mark.fleet
def test_two_workers_keep_the_limit_and_finish_what_a_killed_one_left(new_database: str) -> None:
    with engine(
        new_database,
        workers=2,
        QUEUE_CONCURRENCY="4",
        QUEUE_RATE_LIMIT="0",
        ORDER_LEASE_SECONDS="2",
        DEX_SWAP_LATENCY_MS="500",
    ) as running:
        batch = running.place_batch(16)
        submitted = "SELECT 1 FROM orders_order WHERE status = 'submitted'"
        wait_until(lambda: len(running.sql(submitted)) >= 3)

        running.processes["worker0"].send_signal(signal.SIGKILL)
        running.wait_for_all(20)

        assert all(running.statuses(order_id)[-1] == "confirmed" for order_id in batch)
        assert running.sql(LANDED_TWICE_OR_NEVER) == []
        assert 1 < running.sql(MOST_IN_EXECUTION)[0]["most"] <= 4
        starts = [row["order_id"] for row in running.sql(FIRST_STARTS)]
        # Four may start at the same moment; nobody overtakes by more than that.
        assert max(abs(starts.index(order_id) - n) for n, order_id in enumerate(batch)) < 4


@pytest.mark.fleet
def test_no_more_orders_start_in_a_minute_than_allowed(new_database: str) -> None:
    with engine(new_database, QUEUE_RATE_LIMIT="4") as running:
        for _ in range(7):
            running.place()

        completed = "SELECT count(*) AS n FROM orders_order WHERE status = 'confirmed'"
        wait_until(lambda: running.sql(completed)[0]["n"] == 4)
        time.sleep(2)  # two rounds of the dispatcher, in which nothing else may start
        assert len(running.sql(FIRST_STARTS)) == 4

        # A minute later, by the database's clock, the rest may start.
        running.sql(
            "UPDATE orders_order SET started_at = started_at - interval '61 s' "
            "WHERE started_at IS NOT NULL RETURNING id"
        )
        running.wait_for_all()
        assert running.sql(completed)[0]["n"] == 7


@pytest.mark.fleet
def test_a_venue_error_is_retried_after_1_and_2_seconds_and_fails_once_with_its_reason(
    new_database: str,
) -> None:
    with engine(new_database, DEX_FAULTS="quote_unavailable=1") as running:
        order_id = running.place()
        running.wait_for_all()

        events = running.sql(
            "SELECT status, created_at, data FROM orders_orderevent WHERE order_id = %s "
            "ORDER BY seq",
            order_id,
        )
        assert [event["status"] for event in events] == ["pending", "routing"] * 3 + ["failed"]
        waits = [
            (after["created_at"] - before["created_at"]).total_seconds()
            for before, after in pairwise(events)
            if (before["status"], after["status"]) == ("pending", "routing")
        ][1:]
        assert waits == pytest.approx([1, 2], abs=0.6)
        assert all(wait >= least for wait, least in zip(waits, (1, 2), strict=True))
        order = running.sql("SELECT * FROM orders_order")[0]
        assert order["failure_code"] == "QUOTE_UNAVAILABLE"
        assert events[-1]["data"]["message"] == order["failure_message"] != ""
        assert events[2]["data"]["error"]["code"] == "QUOTE_UNAVAILABLE"


@pytest.mark.fleet
def test_a_dead_venue_leaves_the_others(new_database: str) -> None:
    with engine(new_database, DEX_FAULTS="raydium.quote_unavailable=1") as running:
        order_id = running.place()
        running.wait_for_all()

        order = httpx.get(f"{running.url}/api/orders/{order_id}").json()
        assert order["status"] == "confirmed"
        assert order["venue"] in {*SIMULATED} - {"raydium"}
        failed = [quote for quote in order["quotes"] if "error" in quote]
        assert [quote["error"]["code"] for quote in failed] == ["QUOTE_UNAVAILABLE"]


def test_an_order_is_taken_and_stored_while_redis_is_away(new_database: str) -> None:
    with engine(new_database, workers=0, REDIS_URL="redis://127.0.0.1:1/0") as running:
        answer = httpx.post(f"{running.url}/api/orders/execute", json=ORDER, timeout=2)

        assert answer.status_code == 201
        assert answer.elapsed.total_seconds() < 1
        assert running.statuses(answer.json()["orderId"]) == ["pending"]
        health = httpx.get(f"{running.url}/health")
        assert health.status_code == 503
        assert health.json()["checks"]["redis"] == "failed"


def test_an_order_whose_hint_was_lost_is_found_by_the_dispatcher(running: Running) -> None:
    """Stored as placement stores it, and never hinted."""
    running.place()
    running.wait_for_all()  # the worker is there
    order_id = "ord_0000000000001_unhintedxx"
    running.sql(
        """WITH o AS (
            INSERT INTO orders_order (id, order_type, token_in, token_out, amount_in, slippage_bps)
            VALUES (%s, 'market', 'SOL', 'USDC', 1000000000, 100) RETURNING id, created_at
        ), t AS (
            INSERT INTO orders_tally (kind, shard, count) VALUES ('placed', 99, 1)
        ) INSERT INTO orders_orderevent
            (order_id, seq, status, previous_status, attempt, created_at, data)
        SELECT id, 1, 'pending', '', 1, created_at, '{}' FROM o RETURNING order_id""",
        order_id,
    )

    wait_until(lambda: running.statuses(order_id)[-1:] == ["confirmed"], seconds=5)


def test_a_worker_bears_with_whatever_is_read_from_redis(new_database: str) -> None:
    """A message is a hint; some ended the worker, and came back two minutes later."""
    with engine(new_database, DEX_SWAP_LATENCY_MS="0") as running:
        url = running.environment["REDIS_URL"]
        running.place()
        running.wait_for_all()
        worker = running.processes["worker0"]
        task = {"task": execute_order.name, "id": "odd", "lang": "py"}
        with redis.Redis.from_url(url) as server, Connection(url) as connection:
            for text in ("garbage", "", "null", "5", "[1]", "{}", '{"body": 1}', b"\xff\xfe"):
                server.lpush(settings.CELERY_TASK_DEFAULT_QUEUE, text)
            with SimpleQueue(connection, settings.CELERY_TASK_DEFAULT_QUEUE) as queue:
                for body, headers in (
                    (None, task),
                    (5, task),
                    ([[], {}, {}], {**task, "timelimit": "x"}),
                    ([["ord_1", "more"], {}, {}], task),
                    ([[{"not": "an id"}], {}, {}], task),
                ):
                    queue.put(body, headers=headers, serializer="json")

            running.place()
            running.wait_for_all()
            wait_until(lambda: server.llen(settings.CELERY_TASK_DEFAULT_QUEUE) == 0)
            wait_until(lambda: server.hlen("unacked") == 0)

        running.place()
        running.wait_for_all()
        assert worker.poll() is None
