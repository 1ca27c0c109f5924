"""The statements of an order read a few rows, however many there are, and whenever planned.

A session plans each of them once, with the statistics of that moment: often of an empty database.
"""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from dex.simulation import database as chain
from dex.simulation.statements import ASK
from orders import claims, database, lifecycle, lookups, loop, placement, queries
from orders.models import Status
from tests.factories import order_in, order_request

pytestmark = pytest.mark.usefixtures("no_orders")

MANY = 400
READ = "SELECT sum(idx_tup_fetch + seq_tup_read) AS n FROM pg_stat_xact_user_tables"
LAND = """
INSERT INTO chain.transaction
    (signature, order_id, attempt, venue, status, amount_in, outcome, settles_at)
SELECT n::text, n::text, 1, 'raydium', 'landed', 1, 'landed', now() FROM generate_series(1, %s) n
"""
OLD = """
UPDATE orders_order
SET id = 'ord_1000000000000_' || right(id, 10), status = 'cancelled',
    updated_at = now() - interval '1 h', completed_at = now() - interval '1 h'
"""
Connection = psycopg.Connection[Any]
When = Callable[[Connection, str, dict[str, Any]], None]


def while_empty(conn: Connection, statement: str, params: dict[str, Any]) -> None:
    conn.execute("ANALYZE orders_order, orders_orderevent, orders_swap, chain.transaction")
    for _ in range(3):
        conn.execute(statement, params)


def when_used(conn: Connection, statement: str, params: dict[str, Any]) -> None:
    pass


@pytest.fixture(params=[while_empty, when_used])
def planned(request: pytest.FixtureRequest) -> When:
    when: When = request.param
    return when


def connected(options: str) -> Connection:
    return psycopg.connect(
        database.conninfo(), autocommit=True, **database.STATEMENTS, options=options
    )


@pytest.fixture
def session() -> Iterator[Connection]:
    with connected(database.session_options()) as conn:
        yield conn


def rows_read(conn: Connection, statement: str, params: dict[str, Any], *, finds: int = 1) -> int:
    """By a statement that finds so many; undone afterwards."""
    with conn.transaction(force_rollback=True):
        before = conn.execute(READ).fetchone()["n"]
        assert len(conn.execute(statement, params).fetchall()) == finds
        return int(conn.execute(READ).fetchone()["n"] - before)


def test_a_claim_does_not_read_all_that_waits(
    settings: Any, session: Connection, planned: When
) -> None:
    settings.QUEUE_CONCURRENCY, settings.QUEUE_RATE_LIMIT = 10, 100
    params = {"wanted": [claims.ANY], **claims.limits(), "lease": 15}
    planned(session, claims.CLAIM, params)
    loop.run(placement.place_orders([order_request() for _ in range(MANY)]))

    assert rows_read(session, claims.CLAIM, params) < MANY / 2


NOTHING = {"id": "", "fence": 0, "from": "routing", "to": "failed", "data": {}, "changes": {}}
IN_EXECUTION = pytest.mark.parametrize("current", [Status.ROUTING, Status.SUBMITTED])


def a_move_among_many(settings: Any, current: Status) -> dict[str, Any]:
    settings.QUEUE_CONCURRENCY = settings.QUEUE_RATE_LIMIT = 0
    for _ in range(8):
        order_in(current)
    loop.run(placement.place_orders([order_request() for _ in range(MANY)]))
    code = {"code": "TX_EXPIRED", "message": ""}
    return lifecycle.move_of(order_in(current), Status.FAILED, data=code)


@IN_EXECUTION
def test_a_move_reads_its_order(
    settings: Any, session: Connection, planned: When, current: Status
) -> None:
    planned(session, lifecycle.MOVE, lifecycle.parameters([NOTHING]))
    move = a_move_among_many(settings, current)

    assert rows_read(session, lifecycle.MOVE, lifecycle.parameters([move])) < 20


@IN_EXECUTION
def test_a_move_with_a_claim_does_not_read_all_that_waits(
    settings: Any, session: Connection, planned: When, current: Status
) -> None:
    planned(session, *claims.statement_of([NOTHING], [claims.ANY]))
    move = a_move_among_many(settings, current)

    turn = claims.statement_of([move], [claims.ANY])
    assert rows_read(session, *turn, finds=2) < MANY / 2


@pytest.mark.parametrize("statement", [placement.PLACE, placement.PLACE_EACH])
def test_an_order_is_placed_without_reading_others(
    session: Connection, planned: When, statement: str
) -> None:
    def params(name: str) -> dict[str, Any]:
        request = order_request(client_order_id=name)
        rows = placement.wanted([request], [request.as_event_data()])
        return {"owner_id": None, "wanted": Jsonb(rows)}

    with session.transaction(force_rollback=True):
        planned(session, statement, params("first"))
    named = [order_request(client_order_id=f"n{n}") for n in range(MANY)]
    loop.run(placement.place_orders(named))

    assert rows_read(session, statement, params("last")) < 20


def test_an_order_that_is_placed_again_is_found_by_its_name(
    session: Connection, planned: When
) -> None:
    named = [order_request(client_order_id=f"n{n}") for n in range(MANY)]
    rows = placement.wanted(named[7:8], [named[7].as_event_data()])
    params = {"owner_id": None, "wanted": Jsonb(rows)}
    with session.transaction(force_rollback=True):
        planned(session, placement.PLACE, params)
    loop.run(placement.place_orders(named))

    assert rows_read(session, placement.PLACE, params) < 20


def test_what_moved_last_is_found_without_reading_all_orders(
    session: Connection, planned: When
) -> None:
    params = {"owners": [0, 1], "seconds": 5.0}
    planned(session, queries.MOVED, params)
    loop.run(placement.place_orders([order_request() for _ in range(MANY)]))
    session.execute("DELETE FROM orders_orderevent")
    session.execute(OLD)
    moved = [order_in(status) for status in (Status.PENDING, Status.ROUTING, Status.CONFIRMED)]

    assert rows_read(session, queries.MOVED, params, finds=len(moved)) < MANY / 10


def test_a_lookup_reads_the_order_and_its_events(session: Connection, planned: When) -> None:
    planned(session, lookups.ORDERS, {"ids": ["none"], "owners": [None]})
    loop.run(placement.place_orders([order_request() for _ in range(MANY)]))
    order = order_in(Status.CONFIRMED)

    params = {"ids": [order.id, "none"], "owners": [None, None]}

    assert rows_read(session, lookups.ORDERS, params) < 10


def test_the_chain_reads_what_it_is_asked_for(planned: When) -> None:
    with connected(chain.OPTIONS) as conn:
        planned(conn, ASK, {"signatures": ["none"]})
        conn.execute(LAND, [MANY])
        try:
            assert rows_read(conn, ASK, {"signatures": ["7"]}) < 10
        finally:
            conn.execute("TRUNCATE chain.transaction")


def test_the_events_that_were_missed_are_read_alone(planned: When) -> None:
    with connected(database.options()) as conn:
        planned(conn, queries.EVENTS_SINCE, {"ids": ["none"] * MANY, "after": [0] * MANY})
        loop.run(placement.place_orders([order_request() for _ in range(MANY)]))
        ids = [order_in(Status.ROUTING).id for _ in range(4)]
        params = {"ids": ids, "after": [1] * 4}

        assert rows_read(conn, queries.EVENTS_SINCE, params, finds=4) < 20
