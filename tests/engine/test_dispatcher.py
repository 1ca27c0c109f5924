"""What makes a lost message harmless."""

from collections import Counter
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import psycopg
import pytest
import redis
from structlog.testing import capture_logs

from orders import claims, database, dispatcher, lifecycle, loop, placement
from orders.dispatcher import Dispatcher
from orders.models import Order, OrderEvent, Status
from tests.factories import claim, end_lease, load, order_in, order_request, place, step_to
from tests.stacks import wait_until

pytestmark = pytest.mark.usefixtures("no_orders")


@pytest.fixture
def hinted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hints that were sent, in order."""
    sent: list[str] = []
    monkeypatch.setattr("orders.hints.send", lambda order_id: sent.append(order_id) or True)
    monkeypatch.setattr("orders.hints.send_soon", lambda order_ids: None)
    monkeypatch.setattr("orders.hints.waiting", lambda: 0)
    return sent


@pytest.fixture
def running(hinted: list[str]) -> Iterator[Dispatcher]:
    found = Dispatcher()
    thread = Thread(target=found.run)
    thread.start()
    yield found
    stop(found)
    thread.join(5)
    assert not thread.is_alive()


def stop(one: Dispatcher) -> None:
    """It need not wait for the end of its tick."""
    one.stop()
    with database.pool().connection() as conn:
        conn.execute(f"NOTIFY {lifecycle.ROOM_CHANNEL}")


def test_waiting_orders_are_hinted_oldest_first_and_no_more_than_there_is_room(
    hinted: list[str], settings: Any
) -> None:
    settings.QUEUE_CONCURRENCY = 3
    order_ids = sorted(place() for _ in range(5))

    assert Dispatcher().tick() == 3
    assert hinted == order_ids[:3]


def test_a_hint_is_repeated_only_after_a_while(
    hinted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = place()
    found = Dispatcher()
    found.tick()
    found.tick()
    assert hinted == [order_id]

    monkeypatch.setattr(dispatcher, "REPEAT_SECONDS", 0)
    found.tick()
    assert hinted == [order_id, order_id]


def test_abandoned_orders_come_before_waiting_ones(hinted: list[str]) -> None:
    waiting, abandoned = place(), order_in(Status.SUBMITTED)
    end_lease(abandoned.id)

    Dispatcher().tick()

    assert hinted == [abandoned.id, waiting]


def test_no_more_hints_are_sent_than_redis_lacks(
    hinted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    order_ids = sorted(place() for _ in range(5))
    monkeypatch.setattr("orders.hints.waiting", lambda: 3)

    assert Dispatcher().tick() == 2
    assert hinted == order_ids[:2]


def test_a_redis_that_is_away_is_asked_again(
    hinted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = place()
    found = Dispatcher()

    def away() -> int:
        raise redis.ConnectionError("refused")

    with monkeypatch.context() as while_away:
        while_away.setattr("orders.hints.waiting", away)
        assert found.tick() == 0
    assert found.tick() == 1
    assert hinted == [order_id]


def test_an_order_is_hinted_again_when_redis_did_not_take_it(
    hinted: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter([False, True])
    monkeypatch.setattr("orders.hints.send", lambda order_id: next(answers))
    place()
    found = Dispatcher()

    assert found.tick() == 0
    assert found.tick() == 1


def test_an_overdue_order_expires(hinted: list[str]) -> None:
    order_id = place()
    Order.objects.filter(id=order_id).update(deadline_at=database.now())

    Dispatcher().tick()

    assert load(order_id).status == Status.EXPIRED
    assert hinted == []


def overdue_crowd(count: int) -> list[str]:
    placed = loop.run(placement.place_orders([order_request()] * count))
    crowd = [order.order_id for order in placed]
    Order.objects.filter(id__in=crowd).update(deadline_at=database.now())
    return crowd


def test_a_crowd_of_overdue_orders_keeps_no_other_waiting(hinted: list[str]) -> None:
    crowd = overdue_crowd(claims.MOST_OVERDUE + 1)
    waiting = place()

    Dispatcher().tick()

    expired = Order.objects.filter(status=Status.EXPIRED).count()
    assert (expired, hinted) == (500, [waiting])
    Dispatcher().tick()
    assert not Order.objects.filter(id__in=crowd).exclude(status=Status.EXPIRED).exists()


TRANSACTIONS = "SELECT DISTINCT xmin::text FROM orders_order WHERE status = 'expired'"


def test_overdue_orders_share_transactions_and_each_has_its_event(hinted: list[str]) -> None:
    crowd = overdue_crowd(150)

    Dispatcher().tick()

    assert len(database.rows(TRANSACTIONS, {})) == 2
    ends = OrderEvent.objects.filter(status=Status.EXPIRED, seq=2)
    assert sorted(ends.values_list("order_id", flat=True)) == sorted(crowd)


SECOND_EVENT = """
INSERT INTO orders_orderevent (order_id, seq, status, previous_status, attempt, created_at, data)
VALUES (%(id)s, 2, 'routing', 'pending', 1, now(), '{}') RETURNING order_id
"""


def test_an_end_that_postgresql_refuses_keeps_nobody_waiting(hinted: list[str]) -> None:
    refused, sound = sorted(overdue_crowd(2))
    waiting = place()
    database.row(SECOND_EVENT, {"id": refused})

    with capture_logs() as lines:
        Dispatcher().tick()

    assert (load(refused).status, load(sound).status) == (Status.PENDING, Status.EXPIRED)
    assert hinted == [waiting]
    bugs = [line["order_id"] for line in lines if line["event"] == "execution.bug"]
    assert bugs == [refused]


def test_a_crowd_waits_for_no_tick(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(dispatcher, "TICK_SECONDS", 30)
    overdue_crowd(2 * claims.MOST_OVERDUE + 1)

    request.getfixturevalue("running")

    # A leader that says nothing for 8 s is replaced, and looks as well.
    wait_until(lambda: Order.objects.filter(status=Status.EXPIRED).count() == 1001, seconds=6)


def test_a_column_that_a_migration_adds_does_not_end_the_dispatcher(hinted: list[str]) -> None:
    found = Dispatcher()
    for _ in range(4):
        found.tick()  # its statements are prepared
    with psycopg.connect(database.conninfo(), autocommit=True) as conn:
        conn.execute("ALTER TABLE orders_order ADD COLUMN added int")
        try:
            found.tick()
        finally:
            conn.execute("ALTER TABLE orders_order DROP COLUMN added")
    found.tick()


def test_an_order_that_takes_its_workers_with_it_is_given_up(hinted: list[str]) -> None:
    order = order_in(Status.BUILDING)
    Order.objects.filter(id=order.id).update(takeovers=3)
    end_lease(order.id)

    Dispatcher().tick()

    order = load(order.id)
    assert (order.status, order.failure_code) == ("failed", "INTERNAL")
    assert order.failure_message == "4 workers in turn were lost while they executed it"
    assert hinted == []


def test_a_suspect_that_is_none_any_more_wakes_the_dispatcher_for_the_next(
    hinted: list[str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(dispatcher, "TICK_SECONDS", 30)
    request.getfixturevalue("running")
    wait_until(lambda: leaders() == 1)
    first = order_in(Status.ROUTING)
    Order.objects.update(takeovers=1)
    end_lease(first.id)
    first = claim(first.id)
    second = order_in(Status.ROUTING)
    Order.objects.filter(id=second.id).update(takeovers=1)
    end_lease(second.id)
    lifecycle.advance(first, Status.BUILDING, data={})
    assert second.id not in hinted

    step_to(first, Status.SUBMITTED)

    wait_until(lambda: second.id in hinted, seconds=5)


def test_a_place_that_a_retry_frees_wakes_the_dispatcher_at_once(
    hinted: list[str],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr(dispatcher, "TICK_SECONDS", 30)
    request.getfixturevalue("running")
    settings.QUEUE_CONCURRENCY = 1
    order = order_in(Status.ROUTING)
    waiting = place()
    wait_until(lambda: leaders() == 1)

    lifecycle.advance(order, Status.PENDING, data={}, retry_in=60)

    wait_until(lambda: waiting in hinted, seconds=5)


def test_of_two_dispatchers_one_works_and_the_other_takes_over(
    running: Dispatcher, hinted: list[str]
) -> None:
    wait_until(lambda: leaders() == 1)
    second = Dispatcher()
    thread = Thread(target=second.run)
    thread.start()
    try:
        wait_until(lambda: standbys() == 1)
        assert leaders() == 1
        stop(running)
        order_id = place()
        wait_until(lambda: order_id in hinted, seconds=5)
    finally:
        stop(second)
        thread.join(5)


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "LEADER_IDLE", "SET idle_session_timeout = '2s'")


def test_a_frozen_leader_loses_its_place(
    short_silence: None,
    running: Dispatcher,
    hinted: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its process is stopped: nothing is asked on its session any more."""
    wait_until(lambda: leaders() == 1)
    frozen = Event()
    monkeypatch.setattr(Dispatcher, "tick", lambda self: frozen.wait(30) and 0)

    wait_until(lambda: leaders() == 0, seconds=8)

    frozen.set()
    wait_until(lambda: leaders() == 1, seconds=5)


def test_it_survives_the_loss_of_its_connection(running: Dispatcher, hinted: list[str]) -> None:
    wait_until(lambda: leaders() == 1)

    database.rows(f"SELECT pg_terminate_backend(pid) FROM ({LEADERS}) l", {})

    order_id = place()
    wait_until(lambda: order_id in hinted, seconds=5)


LEADERS = """
SELECT pid FROM pg_locks
WHERE locktype = 'advisory' AND objid = 3349 AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
STANDBYS = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND query LIKE 'SELECT pg_try_advisory_lock%%'
"""


def leaders() -> int:
    return len(database.rows(LEADERS, {}))


def standbys() -> int:
    return len(database.rows(STANDBYS, {}))


def test_an_order_that_is_withdrawn_meanwhile_does_not_end_the_dispatcher(
    hinted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = order_in(Status.PENDING)
    lifecycle.advance(load(stale.id), Status.CANCELLED, data={})
    monkeypatch.setattr(claims, "overdue", lambda: [stale])

    Dispatcher().tick()

    assert load(stale.id).status == "cancelled"


def test_a_leader_with_nothing_to_do_is_not_idle(
    hinted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "LEADER_IDLE", "SET idle_session_timeout = '500ms'")
    monkeypatch.setattr(dispatcher, "TICK_SECONDS", 0.1)
    one, ticks = Dispatcher(), Counter[str]()
    monkeypatch.setattr(one, "tick", lambda: ticks.update(["tick"]))
    with capture_logs() as lines:
        thread = Thread(target=one.run)
        thread.start()
        wait_until(lambda: ticks["tick"] >= 12)
        one.stop()
        thread.join(5)

    said = [line["event"] for line in lines]
    assert (said.count("dispatcher.leading"), said.count("dispatcher.database_away")) == (1, 0)


def test_one_that_stands_by_says_so_and_never_that_it_leads(hinted: list[str]) -> None:
    one = Dispatcher()
    with psycopg.connect(database.conninfo(), autocommit=True) as leader, capture_logs() as lines:
        leader.execute("SELECT pg_advisory_lock(%s)", [dispatcher.LEADER_LOCK])
        thread = Thread(target=one.run)
        thread.start()
        try:
            wait_until(lambda: lines)
        finally:
            one.stop()
            thread.join(5)

    assert [line["event"] for line in lines] == ["dispatcher.standing_by"]
