"""What views and sockets read. What a client asks of an order names its owner as well."""

import time
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

from django.conf import settings

from orders import database
from orders.database import Row
from orders.events import Event, iso
from orders.models import IN_EXECUTION, Order, listed
from orders.render import Step

EVENTS = """
SELECT order_id, %(owner_id)s::int AS owner_id, seq, status, previous_status, attempt, created_at,
       data
FROM orders_orderevent WHERE order_id = %(order_id)s AND seq > %(after)s AND EXISTS (
    SELECT FROM orders_order
    WHERE id = %(order_id)s AND owner_id IS NOT DISTINCT FROM %(owner_id)s)
ORDER BY seq
"""
# A column of an order `o`: its events in order, each as the fields of render.Step.
STEPS = """(
    SELECT json_agg(json_build_array(
        status, attempt, floor(extract(epoch FROM created_at) * 1000)::bigint,
        CASE status WHEN 'building' THEN coalesce(data -> 'quotes', '[]') END) ORDER BY seq)
    FROM orders_orderevent WHERE order_id = o.id) AS steps"""
# Orders of some owners that have moved in the last seconds: placed in them, or before and now at
# their end, at work, or waiting for another attempt. Owner 0 is none. Each part has one index that
# can answer it: owners compared otherwise would be another, which has all of their orders.
_SINCE = "now() - make_interval(secs => %(seconds)s)"
_MOVED = f"coalesce(owner_id, 0) = ANY(%(owners)s) AND updated_at >= {_SINCE}"
MOVED = f"""
(SELECT owner_id, id, seq FROM orders_order
 WHERE {_MOVED} AND id >= 'ord_' || lpad(floor(extract(epoch FROM {_SINCE}) * 1000)::text, 13, '0')
 ORDER BY id)
UNION
SELECT ended.* FROM unnest(%(owners)s::int[]) AS owner, LATERAL (
    SELECT owner_id, id, seq FROM orders_order
    WHERE owner_id = owner AND completed_at >= {_SINCE} ORDER BY owner_id, completed_at) ended
UNION
(SELECT owner_id, id, seq FROM orders_order
 WHERE 0 = ANY(%(owners)s) AND owner_id IS NULL AND completed_at >= {_SINCE}
 ORDER BY owner_id, completed_at)
UNION
(SELECT owner_id, id, seq FROM orders_order
 WHERE {_MOVED} AND status IN ({listed(IN_EXECUTION)}) ORDER BY id)
UNION
(SELECT owner_id, id, seq FROM orders_order
 WHERE {_MOVED} AND status = 'pending' AND started_at IS NOT NULL ORDER BY id)
"""
# LIMIT and OFFSET 0: joined, all events there are would be read for each order.
EVENTS_SINCE = """
SELECT e.order_id, o.owner_id, e.seq, e.status, e.previous_status, e.attempt, e.created_at, e.data,
       extract(epoch FROM now() - e.created_at)::float8 AS age
FROM unnest(%(ids)s::text[], %(after)s::int[]) AS asked(id, after)
CROSS JOIN LATERAL (SELECT owner_id FROM orders_order WHERE id = asked.id LIMIT 1) o
CROSS JOIN LATERAL (
    SELECT * FROM orders_orderevent WHERE order_id = asked.id AND seq > asked.after
    ORDER BY seq OFFSET 0) e
"""
# The oldest transaction that writes: what it has written is seen with its end, and has the time of
# its beginning. One of our own is long only where its COMMIT waits for a standby, as all others do
# then: it counts however old it is. Other roles' are not shown.
WRITING = """
SELECT coalesce(max(CASE WHEN wait_event = 'SyncRep' THEN age ELSE least(age, %(most)s) END), 0)
       ::float8 AS seconds
FROM pg_stat_activity, extract(epoch FROM clock_timestamp() - xact_start) AS age
WHERE backend_xid IS NOT NULL AND datname = current_database()
"""
SEQS = "SELECT id, seq FROM orders_order WHERE id = ANY(%(ids)s)"
# An index has the client order ids of each owner.
CALLED = """
SELECT id FROM orders_order WHERE id = %(name)s
UNION
SELECT id FROM orders_order WHERE tx_hash = %(name)s AND tx_hash <> ''
UNION
SELECT o.id FROM (SELECT id FROM auth_user UNION ALL SELECT NULL) u
CROSS JOIN LATERAL orders_named(u.id, %(name)s) o
LIMIT {most}
"""
MOST_CALLED = 50
# A statement of the web is ended after 2 s.
LATE_SECONDS = 2.5
# More starts in a minute than this are not counted.
MOST_STARTS = 10_000
STATS = f"""
SELECT
    coalesce(sum(count) FILTER (WHERE kind = 'placed'), 0)::bigint AS placed,
    coalesce(sum(count) FILTER (WHERE kind = 'confirmed'), 0)::bigint AS confirmed,
    coalesce(sum(count) FILTER (WHERE kind = 'failed'), 0)::bigint AS failed,
    coalesce(sum(count) FILTER (WHERE kind = 'cancelled'), 0)::bigint AS cancelled,
    coalesce(sum(count) FILTER (WHERE kind = 'expired'), 0)::bigint AS expired,
    (SELECT count(*) FROM orders_order
     WHERE status IN ({listed(IN_EXECUTION)})) AS active,
    (SELECT count(*) FROM (
        SELECT FROM orders_order
        WHERE started_at > (SELECT clock_timestamp() - interval '60 s')
        ORDER BY started_at DESC LIMIT {MOST_STARTS}) s) AS starts,
    (SELECT halted_at FROM orders_halt WHERE resumed_at IS NULL) AS halted_at,
    (SELECT reason FROM orders_halt WHERE resumed_at IS NULL) AS reason
FROM orders_tally
"""


class Found(NamedTuple):
    """An order and its events in order, as one statement has read them."""

    order: Order
    steps: list[Step]

    @classmethod
    def of_row(cls, row: Row) -> "Found":
        """Of an order's columns and STEPS; old events may be gone."""
        return cls(Order.of_row(row), [Step(*step) for step in row["steps"] or ()])


def events_after(order_id: str, owner_id: int | None, after: int) -> list[Event]:
    """The stored events with a seq above `after`, in order; somebody else's order has none."""
    params = {"order_id": order_id, "owner_id": owner_id, "after": after}
    return [Event(**row) for row in database.rows(EVENTS, params)]


def moved(owner_ids: Iterable[int | None], moment: float) -> list[tuple[int | None, str, int]]:
    """(owner id, order id, seq) of the owners' orders that have moved since a moment of
    time.monotonic(), or shortly before. Raises TimeoutError where some may be missing."""
    asked = time.monotonic()
    params = {"owners": [one or 0 for one in owner_ids], "seconds": asked - moment + LATE_SECONDS}
    found = database.rows(MOVED, params)
    if time.monotonic() - asked > LATE_SECONDS:
        raise TimeoutError(f"PostgreSQL took more than {LATE_SECONDS} s to answer")
    return [(row["owner_id"], row["id"], row["seq"]) for row in found]


def oldest_writing(most: float) -> float:
    """The moment of time.monotonic() at which the oldest open transaction that writes began; now,
    where there is none. One that waits for its client alone began `most` seconds ago at most."""
    asked = time.monotonic()
    return asked - float(database.rows(WRITING, {"most": most})[0]["seconds"])


def events_since(wanted: Mapping[str, tuple[int, float]]) -> list[Event]:
    """Of each order those after a seq, in order; after 0 those since a moment of time.monotonic(),
    and maybe some of shortly before, no longer than the answer took. One that waited for a lock has
    an earlier time than those before it: it is not left out of them."""
    after = [seq for seq, _ in wanted.values()]
    rows = database.rows(EVENTS_SINCE, {"ids": list(wanted), "after": after})
    now = time.monotonic()
    found: list[Event] = []
    for row in sorted(rows, key=itemgetter("order_id", "seq")):
        seq, moment = wanted[row["order_id"]]
        follows = found and found[-1].order_id == row["order_id"]
        if row.pop("age") <= now - moment or seq or follows:
            found.append(Event(**row))
    return found


def newest_seqs(order_ids: list[str]) -> dict[str, int]:
    return {row["id"]: row["seq"] for row in database.rows(SEQS, {"ids": order_ids})}


def ids_called(name: str) -> list[str]:
    """The orders, of whatever owner, with this id, client order id or transaction hash."""
    found = database.rows(CALLED.format(most=MOST_CALLED), {"name": name})
    return [row["id"] for row in found]


def stats() -> dict[str, dict[str, Any]]:
    """The whole engine now, as the API shows it; costs the same at any number of orders."""
    found = database.rows(STATS, {})[0]
    done = found["confirmed"] + found["failed"] + found["cancelled"] + found["expired"]
    halted_at = found["halted_at"]
    return {
        "queue": {
            "waiting": found["placed"] - done - found["active"],
            "active": found["active"],
            "completed": found["confirmed"],
            "failed": found["failed"],
            "cancelled": found["cancelled"],
            "expired": found["expired"],
        },
        "limits": {
            "concurrency": settings.QUEUE_CONCURRENCY or None,
            "startsPerMinute": settings.QUEUE_RATE_LIMIT or None,
        },
        "starts": {"lastMinute": found["starts"]},
        "trading": {
            "halted": halted_at is not None,
            "since": halted_at and iso(halted_at),
            "reason": found["reason"] or None,
        },
    }
