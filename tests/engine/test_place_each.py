"""Orders of one moment share a COMMIT; none is refused, or kept waiting, for another one's sake."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from psycopg.types.json import Jsonb
from structlog.testing import capture_logs

from orders import database, loop, placement, trading
from orders.models import Order
from orders.placement import OrderRequest, Placed
from tests.factories import WAITING, load, order_request, place
from tests.stacks import wait_until

pytestmark = pytest.mark.usefixtures("no_orders")

# Whoever has it alone keeps every order from being stored (migration 0010).
HALT_LOCK = "SELECT pg_advisory_lock(hashtext('orders_halt'))"


@contextmanager
def session(statement: str, **params: Any) -> Iterator[None]:
    """Holds what the statement took, uncommitted."""
    with psycopg.connect(settings.DATABASE_URL) as conn:
        conn.execute(statement, params)
        yield
        conn.rollback()


def place_each(requests: list[OrderRequest]) -> list[Placed | None]:
    return loop.run(placement.place_each(requests))


def ids(placed: list[Placed | None]) -> list[str]:
    return [order.order_id for order in placed if order is not None]


def stored() -> set[str]:
    return set(Order.objects.values_list("id", flat=True))


def test_orders_of_several_owners_are_one_transaction() -> None:
    User.objects.all().delete()
    owners = [User.objects.create_user(name).pk for name in ("alice", "bob")]
    requests = [
        order_request(owner_id=owner, client_order_id=name, amount_in=1000 + number)
        for number, (owner, name) in enumerate(
            [(owners[0], "a"), (owners[1], "a"), (None, "a"), (None, None), (owners[1], None)]
        )
    ]

    placed = place_each(requests)

    orders = [load(order_id) for order_id in ids(placed)]
    assert [(o.owner_id, o.client_order_id, o.amount_in) for o in orders] == [
        (r.owner_id, r.client_order_id, r.amount_in) for r in requests
    ]
    assert [(e.seq, e.data) for o in orders for e in o.events.all()] == [
        (1, request.as_event_data()) for request in requests
    ]
    assert len(database.rows("SELECT DISTINCT xmin::text FROM orders_order", {})) == 1
    count = "SELECT sum(count) AS count FROM orders_tally WHERE kind = 'placed'"
    assert database.row(count, {}) == {"count": 5}


def test_ids_ascend_in_the_order_given_and_have_the_time_of_their_orders() -> None:
    placed = place_each([order_request() for _ in range(100)])

    assert ids(placed) == sorted(ids(placed))
    assert len(set(ids(placed))) == 100
    assert len({order.created_at for order in placed if order}) == 1


def test_only_the_order_at_fault_is_left_out() -> None:
    first = place(client_order_id="taken")
    late = database.now() - timedelta(seconds=1)
    requests = [
        order_request(client_order_id="new"),
        order_request(client_order_id="taken"),
        order_request(deadline_at=late),
        order_request(client_order_id="new", amount_in=7),
        order_request(),
    ]

    placed = place_each(requests)

    assert [order is not None for order in placed] == [True, False, False, False, True]
    assert stored() == {first, *ids(placed)}
    assert load(ids(placed)[0]).amount_in == 1_500_000_000


def test_what_postgresql_refuses_is_asked_about_alone() -> None:
    placed = place_each([order_request(), order_request(slippage_bps=99_999), order_request()])

    assert placed == [None] * 3
    assert stored() == set()


def test_while_trading_is_halted_nothing_is_stored() -> None:
    trading.halt("alice")

    assert place_each([order_request(), order_request()]) == [None, None]
    assert stored() == set()


def test_nobody_waits_long_for_an_order_that_somebody_else_is_placing() -> None:
    held = placement.wanted([order_request(client_order_id="held")], [{}])
    begun = time.monotonic()

    with session(placement.PLACE, owner_id=None, wanted=Jsonb(held)):
        placed = place_each([order_request(), order_request(client_order_id="held")])

    assert placed == [None, None]
    assert time.monotonic() - begun < 1.5
    assert stored() == set()


def test_of_a_lost_connection_every_order_hears() -> None:
    with ThreadPoolExecutor(1) as threads:
        with session(HALT_LOCK):
            # Held at its first step, but not so long that it would give up the wait.
            placing = threads.submit(place_each, [order_request(), order_request()])
            backend = wait_until(lambda: database.row(WAITING, {}), every=0.001)
            database.row("SELECT pg_terminate_backend(%(pid)s)", backend)
        with pytest.raises(psycopg.OperationalError):
            placing.result(5)

    assert stored() == set()
    assert None not in place_each([order_request()])


def test_each_first_event_is_announced_with_the_request_that_asked_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place(client_order_id="taken")
    rung: list[str] = []
    hinted: list[str] = []
    monkeypatch.setattr("orders.events.publish", lambda event: rung.append(event.order_id))
    monkeypatch.setattr("orders.hints.send_soon", hinted.extend)
    requests = [
        order_request(request_id="one"),
        order_request(request_id="again", client_order_id="taken"),
        order_request(),
        order_request(request_id="two"),
    ]

    with capture_logs() as lines:
        made = ids(place_each(requests))

    (told,) = [line for line in lines if line["event"] == "order.moved"]
    assert told["each"] == [
        {"order_id": made[0], "request_id": "one"},
        {"order_id": made[1]},
        {"order_id": made[2], "request_id": "two"},
    ]
    assert rung == hinted == made
