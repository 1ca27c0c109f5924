"""Who may work on an order: claim, lease, fence, and the limits of the whole fleet.

The claim is one call of the function `orders_claim` in PostgreSQL (sql/claim.sql): a worker that is
stopped in the middle of it holds no lock.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
from django.conf import settings

from dex.grouping import Grouped
from dex.types import Swap, SwapRequest
from orders import database, lifecycle, measures
from orders.database import Row
from orders.events import Event
from orders.lifecycle import RING_ROOM, ClaimLost, Move
from orders.models import IN_EXECUTION, Order, Status, listed
from orders.once import once_per_loop
from orders.problems import DATABASE_AWAY

log = structlog.get_logger(__name__)

# Hinted at once where no limit says less.
MOST_HINTS = 200
# PostgreSQL has answered that it did not carry out the statement.
ANSWERED = (
    *lifecycle.REFUSED,
    psycopg.errors.QueryCanceled,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
)
NOTHING: Row = {}  # what is found of no move
# Wanted by who takes whatever may run: no order has this id.
ANY = ""

CLAIM = """
SELECT false AS moved, (c.claimed).*, c.previous_status FROM orders_claim(
    %(wanted)s::text[], %(concurrency)s, %(starts)s, make_interval(secs => %(lease)s)) c
"""
# Moves, and then claims, which count the places that those have freed. One statement, not two of a
# transaction: a worker that is stopped in between would keep its locks. The moves are made first:
# an argument waits for their number.
TURN = f"""{lifecycle.MOVING}
SELECT true AS moved, (whole).*, NULL AS previous_status, data ->> 'retryAt' AS retry_at,
       CASE WHEN rings THEN {RING_ROOM} END AS rung
FROM o
UNION ALL
SELECT false, (c.claimed).*, c.previous_status, NULL, NULL
FROM (SELECT count(*) AS moves FROM o) made, LATERAL orders_claim(
    CASE WHEN made.moves >= 0 THEN %(wanted)s::text[] END,
    %(concurrency)s, %(starts)s, make_interval(secs => %(lease)s)) c
"""
RENEW = """
UPDATE orders_order
SET lease_until = greatest(lease_until, now() + make_interval(secs => %(lease)s))
WHERE id = %(id)s AND fence = %(fence)s AND status = %(status)s RETURNING id
"""
RELEASE = f"""
UPDATE orders_order SET lease_until = now()
WHERE id = %(id)s AND fence = %(fence)s AND status IN ({listed(IN_EXECUTION)})
RETURNING id, {RING_ROOM}
"""
RUNNABLE = "SELECT id FROM orders_runnable(%(concurrency)s, %(starts)s, %(most)s) AS id"
# Hints wait for their ends: what is left is ended by the next tick, which comes at once then.
MOST_OVERDUE = 500
OVERDUE = f"""
SELECT * FROM orders_order WHERE status = 'pending' AND deadline_at <= now()
ORDER BY deadline_at LIMIT {MOST_OVERDUE}
"""
GIVEN_UP = "SELECT * FROM orders_given_up()"
LIVE_SWAP = """
SELECT venue, signature, transaction, last_valid_block_height
FROM orders_swap WHERE order_id = %(id)s AND state = 'live'
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a task asks for at once: the last move of the order it has, and the order it wants."""

    move: Move | None
    wanted: str | None  # the id of an order, or ANY


async def claim(order_id: str) -> Order | None:
    """The order, leased to the caller under a new fence; None when nothing may run now.

    Where this order may not run, but another may, it is the first of those: a hint is never wasted.
    A pending or abandoned order is `routing` afterwards; one abandoned in `submitted` stays there.
    Claims that coroutines make at the same moment share a transaction.
    """
    _, row = await _turns()(Turn(None, order_id))
    return None if row is None else claimed(row)


async def end(order: Order, move: Move | None, *, go_on: bool) -> Order | None:
    """Make the last move of an attempt, and claim whatever may run then, in one transaction.

    A move that can not be made is logged: the order is another worker's, or is left to its lease.
    Raises psycopg.OperationalError: whether the move was made is not known.
    """
    if move is None and not go_on:
        return None
    written, row = await _turns()(Turn(move, ANY if go_on else None))
    if move is not None:
        conclude(order, move, written)
    return None if row is None else claimed(row)


def conclude(order: Order, move: Move, written: Row | Exception) -> None:
    if isinstance(written, ClaimLost):
        log.info("claim.lost", reason=str(written))
    elif isinstance(written, Exception):
        log.error("execution.bug", order_id=order.id, status=order.status, exc_info=written)
    else:
        lifecycle.moved(order, move, written)


def claimed(row: Row) -> Order:
    """The order of a claim's row. Its start is counted and announced."""
    order = Order.of_row(row)
    if order.status == Status.ROUTING:
        started = Event(
            order_id=order.id,
            owner_id=order.owner_id,
            seq=order.seq,
            status=order.status,
            previous_status=row["previous_status"],
            attempt=order.attempt,
            created_at=order.updated_at,
            data={},
        )
        if order.seq == 2:
            measures.queued(order)
        lifecycle.announce(started, request_id=order.request_id)
    return order


async def write(turns: Sequence[Turn]) -> list[tuple[Row | Exception, Row | None]]:
    """For each what was found of its move, and the order it may take.

    One transaction makes the moves and then claims, so that the places they free are taken at
    once; all claims wait for the fleet's lock once. Where PostgreSQL refuses that, or the lock is
    not to be had, the moves are made without.
    """
    moves = [turn.move for turn in turns if turn.move]
    wanted = [turn.wanted for turn in turns if turn.wanted is not None]
    taken: list[Row | None] = [None] * len(wanted)
    try:
        written, taken = await write_both(moves, wanted)
    except ANSWERED as error:
        if not moves:
            raise
        log.warning("claim.left_out", moves=len(moves), reason=str(error).strip())
        written = await lifecycle.write(moves)
        if wanted and isinstance(error, lifecycle.REFUSED):
            with suppress(psycopg.Error):  # another task claims, or the dispatcher hints again
                _, taken = await write_both([], wanted)
    made, got = iter(written), iter(taken)
    return [
        (
            NOTHING if turn.move is None else next(made),
            None if turn.wanted is None else next(got),
        )
        for turn in turns
    ]


async def write_both(
    moves: Sequence[Move], wanted: Sequence[str]
) -> tuple[list[Row | Exception], list[Row | None]]:
    statement, params = statement_of(moves, wanted)
    found = await _session().rows(statement, params)
    moved = [row for row in found if row["moved"]]
    taken = [row for row in found if not row["moved"]]
    return lifecycle.answers(moves, moved), in_turn(wanted, taken)


def statement_of(moves: Sequence[Move], wanted: Sequence[str]) -> tuple[str, dict[str, Any]]:
    moving = lifecycle.parameters(moves)
    claiming = {"wanted": list(wanted), **limits(), "lease": settings.ORDER_LEASE_SECONDS}
    if moves and wanted:
        return TURN, {**moving, **claiming}
    return (lifecycle.MOVE, moving) if moves else (CLAIM, claiming)


def in_turn(wanted: Sequence[str], taken: Iterable[Row]) -> list[Row | None]:
    """To each the order it wanted, where that was taken; else one of the others that were."""
    rows = {row["id"]: row for row in taken}
    named = [rows.pop(order_id, None) for order_id in wanted]
    others = iter(rows.values())
    return [row or next(others, None) for row in named]


_session = once_per_loop(database.new_session)
_turns = once_per_loop(lambda: Grouped(write, DATABASE_AWAY))


def renew(order: Order) -> None:
    """The lease runs its full length from now on, at least. Raises ClaimLost."""
    params = {"id": order.id, "fence": order.fence, "status": order.status}
    if database.row(RENEW, {**params, "lease": settings.ORDER_LEASE_SECONDS}) is None:
        raise ClaimLost(f"{order.id}: taken over while {order.status}")


def release(order: Order) -> bool:
    """Let another worker take over at once; False when one has, or the order has ended."""
    return database.row(RELEASE, {"id": order.id, "fence": order.fence}) is not None


def live_swap(order: Order, request: SwapRequest) -> Swap:
    """The one transaction of a submitted order that may still land."""
    found = database.row(LIVE_SWAP, {"id": order.id})
    if found is None:
        raise ClaimLost(f"{order.id}: no live swap, so no longer submitted")
    return Swap(request=request, **found)


def runnable() -> list[str]:
    """Ids that a claim would let through now, oldest first, no more than there is room for."""
    found = database.rows(RUNNABLE, {**limits(), "most": MOST_HINTS})
    return [row["id"] for row in found]


def overdue() -> list[Order]:
    """Waiting orders whose deadline has passed, no more than a tick can end."""
    return [Order.of_row(row) for row in database.rows(OVERDUE, {})]


def given_up() -> list[Order]:
    """Abandoned orders that have taken too many workers with them for another one to claim."""
    return [Order.of_row(row) for row in database.rows(GIVEN_UP, {})]


def limits() -> dict[str, Any]:
    return {"concurrency": settings.QUEUE_CONCURRENCY, "starts": settings.QUEUE_RATE_LIMIT}
