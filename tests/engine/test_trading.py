"""Halting trading: what is refused, what is held, what goes on."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any

import psycopg
import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command

from orders import claims, database, execution, lifecycle, loop, placement, reconcile, trading
from orders.dispatcher import Dispatcher
from orders.models import Halt, Order, Status
from orders.placement import ClientOrderIdReused, DeadlinePassed, TradingHalted
from tests.factories import (
    claim,
    end_lease,
    load,
    make_due,
    order_in,
    order_request,
    place,
    place_one,
)
from tests.stacks import wait_until

pytestmark = pytest.mark.usefixtures("no_orders")


@pytest.fixture(autouse=True)
def no_limits(settings: Any) -> None:
    settings.QUEUE_CONCURRENCY = settings.QUEUE_RATE_LIMIT = 0


def test_who_halted_and_resumed_is_kept() -> None:
    first = trading.halt("alice", "the venue is under attack")
    again = trading.halt("bob")

    current = trading.current()
    assert first is not None
    assert again is None
    assert current is not None
    assert (current.halted_by, current.reason) == ("alice", "the venue is under attack")
    resumed = trading.resume("bob")
    assert resumed is not None
    assert trading.resume("bob") is None
    assert trading.current() is None
    kept = Halt.objects.get()
    assert (kept.halted_by, kept.resumed_by) == ("alice", "bob")
    assert kept.halted_at < kept.resumed_at


def test_of_many_halts_at_once_one_is_made() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(trading.halt, map(str, range(8))))

    assert len([halt for halt in made if halt]) == 1
    assert Halt.objects.count() == 1


def test_nothing_new_is_stored() -> None:
    trading.halt("alice")

    with pytest.raises(TradingHalted):
        place()
    assert not Order.objects.exists()
    trading.resume("alice")
    assert place()


def test_a_repeat_gets_its_first_answer() -> None:
    first = place_one(order_request(client_order_id="mine"))
    trading.halt("alice")

    again = place_one(order_request(client_order_id="mine"))

    assert (again.order_id, again.created_at, again.replayed) == (
        first.order_id,
        first.created_at,
        True,
    )


def test_of_a_batch_with_one_new_order_nothing_is_stored() -> None:
    place(client_order_id="mine")
    trading.halt("alice")

    with pytest.raises(TradingHalted):
        loop.run(placement.place_orders([order_request(client_order_id="mine"), order_request()]))
    assert Order.objects.count() == 1


def test_what_could_not_be_stored_anyway_is_said_first() -> None:
    place(client_order_id="mine")
    trading.halt("alice")

    with pytest.raises(ClientOrderIdReused):
        place(client_order_id="mine", amount_in=7)
    with pytest.raises(DeadlinePassed):
        place(deadline_at=datetime.now(UTC) - timedelta(seconds=1))


@pytest.mark.parametrize("limit", [0, 10])
def test_a_waiting_order_is_held(settings: Any, limit: int) -> None:
    settings.QUEUE_CONCURRENCY = settings.QUEUE_RATE_LIMIT = limit
    order_id = place()
    trading.halt("alice")

    assert claim(order_id) is None
    assert claims.runnable() == []
    assert load(order_id).status == Status.PENDING
    trading.resume("alice")
    assert claims.runnable() == [order_id]
    assert claim(order_id) is not None


def left_behind() -> int:
    """How many orders `manage.py reconcile` says were forgotten."""

    def fetch(sql: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        return database.rows(sql, params)

    findings = reconcile.examine(fetch, concurrency=0, starts=0)
    return sum(f.violations for f in findings if f.invariant is reconcile.NONE_LEFT_BEHIND)


def test_what_is_held_was_not_forgotten() -> None:
    order_id = place()
    Order.objects.filter(id=order_id).update(next_attempt_at=database.now() - timedelta(hours=1))
    assert left_behind() == 1

    trading.halt("alice")
    assert left_behind() == 0
    trading.resume("alice")
    assert left_behind() == 0
    Halt.objects.update(resumed_at=database.now() - timedelta(minutes=2))
    assert left_behind() == 1


def test_a_waiting_order_can_be_cancelled_and_expires() -> None:
    withdrawn = place()
    late = place(deadline_at=database.now() + timedelta(hours=1))
    trading.halt("alice")

    placement.withdraw(load(withdrawn), by="owner")
    Order.objects.filter(id=late).update(deadline_at=database.now())
    Dispatcher().tick()

    assert load(withdrawn).status == Status.CANCELLED
    assert load(late).status == Status.EXPIRED


def test_what_has_started_goes_on() -> None:
    retried = order_in(Status.ROUTING)
    lifecycle.advance(retried, Status.PENDING, data={}, retry_in=60)
    abandoned, submitted = order_in(Status.ROUTING), order_in(Status.SUBMITTED)
    trading.halt("alice")
    make_due(retried.id)
    end_lease(abandoned.id)
    end_lease(submitted.id)

    assert set(claims.runnable()) == {retried.id, abandoned.id, submitted.id}
    execution.execute_order(retried.id)
    execution.execute_order(abandoned.id)

    assert load(retried.id).status == load(abandoned.id).status == Status.CONFIRMED


def test_what_waits_starts_at_once_when_trading_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    hinted: list[str] = []
    monkeypatch.setattr("orders.dispatcher.TICK_SECONDS", 30)  # the bell alone wakes it
    monkeypatch.setattr("orders.hints.send", lambda order_id: hinted.append(order_id) or True)
    monkeypatch.setattr("orders.hints.send_soon", lambda order_ids: None)
    monkeypatch.setattr("orders.hints.waiting", lambda: 0)
    order_id = place()
    trading.halt("alice")
    dispatcher = Dispatcher()
    ticked = Event()
    tick = dispatcher.tick
    monkeypatch.setattr(dispatcher, "tick", lambda: (tick(), ticked.set()))
    thread = Thread(target=dispatcher.run)
    thread.start()
    try:
        assert ticked.wait(5)
        assert hinted == []

        trading.resume("alice")

        wait_until(lambda: hinted == [order_id], seconds=5)
    finally:
        dispatcher.stop()
        database.rows(f"SELECT {lifecycle.RING_ROOM}", {})
        thread.join(5)
        assert not thread.is_alive()


def test_nothing_is_stored_or_started_after_a_halt() -> None:
    for _ in range(20):
        place()
    stop = Event()

    def placing() -> None:
        while not stop.is_set():
            try:
                place()
            except TradingHalted:
                return

    def claiming() -> None:
        while not stop.is_set():
            claim("")

    with ThreadPoolExecutor(8) as threads:
        work = [threads.submit(each) for each in [placing, claiming] * 4]
        wait_until(lambda: Order.objects.filter(status="routing").count() > 20)
        halt = trading.halt("alice")
        stored = set(Order.objects.values_list("id", "started_at"))
        wait_until(lambda: all(found.done() for found in work[::2]))
        for _ in range(20):
            claim("")
        stop.set()
        for found in work:
            found.result()

    assert halt is not None
    assert set(Order.objects.values_list("id", "started_at")) == stored
    assert not Order.objects.filter(created_at__gt=halt.halted_at).exists()
    assert not Order.objects.filter(started_at__gt=halt.halted_at).exists()


@contextmanager
def uncommitted(statement: str, **params: Any) -> Iterator[None]:
    """As if the statement's COMMIT took as long as the block."""
    with psycopg.connect(django_settings.DATABASE_URL) as conn:
        conn.execute(statement, params)
        yield


@pytest.mark.parametrize("what", ["an order", "a start"])
def test_a_halt_waits_for_what_is_about_to_be_committed(what: str) -> None:
    place()
    request = order_request()
    order = placement.wanted([request], [request.as_event_data()])
    placing = (placement.PLACE, {"owner_id": None, "wanted": placement.Jsonb(order)})
    starting = (claims.CLAIM, {"wanted": [""], "concurrency": 0, "starts": 0, "lease": 15})
    statement, params = placing if what == "an order" else starting

    with ThreadPoolExecutor(1) as threads:
        with uncommitted(statement, **params):
            halting = threads.submit(trading.halt, "alice")
            wait_until(lambda: database.rows(WAITING_FOR_A_LOCK, {}))
        halt = halting.result(5)

    assert halt is not None
    assert {(order.started_at or order.created_at) < halt.halted_at for order in stored()} == {True}


WAITING_FOR_A_LOCK = """
SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
"""


def stored() -> list[Order]:
    return list(Order.objects.all())


def output(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    call_command("trading", *words)
    return capsys.readouterr().out


def test_the_command_halts_and_resumes(capsys: pytest.CaptureFixture[str]) -> None:
    say: Callable[..., str] = lambda *words: output(capsys, *words)  # noqa: E731
    assert say("status") == "trading is open\n"
    halted = say("halt", "--reason", "a drill", "--by", "c" * 200)
    assert re.fullmatch(r"trading is halted since \S+Z by c{150}: a drill\n", halted)
    with pytest.raises(CommandError, match="is halted since"):
        say("halt")
    assert say("status") == halted
    assert say("resume", "--by", "c" * 200) == "trading is open\n"
    with pytest.raises(CommandError, match="not halted"):
        say("resume")


def test_a_halt_that_is_kept_from_its_lock_says_that_trading_is_open() -> None:
    with psycopg.connect(django_settings.DATABASE_URL) as placing:
        placing.execute("SELECT pg_advisory_xact_lock_shared(hashtext('orders_halt'))")
        with pytest.raises(CommandError, match=r"not halted: .* try again"):
            call_command("trading", "halt")

    assert trading.current() is None
