"""SIGTERM while orders run: a worker finishes them or hands them over."""

import time

import pytest

from tests.stacks import engine, wait_until

HANDED_OVER = "SELECT count(*) AS n FROM orders_order WHERE fence > 1"
SUBMITTED = "SELECT count(*) AS n FROM orders_order WHERE status = 'submitted'"
SECOND_RUNS = """
SELECT count(*) AS n FROM orders_order WHERE status = 'submitted'
AND EXISTS (SELECT FROM orders_order WHERE status = 'confirmed')
"""
LANDED = """
SELECT count(*) AS n, count(DISTINCT order_id) AS orders FROM chain.transaction
WHERE status = 'landed'
"""
ATTEMPTS = "SELECT DISTINCT attempt, status FROM orders_order"


@pytest.mark.fleet
def test_what_a_stopped_worker_cannot_finish_goes_on_elsewhere_at_once(
    new_database: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with engine(new_database, DEX_SWAP_LATENCY_MS="9000", ORDER_LEASE_SECONDS="60") as running:
        for _ in range(10):
            running.place()
        wait_until(lambda: running.sql(SUBMITTED)[0]["n"] == 10)
        begun = time.monotonic()

        running.processes["worker0"].terminate()
        running.start_worker("worker1")

        assert running.processes["worker0"].wait(15) == 0
        running.wait_for_all(30)
        assert time.monotonic() - begun < 45  # nobody waited for a lease of 60 s
        assert running.sql(ATTEMPTS) == [{"attempt": 1, "status": "confirmed"}]
        assert running.sql(HANDED_OVER)[0]["n"] >= 1
    said = capfd.readouterr()
    assert "worker.stopping" in said.err
    assert said.out == ""  # the log is elsewhere, a line for each thing


@pytest.mark.fleet
def test_a_worker_killed_with_the_next_order_of_a_task_loses_no_order(new_database: str) -> None:
    """One place, so that one task claims them all, one when the other has ended."""
    with engine(
        new_database,
        QUEUE_CONCURRENCY="1",
        DEX_SWAP_LATENCY_MS="700",
        ORDER_LEASE_SECONDS="3",
    ) as running:
        for _ in range(4):
            running.place()
        wait_until(lambda: running.sql(SECOND_RUNS)[0]["n"] == 1)

        running.processes["worker0"].kill()
        running.start_worker("worker1")

        running.wait_for_all(40)
        assert running.sql(ATTEMPTS) == [{"attempt": 1, "status": "confirmed"}]
        assert running.sql(LANDED) == [{"n": 4, "orders": 4}]
        assert running.sql(HANDED_OVER)[0]["n"] == 1
