"""Pages of orders: what a filter finds, and that it reads no more than it needs."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from orders import database, pages
from orders.events import iso
from orders.models import Order
from orders.pages import Filter

pytestmark = pytest.mark.usefixtures("no_orders")

INSERT = """
INSERT INTO orders_order (id, owner_id, order_type, token_in, token_out, amount_in, slippage_bps,
                          venue, status, created_at, completed_at, lease_until)
SELECT *, to_timestamp(substr(id, 5, 13)::bigint / 1000.0),
       CASE WHEN status IN ('confirmed', 'failed') THEN now() END,
       CASE WHEN status = 'routing' THEN now() END
FROM unnest(%(id)s::text[], %(owner_id)s::int[], %(order_type)s::text[], %(token_in)s::text[],
            %(token_out)s::text[], %(amount_in)s::int[], %(slippage_bps)s::int[],
            %(venue)s::text[], %(status)s::text[])
    AS made(id, owner_id, order_type, token_in, token_out, amount_in, slippage_bps, venue, status)
RETURNING id
"""
TWO_A_MILLISECOND = """
UPDATE orders_order
SET created_at = date_bin('4 ms', created_at, 'epoch')
                 + right(id, 10)::int * 83 * interval '1 us'
RETURNING id
"""
MOMENTS = (-1, 0, 1, 83, 999)  # in microseconds from a time that is shown
EVENTS_KEY = "orders_orderevent_pkey"
FIRST_MS = 1_700_000_000_000
FILTERS = [
    Filter(),
    Filter(order_type="market"),
    *(Filter(status=status) for status in ("pending", "routing", "failed", "expired")),
    *(Filter(token_in=token) for token in ("SOL", "BONK", "RAY")),
    *(Filter(token_out=token) for token in ("SOL", "JUP", "RAY")),
    *(Filter(venue=venue) for venue in ("raydium", "raydium+meteora", "split")),
    Filter(status="failed", token_in="SOL"),
    Filter(status="failed", token_in="SOL", token_out="JUP", venue="meteora"),
    Filter(token_in="SOL", token_out="SOL"),
]


def insert(rows: list[dict[str, Any]]) -> None:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    database.rows(INSERT, columns)


def some_orders(count: int, *owners: int | None) -> list[dict[str, Any]]:
    """One in every two milliseconds, of any kind."""
    draw = random.Random("pages")
    made = []
    for n in range(count):
        token_in, token_out = draw.sample(["SOL", "USDC", "BONK", "JUP"], 2)
        made.append(
            {
                "id": f"ord_{FIRST_MS + 2 * n}_{n:010d}",
                "owner_id": draw.choice(owners),
                "order_type": "market",
                "token_in": token_in,
                "token_out": token_out,
                "amount_in": 1,
                "slippage_bps": 100,
                "venue": draw.choice(pages.KINDS["venue"]),
                "status": draw.choice(["pending", "routing", "confirmed", "confirmed", "failed"]),
            }
        )
    return made


def matching(rows: list[dict[str, Any]], owner_id: int | None, wanted: Filter) -> list[str]:
    """What the page should have, found the slow way."""
    return [
        row["id"]
        for row in reversed(rows)
        if row["owner_id"] == owner_id and wanted.matches(Order(**row))
    ]


def orders_of(page: pages.Page) -> list[Order]:
    return [order for order, _ in page.found]


@pytest.mark.parametrize("wanted", FILTERS, ids=repr)
def test_pages_have_what_the_filter_names_there_and_back(owner: int, wanted: Filter) -> None:
    rows = some_orders(400, None, owner)
    insert(rows)

    for owner_id in (None, owner):
        expected = matching(rows, owner_id, wanted)
        page = pages.page(owner_id, wanted, limit=7)
        there = [page]
        while page.next is not None:
            page = pages.page(owner_id, wanted, limit=7, cursor=page.next)
            there.append(page)
        back = [page]
        while page.previous is not None:
            page = pages.page(owner_id, wanted, limit=7, cursor=page.previous)
            back.append(page)

        assert [order.id for page in there for order in orders_of(page)] == expected
        assert [page.found for page in back] == [page.found for page in reversed(there)]


@pytest.mark.parametrize("status", [None, "confirmed"])
def test_times_are_exclusive_and_may_lie_anywhere(owner: int, status: str | None) -> None:
    insert(some_orders(100, owner))
    orders = orders_of(pages.page(owner, Filter(status=status), limit=200))
    newest, middle, oldest = orders[0], orders[len(orders) // 2], orders[-1]

    def between(**times: Any) -> list[Order]:
        return orders_of(pages.page(owner, Filter(status=status, **times), limit=200))

    assert between(created_after=middle.created_at) == orders[: len(orders) // 2]
    assert between(created_before=middle.created_at) == orders[len(orders) // 2 + 1 :]
    inner = between(created_after=oldest.created_at, created_before=newest.created_at)
    assert inner == orders[1:-1]
    assert between(created_after=newest.created_at) == []
    assert between(created_before=oldest.created_at) == []


@pytest.mark.parametrize("status", [None, "confirmed"])
def test_times_are_compared_as_they_are_shown(owner: int, status: str | None) -> None:
    rows = [{**row, "status": "confirmed"} for row in some_orders(12, owner)]
    insert(rows)
    database.rows(TWO_A_MILLISECOND, {})
    stored = orders_of(pages.page(owner, Filter(status=status), limit=200))
    shown = {order.id: datetime.fromisoformat(iso(order.created_at)) for order in stored}
    assert len(set(shown.values())) == 6

    def some(**times: Any) -> list[Order]:
        return orders_of(pages.page(owner, Filter(status=status, **times), limit=200))

    for moment in {time + timedelta(microseconds=n) for time in shown.values() for n in MOMENTS}:
        after, before = some(created_after=moment), some(created_before=moment)

        assert after == [order for order in stored if shown[order.id] > moment]
        assert before == [order for order in stored if shown[order.id] < moment]


def test_times_and_cursors_go_together(owner: int) -> None:
    insert(some_orders(100, owner))
    orders = orders_of(pages.page(owner, Filter(), limit=200))
    wanted = Filter(created_after=orders[50].created_at, created_before=orders[10].created_at)

    first = pages.page(owner, wanted, limit=30)
    second = pages.page(owner, wanted, limit=30, cursor=first.next)

    assert [*orders_of(first), *orders_of(second)] == orders[11:50]
    assert second.next is None


def indexes_of(node: dict[str, Any]) -> Iterator[str]:
    if "Index Name" in node:
        yield node["Index Name"]
    elif node["Node Type"] in {"Seq Scan", "Sort", "Incremental Sort"}:
        yield node["Node Type"]
    for child in node.get("Plans", []):
        yield from indexes_of(child)


@pytest.mark.parametrize("statistics", ["none", "of few orders", "of one kind only"])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_page_is_read_from_its_index_whatever_the_statistics_say(
    owner: int, backwards: bool, statistics: str
) -> None:
    if statistics == "of few orders":
        insert(some_orders(20, owner, None))
    elif statistics == "of one kind only":
        kind = {"token_in": "SOL", "token_out": "USDC", "status": "confirmed", "venue": "raydium"}
        insert([{**row, **kind} for row in some_orders(2000, owner)])

    moment = datetime.fromtimestamp(FIRST_MS / 1000, UTC)
    with database.pool().connection() as conn, conn.transaction(force_rollback=True):
        conn.execute("ANALYZE orders_order")
        conn.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        for owner_id, named, times in product((None, owner), FILTERS[:-1], (None, moment)):
            wanted = replace(named, created_after=times, created_before=times)
            sql, params = pages.query(owner_id, wanted, 51, backwards=backwards)
            [plan] = conn.execute(f"EXPLAIN (FORMAT JSON) {sql}", params).fetchone().values()
            used = set(indexes_of(plan[0]["Plan"])) - {"orders_order_pkey", EVENTS_KEY}
            if wanted.kinds() is None:
                assert used == {"by_owner"}, (owner_id, wanted)
            else:  # the newest of all kinds are sorted, a page of each at most
                assert used == {"Sort", "by_kind"}, (owner_id, wanted)
