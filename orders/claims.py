"""Who may work on an order: claim, lease, fence, and the limits of the whole fleet.

The claim is one call of the function `orders_claim` in PostgreSQL (migrations 0012, 0014 and
0017): a worker that is stopped in the middle of it holds no lock.
"""

from collections.abc import Sequence
from typing import Any

from django.conf import settings

from dex.grouping import Grouped
from dex.types import Swap
from orders import database, measures, requestid
from orders.database import Row
from orders.events import Event
from orders.lifecycle import RING_ROOM, ClaimLost, announce
from orders.models import Order, Status
from orders.once import once_per_loop
from orders.problems import DATABASE_AWAY

# Hinted at once where no limit says less.
MOST_HINTS = 200
# Wanted by who takes whatever may run: no order has this id.
ANY = ""

CLAIM = """
SELECT (c.claimed).*, c.previous_status FROM orders_claim(
    %(wanted)s::text[], %(concurrency)s, %(starts)s, make_interval(secs => %(lease)s)) c
"""
RENEW = """
UPDATE orders_order
SET lease_until = greatest(lease_until, now() + make_interval(secs => %(lease)s))
WHERE id = %(id)s AND fence = %(fence)s AND status = %(status)s RETURNING id
"""
RELEASE = f"""
UPDATE orders_order SET lease_until = now()
WHERE id = %(id)s AND fence = %(fence)s AND status IN ('routing', 'building', 'submitted')
RETURNING id, {RING_ROOM}
"""
RUNNABLE = "SELECT id FROM orders_runnable(%(concurrency)s, %(starts)s, %(most)s) AS id"
OVERDUE = """
SELECT * FROM orders_order WHERE status = 'pending' AND deadline_at <= now()
ORDER BY deadline_at LIMIT 1000
"""
GIVEN_UP = "SELECT * FROM orders_given_up()"
LIVE_SWAP = """
SELECT venue, signature, transaction, last_valid_block_height
FROM orders_swap WHERE order_id = %(id)s AND state = 'live'
"""


async def claim(order_id: str) -> Order | None:
    """The order, leased to the caller under a new fence; None when nothing may run now.

    Where this order may not run, but another may, it is the first of those: a hint is never wasted.
    A pending or abandoned order is `routing` afterwards; one abandoned in `submitted` stays there.
    Claims that coroutines make at the same moment share a transaction.
    """
    found = await _claims()(order_id)
    if found is None:
        return None
    order = Order.of_row(found)
    if order.status == Status.ROUTING:
        previous = found["previous_status"]
        started = Event(
            order_id=order.id,
            owner_id=order.owner_id,
            seq=order.seq,
            status=order.status,
            previous_status=previous,
            attempt=order.attempt,
            created_at=order.updated_at,
            data={},
        )
        if order.seq == 2:
            measures.queued(order)
        with requestid.logged(order.request_id):
            announce(started)
    return order


async def write(wanted: Sequence[str]) -> list[Row | None]:
    """Claim for each in one transaction: all wait for the fleet's lock once."""
    found = await _session().rows(
        CLAIM, {"wanted": list(wanted), **limits(), "lease": settings.ORDER_LEASE_SECONDS}
    )
    rows = {row["id"]: row for row in found}
    named = [rows.pop(order_id, None) for order_id in wanted]
    others = iter(rows.values())
    return [row or next(others, None) for row in named]


_session = once_per_loop(database.new_session)
_claims = once_per_loop(lambda: Grouped(write, DATABASE_AWAY))


def renew(order: Order) -> None:
    """The lease runs its full length from now on, at least. Raises ClaimLost."""
    params = {"id": order.id, "fence": order.fence, "status": order.status}
    if database.row(RENEW, {**params, "lease": settings.ORDER_LEASE_SECONDS}) is None:
        raise ClaimLost(f"{order.id}: taken over while {order.status}")


def release(order: Order) -> bool:
    """Let another worker take over at once; False when one has, or the order has ended."""
    return database.row(RELEASE, {"id": order.id, "fence": order.fence}) is not None


def ring_room() -> None:
    """Tell the dispatcher that there may be room: whoever made it does not use it."""
    database.rows(f"SELECT {RING_ROOM}", {})


def live_swap(order: Order) -> Swap:
    """The one transaction of a submitted order that may still land."""
    found = database.row(LIVE_SWAP, {"id": order.id})
    if found is None:
        raise ClaimLost(f"{order.id}: no live swap, so no longer submitted")
    return Swap(**found)


def runnable() -> list[str]:
    """Ids that a claim would let through now, oldest first, no more than there is room for."""
    found = database.rows(RUNNABLE, {**limits(), "most": MOST_HINTS})
    return [row["id"] for row in found]


def overdue() -> list[Order]:
    """Waiting orders whose deadline has passed."""
    return [Order.of_row(row) for row in database.rows(OVERDUE, {})]


def given_up() -> list[Order]:
    """Abandoned orders that have taken too many workers with them for another one to claim."""
    return [Order.of_row(row) for row in database.rows(GIVEN_UP, {})]


def limits() -> dict[str, Any]:
    return {"concurrency": settings.QUEUE_CONCURRENCY, "starts": settings.QUEUE_RATE_LIMIT}
