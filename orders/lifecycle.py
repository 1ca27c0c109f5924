"""The writer of status and events: one compare-and-set statement for each move.

`claims.py` writes the one move that the fleet's limits guard, the start. Both are refused by the
database if `models.TRANSITIONS` does not have them.
"""

from typing import Any

import structlog
from django.conf import settings
from psycopg.types.json import Jsonb

from dex.types import Swap
from orders import database, events, measures
from orders.models import IN_EXECUTION, TERMINAL, TRANSITIONS, Order, Status
from orders.models import Swap as SwapRow

log = structlog.get_logger(__name__)

# Rung by whoever frees a place and does not use it while others wait; the dispatcher listens.
ROOM_CHANNEL = "orders_room"

UPDATE = """o AS (
    UPDATE orders_order SET status = %(to)s, seq = seq + 1, updated_at = now(), {sets}
    WHERE id = %(id)s AND fence = %(fence)s AND status = %(from)s
    RETURNING id, seq, attempt, next_attempt_at, created_at, updated_at
)"""
EVENT = """e AS (
    INSERT INTO orders_orderevent
        (order_id, seq, status, previous_status, attempt, created_at, data)
    SELECT id, seq, %(to)s, %(from)s, attempt, updated_at, {data} FROM o
    RETURNING seq, attempt, created_at, data
)"""
RETRY_DATA = """%(data)s::jsonb || jsonb_build_object('retryAt',
    to_char(next_attempt_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))"""
STORE_SWAP = """s AS (
    INSERT INTO orders_swap
        (signature, order_id, attempt, venue, transaction, last_valid_block_height)
    SELECT %(signature)s, id, attempt, %(swap_venue)s, %(transaction)s, %(last_valid)s FROM o
)"""
SETTLE_SWAP = """s AS (
    UPDATE orders_swap SET state = '{state}' FROM o WHERE order_id = o.id AND state = 'live'
)"""
TALLY = """t AS (
    INSERT INTO orders_tally (kind, shard, count) SELECT '{kind}', pg_backend_pid() %% 16, 1 FROM o
    ON CONFLICT (kind, shard) DO UPDATE SET count = orders_tally.count + 1
)"""
RING_ROOM = f"pg_notify('{ROOM_CHANNEL}', '')"
RING_ROOM_IF_WAITING = f"""CASE WHEN EXISTS (SELECT FROM orders_order WHERE status = 'pending')
    THEN {RING_ROOM} END"""


class IllegalTransition(Exception):
    """A move that `models.TRANSITIONS` does not have: a fault of the caller."""


class ClaimLost(Exception):
    """Another worker holds the order, or it has moved on. Stop, and write nothing more."""


def advance(
    order: Order,
    to: Status,
    *,
    data: dict[str, Any],
    changes: dict[str, Any] | None = None,
    swap: Swap | None = None,
    retry_in: float | None = None,
) -> None:
    """Move the order on and store the event, or neither; then log it and ring the doorbell.

    `changes` are further columns of the order. `swap` is stored with the move to submitted.
    `retry_in` (seconds) goes with a move back to pending and makes it the next attempt.
    `order` is brought up to date. Raises IllegalTransition, ClaimLost.
    """
    if to not in TRANSITIONS[Status(order.status)]:
        raise IllegalTransition(f"{order.id}: {order.status} -> {to}")
    changes = changes or {}
    written = database.row(
        statement(
            order.status,
            to,
            tuple(changes),
            storing=swap is not None,
            retrying=retry_in is not None,
            suspect=order.takeovers > 0,
        ),
        {
            **changes,
            **(swap_columns(swap) if swap else {}),
            "id": order.id,
            "fence": order.fence,
            "from": order.status,
            "to": to.value,
            "data": Jsonb(data),
            "lease": settings.ORDER_LEASE_SECONDS,
            "retry_in": retry_in,
        },
    )
    if written is None:
        raise ClaimLost(f"{order.id}: no longer {order.status} under fence {order.fence}")
    written.pop("notified", None)
    event = events.Event(
        order_id=order.id,
        owner_id=order.owner_id,
        status=to.value,
        previous_status=order.status,
        **written,
    )
    for column, value in {**changes, "status": to.value, "seq": event.seq}.items():
        setattr(order, column, value)
    order.attempt = event.attempt
    announce(event, venue=order.venue)


def fail(order: Order, code: str, message: str) -> None:
    """Raises IllegalTransition, ClaimLost."""
    advance(
        order,
        Status.FAILED,
        data={"code": code, "message": message},
        changes={"failure_code": code, "failure_message": message},
    )


def announce(event: events.Event, *, venue: str = "") -> None:
    """The one log line of a move, and its doorbell. Call after commit."""
    error = event.data.get("error") or event.data
    log.info(
        "order.moved",
        order_id=event.order_id,
        **{"from": event.previous_status or "new", "to": event.status},
        seq=event.seq,
        attempt=event.attempt,
        **({"venue": venue} if venue else {}),
        **({"error": f"{error['code']}: {error['message']}"} if "code" in error else {}),
    )
    events.publish(event)


def statement(
    current: str,
    to: Status,
    columns: tuple[str, ...] = (),
    *,
    storing: bool = False,
    retrying: bool = False,
    suspect: bool = False,
) -> str:
    """The SQL of one move: the order, its event, and what changes with them."""
    leased = "now() + make_interval(secs => %(lease)s)" if to in IN_EXECUTION else "NULL"
    sets = [f"lease_until = {leased}", *(f"{column} = %({column})s" for column in columns)]
    if to in TERMINAL:
        sets.append("completed_at = now()")
    if to == Status.SUBMITTED:
        sets.append("takeovers = 0")
    if retrying:
        sets.append("attempt = attempt + 1")
        sets.append("next_attempt_at = now() + make_interval(secs => %(retry_in)s)")
    steps = [
        UPDATE.format(sets=", ".join(sets)),
        EVENT.format(data=RETRY_DATA if retrying else "%(data)s::jsonb"),
    ]
    if storing:
        steps.append(STORE_SWAP)
    elif current == Status.SUBMITTED:
        landed = to == Status.CONFIRMED
        state = SwapRow.State.LANDED if landed else SwapRow.State.DEAD
        steps.append(SETTLE_SWAP.format(state=state.value))
    if to in TERMINAL:
        steps.append(TALLY.format(kind=to.value))
        steps.append(measures.CONFIRMED if to == Status.CONFIRMED else measures.ENDED)
    elif retrying:
        steps.append(measures.RETRIED)
    if suspect and to != Status.BUILDING:
        notified = f", {RING_ROOM} AS notified"  # the next suspect may run
    elif retrying:
        notified = f", {RING_ROOM_IF_WAITING} AS notified"
    else:
        notified = ""
    return f"WITH {', '.join(steps)} SELECT e.*{notified} FROM e"


def swap_columns(swap: Swap) -> dict[str, Any]:
    return {
        "signature": swap.signature,
        "transaction": swap.transaction,
        "last_valid": swap.last_valid_block_height,
        "swap_venue": swap.venue,
    }
