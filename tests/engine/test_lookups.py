"""Orders by their ids, read together, each only for its owner."""

import asyncio
from collections.abc import Sequence

import pytest

from dex import postgres
from dex.postgres import Session
from orders import database, lookups, loop, queries
from orders.events import milliseconds
from orders.lookups import Found, Wanted
from orders.models import IN_EXECUTION, Status
from tests import factories
from tests.factories import order_in

pytestmark = pytest.mark.usefixtures("no_orders")

UNEVEN = """
UPDATE orders_orderevent SET created_at = date_trunc('second', created_at)
    + seq * interval '1 ms' + (ARRAY[0, 1, 499, 500, 999])[seq] * interval '1 us'
WHERE order_id = %(id)s RETURNING seq
"""


async def together(*wanted: Wanted) -> Sequence[Found | None]:
    return await asyncio.gather(*(lookups.order(*each) for each in wanted))


async def backend() -> dict[str, int]:
    """Of the session that this loop's lookups have; the tests' other loops have theirs."""
    [row] = await lookups._session().rows("SELECT pg_backend_pid() AS pid", {})
    return row


def test_an_order_comes_with_its_steps_in_order() -> None:
    order = order_in(Status.CONFIRMED)

    [found] = loop.run(together(Wanted(order.id, None)))

    assert found is not None
    assert (found.order.id, found.order.status) == (order.id, Status.CONFIRMED)
    path = [Status.PENDING, *IN_EXECUTION, Status.CONFIRMED]
    assert [step.status for step in found.steps] == path
    assert [step.quotes is None for step in found.steps] == [True, True, False, True, True]


def test_a_step_has_the_millisecond_that_its_event_shows() -> None:
    order = order_in(Status.CONFIRMED)
    database.rows(UNEVEN, {"id": order.id})

    [found] = loop.run(together(Wanted(order.id, None)))

    events = queries.events_after(order.id, None, 0)
    assert found is not None
    assert [step.at for step in found.steps] == [milliseconds(event.created_at) for event in events]


def test_each_gets_its_own_and_nobody_anothers(owner: int) -> None:
    first, second = order_in(Status.PENDING), order_in(Status.ROUTING)
    theirs = factories.place(owner_id=owner)

    found = loop.run(
        together(
            Wanted(second.id, None),
            Wanted(theirs, None),
            Wanted("ord_1000000000000_aaaaaaaaaa", None),
            Wanted(first.id, None),
            Wanted(first.id, None),
            Wanted(theirs, owner),
            Wanted(first.id, owner),
            Wanted("\0", None),
            Wanted(f"{first.id}\0", None),
        )
    )

    ids = [None if each is None else each.order.id for each in found]
    assert ids == [second.id, None, None, first.id, first.id, theirs, *[None] * 3]


def test_what_is_asked_at_one_moment_is_one_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    order = order_in(Status.PENDING)
    asked: list[int] = []
    rows = Session.rows

    async def counted(session: Session, sql: str, params: dict[str, list[str]]) -> list[object]:
        asked.append(len(params["ids"]))
        return await rows(session, sql, params)

    monkeypatch.setattr(Session, "rows", counted)
    loop.run(together(*[Wanted(order.id, None)] * 20))

    assert asked == [20]


def test_nobody_notices_that_postgresql_has_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "IN_USE_SECONDS", 0)
    order = order_in(Status.PENDING)
    loop.run(together(Wanted(order.id, None)))
    database.row("SELECT pg_terminate_backend(%(pid)s, 5000)", loop.run(backend()))

    [found] = loop.run(together(Wanted(order.id, None)))

    assert found is not None
    assert found.order.id == order.id
