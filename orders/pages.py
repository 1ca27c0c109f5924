"""Pages of an owner's orders, newest first, at a cost that does not grow with their number.

Two indexes serve every query. `by_owner` has all orders of an owner in order of their ids.
`by_kind` has those of one kind in order of their ids, a kind being one value of each column of
KINDS: 240 for each name of a route, and those grow with the square of the venues. A filter names
some of them: the newest of each are read from the index, as many as a page has, and the newest of
those are the page. A filter that matches one order in a million costs what any other does, and so
does one that matches none; 300 kinds are about 10 ms.

Row comparisons keep the planner from reading orders by their primary key and throwing away those
of others: only the index that is meant has the order asked for.
"""

import re
from base64 import b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import Any

from dex.tokens import TOKENS
from dex.venues.registry import ANY_SPLIT, VENUES, route_names
from orders import database
from orders.events import milliseconds
from orders.models import Order, OrderType, Status
from orders.queries import STEPS, Found

SYMBOLS = [token.symbol for token in TOKENS]
KINDS: dict[str, list[str]] = {
    "order_type": OrderType.values,
    "status": Status.values,
    "venue": ["", *route_names()],
    "token_in": SYMBOLS,
    "token_out": SYMBOLS,
}
SPLITS = [name for name in KINDS["venue"] if "+" in name]
VENUE_CHOICES = [*VENUES, ANY_SPLIT]  # for a person to choose from
CURSOR = re.compile(r"[<>]ord_\d{13}_[a-z0-9]{10}", re.ASCII)
LOWEST, HIGHEST = "ord_", "ord_99999999999999"
LAST_MS = 9_999_999_999_999  # of 13 digits

PAGE = f"""
SELECT o.*, {STEPS}
FROM orders_order o WHERE id = ANY(ARRAY({{ids}})) ORDER BY id {{way}}
"""
ALL = """
SELECT id FROM orders_order WHERE {range} ORDER BY owner_id {way}, id {way} LIMIT %(count)s
"""
OF_KINDS = """
SELECT found.id FROM
    unnest(%(order_type)s::text[], %(status)s::text[], %(venue)s::text[], %(token_in)s::text[],
           %(token_out)s::text[]) AS kind(order_type, status, venue, token_in, token_out)
    CROSS JOIN LATERAL (
        SELECT id FROM orders_order WHERE {range}
        ORDER BY owner_id {way}, order_type {way}, status {way}, venue {way}, token_in {way},
                 token_out {way}, id {way}
        LIMIT %(count)s
    ) found
ORDER BY found.id {way} LIMIT %(count)s
"""
KIND = "order_type, status, venue, token_in, token_out, "
OF_KIND = "kind.order_type, kind.status, kind.venue, kind.token_in, kind.token_out, "
NAMED = f"""
SELECT o.*, {STEPS}
FROM orders_named(%(owner_id)s, %(client_order_id)s) o
WHERE id > %(above)s AND id < %(below)s{{times}}
"""
# To the millisecond, as the API shows it: what it showed may be asked with.
CREATED_AT = "date_trunc('milliseconds', created_at)"
AFTER = f" AND {CREATED_AT} > %(created_after)s"
BEFORE = f" AND {CREATED_AT} < %(created_before)s"
# In ms. Until migration 0008 an id's digits were a web process's clock, created_at the database's.
CLOCKS_APART = 1000


class BadCursor(Exception):
    """Not a cursor of a page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Which orders; None is any. The times are exclusive, of `createdAt` as it is shown.

    The venue may be ANY_SPLIT.
    """

    order_type: str | None = None
    status: str | None = None
    venue: str | None = None
    token_in: str | None = None
    token_out: str | None = None
    client_order_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None

    def kinds(self) -> list[tuple[str, ...]] | None:
        """The kinds that match; None for all of them."""
        matching = {**KINDS, **self.named()}
        if matching == KINDS:
            return None
        return [kind for kind in product(*matching.values()) if kind[-1] != kind[-2]]

    def matches(self, order: Order) -> bool:
        return all(getattr(order, column) in values for column, values in self.named().items())

    def named(self) -> dict[str, list[str]]:
        """The values that match, of each column of KINDS that not all match."""
        given = {column: getattr(self, column) for column in KINDS}
        found = {column: [value] for column, value in given.items() if value is not None}
        return found | ({"venue": SPLITS} if self.venue == ANY_SPLIT else {})


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """The orders, and the cursors of the pages beside it; None where there is none."""

    found: list[Found]
    next: str | None
    previous: str | None


def page(owner_id: int | None, wanted: Filter, *, limit: int, cursor: str | None = None) -> Page:
    """Raises BadCursor."""
    backwards, beyond = read_cursor(cursor)
    rows = newest(owner_id, wanted, limit + 1, backwards=backwards, beyond=beyond)
    found, more = rows[:limit], len(rows) > limit
    if backwards:
        found.reverse()
    older, newer = (True, more) if backwards else (more, cursor is not None)
    return Page(
        found=found,
        next=write_cursor("<", found[-1].order) if found and older else None,
        previous=write_cursor(">", found[0].order) if found and newer else None,
    )


def newest(
    owner_id: int | None, wanted: Filter, count: int, *, backwards: bool, beyond: str | None
) -> list[Found]:
    """The `count` orders next to the one that the cursor names: above it when backwards."""
    rows = database.rows(*query(owner_id, wanted, count, backwards=backwards, beyond=beyond))
    return [found for found in map(Found.of_row, rows) if wanted.matches(found.order)]


def query(
    owner_id: int | None,
    wanted: Filter,
    count: int,
    *,
    backwards: bool = False,
    beyond: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """The statement and its parameters."""
    params: dict[str, Any] = {
        "owner_id": owner_id,
        "client_order_id": wanted.client_order_id,
        "created_after": wanted.created_after,
        "created_before": wanted.created_before,
        "count": count,
        **bounds(wanted, backwards, beyond),
    }
    kinds = wanted.kinds()
    if kinds is not None:
        params |= {column: [kind[n] for kind in kinds] for n, column in enumerate(KINDS)}
    return statement(owner_id, wanted, of_kinds=kinds is not None, backwards=backwards), params


def statement(owner_id: int | None, wanted: Filter, *, of_kinds: bool, backwards: bool) -> str:
    times = (AFTER if wanted.created_after else "") + (BEFORE if wanted.created_before else "")
    if wanted.client_order_id is not None:
        return NAMED.format(times=times)
    columns, values = (KIND, OF_KIND) if of_kinds else ("", "")
    if owner_id is None:  # NULL compares with nothing
        condition = f"owner_id IS NULL AND {within(f'{columns}id', values)}"
    else:
        condition = within(f"owner_id, {columns}id", f"%(owner_id)s, {values}")
    way = "ASC" if backwards else "DESC"
    ids = (OF_KINDS if of_kinds else ALL).format(range=condition + times, way=way)
    return PAGE.format(ids=ids, way=way)


def within(columns: str, values: str) -> str:
    return f"({columns}) > ({values}%(above)s) AND ({columns}) < ({values}%(below)s)"


def bounds(wanted: Filter, backwards: bool, beyond: str | None) -> dict[str, str]:
    """The ids between which the page lies, without these."""
    above, below = LOWEST, HIGHEST
    if wanted.created_after is not None:
        above = stamp(wanted.created_after, -CLOCKS_APART)
    if wanted.created_before is not None:
        below = stamp(wanted.created_before, CLOCKS_APART)
    if beyond is not None and backwards:
        above = max(above, beyond)
    elif beyond is not None:
        below = min(below, beyond)
    return {"above": above, "below": below}


def stamp(moment: datetime, apart: int) -> str:
    """Sorts between the ids of orders created before and after."""
    ms = milliseconds(moment) + apart
    return f"ord_{min(max(ms, 0), LAST_MS):013d}"


def read_cursor(cursor: str | None) -> tuple[bool, str | None]:
    """Whether it leads back, and the id of the order it starts at."""
    if cursor is None:
        return False, None
    try:
        text = b64decode(cursor.encode(), altchars=b"-_", validate=True).decode("ascii")
    except ValueError:
        text = ""
    if not CURSOR.fullmatch(text):
        raise BadCursor(cursor)
    return text[0] == ">", text[1:]


def write_cursor(way: str, order: Order) -> str:
    return urlsafe_b64encode(f"{way}{order.id}".encode()).decode()
