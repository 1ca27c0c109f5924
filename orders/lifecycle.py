"""The writer of status and events: each move is one compare-and-set, alone or with others.

`claims.py` has the start made, which the fleet's limits guard, and makes each end together with the
next start. The database refuses every move that `models.TRANSITIONS` does not have.
"""

import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import psycopg
import structlog
from django.conf import settings
from psycopg.types.json import Jsonb

from dex.grouping import Grouped
from dex.types import Swap
from orders import database, events, measures
from orders.database import Row
from orders.models import IN_EXECUTION, TERMINAL, TRANSITIONS, Order, Status, listed
from orders.once import once_per_loop
from orders.problems import DATABASE_AWAY

log = structlog.get_logger(__name__)

# Rung by whoever frees a place and does not use it; the dispatcher listens.
ROOM_CHANNEL = "orders_room"

RING_ROOM = f"pg_notify('{ROOM_CHANNEL}', '')"

ENCODER = json.JSONEncoder(default=str)  # json.dumps would make one for each statement
# The database has made none of the moves of the statement.
REFUSED = (psycopg.DataError, psycopg.IntegrityError, psycopg.InternalError)

# The columns that a move may change beside those that every move does.
KEPT = (
    "venue, expected_amount_out, min_amount_out, amount_out, fee, fee_token, price_impact, "
    "tx_hash, failure_code, failure_message"
)
Move = dict[str, Any]  # what `move_of` answers


class Step(NamedTuple):
    """A state that an order passes through in the move to another, with its event and columns."""

    to: Status
    data: dict[str, Any]
    changes: dict[str, Any]


# Many moves, each made or not on its own; a row for each that was made. The arrays have the orders
# read by their keys: planned while there were none, the statement read all there were later.
MOVING = f"""
WITH m AS (
    SELECT * FROM jsonb_to_recordset(%(moves)s) AS m(
        id text, fence int, "from" text, "to" text, data jsonb, changes jsonb, retry_in float8,
        signature text, swap_venue text, transaction text, last_valid bigint, rings boolean,
        via text, via_data jsonb)
), o AS (
    UPDATE orders_order o
    SET status = m.to, seq = o.seq + CASE WHEN m.via IS NULL THEN 1 ELSE 2 END, updated_at = now(),
        lease_until = CASE WHEN m.to IN ({listed(IN_EXECUTION)})
            THEN now() + make_interval(secs => %(lease)s) END,
        completed_at = CASE WHEN m.to IN ({listed(TERMINAL)}) THEN now() END,
        takeovers = CASE WHEN m.to = 'submitted' THEN 0 ELSE o.takeovers END,
        attempt = o.attempt + CASE WHEN m.retry_in IS NULL THEN 0 ELSE 1 END,
        next_attempt_at = CASE WHEN m.retry_in IS NULL THEN o.next_attempt_at
            ELSE now() + make_interval(secs => m.retry_in) END,
        ({KEPT}) = (SELECT {KEPT} FROM jsonb_populate_record(o, m.changes))
    FROM m WHERE o.id = m.id AND o.id = ANY (ARRAY(SELECT id FROM m))
        AND o.fence = m.fence AND o.status = m.from
        AND (m.to <> 'submitted' OR coalesce(clock_timestamp() < o.deadline_at, true))
    RETURNING o AS whole, o.id, o.fence, o.seq, o.attempt, o.updated_at, m.from, m.to, m.signature,
        m.swap_venue, m.transaction, m.last_valid, m.rings, m.via, m.via_data,
        CASE WHEN m.retry_in IS NULL THEN m.data ELSE m.data || jsonb_build_object('retryAt',
            to_char(o.next_attempt_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
        END AS data
), e AS (
    INSERT INTO orders_orderevent
        (order_id, seq, status, previous_status, attempt, created_at, data)
    SELECT id, seq, "to", coalesce(via, "from"), attempt, updated_at, data FROM o
    UNION ALL
    SELECT id, seq - 1, via, "from", attempt, updated_at, via_data FROM o WHERE via IS NOT NULL
), stored AS (
    INSERT INTO orders_swap
        (signature, order_id, attempt, venue, transaction, last_valid_block_height)
    SELECT signature, id, attempt, swap_venue, decode(transaction, 'base64'), last_valid
    FROM o WHERE signature IS NOT NULL
), settled AS (
    UPDATE orders_swap SET state = CASE WHEN o.to = 'confirmed' THEN 'landed' ELSE 'dead' END
    FROM o WHERE o.from = 'submitted' AND order_id = o.id AND state = 'live'
        AND order_id = ANY (ARRAY(SELECT id FROM o))
), counted AS (
    INSERT INTO orders_tally (kind, shard, count)
    SELECT "to", pg_backend_pid() %% 16, count(*) FROM o WHERE "to" IN ({listed(TERMINAL)})
    GROUP BY "to" ORDER BY "to"
    ON CONFLICT (kind, shard) DO UPDATE SET count = orders_tally.count + excluded.count
)
"""
MOVE = f"""{MOVING}
SELECT true AS moved, id, fence, seq, attempt, updated_at, data ->> 'retryAt' AS retry_at,
       CASE WHEN rings THEN {RING_ROOM} END AS rung
FROM o
"""


class IllegalTransition(Exception):
    """A move that `models.TRANSITIONS` does not have: a fault of the caller."""


class ClaimLost(Exception):
    """Another worker holds the order, or it has moved on. Stop, and write nothing more.

    Or it was to be submitted, and its deadline has passed.
    """


def advance(order: Order, to: Status, **what: Any) -> None:
    """Move the order on and store the event, or neither; then log it and ring the doorbell.

    `what` is that of `move_of`. `order` is brought up to date. Raises IllegalTransition, ClaimLost.
    """
    move = move_of(order, to, **what)
    written = database.row(MOVE, parameters([move]))
    if written is None:
        raise lost(move)
    moved(order, move, written)


async def advance_with_others(order: Order, to: Status, **what: Any) -> None:
    """As `advance`; moves that coroutines make at the same moment share a transaction."""
    move = move_of(order, to, **what)
    moved(order, move, await _moves()(move))


def failure(code: str, message: str) -> dict[str, Any]:
    """What a move to failed comes with."""
    return {
        "data": {"code": code, "message": message},
        "changes": {"failure_code": code, "failure_message": message},
    }


def move_of(
    order: Order,
    to: Status,
    *,
    data: dict[str, Any],
    changes: dict[str, Any] | None = None,
    swap: Swap | None = None,
    retry_in: float | None = None,
    via: Step | None = None,
) -> Move:
    """A row for `write`. Raises IllegalTransition.

    `changes` are further columns of the order. `swap` is stored with the move to submitted.
    `retry_in` (seconds) goes with a move back to pending and makes it the next attempt. `via` is
    a move of its own, with an event of its own, that is made at the same moment before this one.
    """
    path = [Status(order.status), *([] if via is None else [via.to]), to]
    if any(after not in TRANSITIONS[before] for before, after in pairwise(path)):
        raise IllegalTransition(f"{order.id}: {' -> '.join(path)}")
    return {
        "id": order.id,
        "fence": order.fence,
        "from": order.status,
        "to": to.value,
        "data": data,
        "changes": {**({} if via is None else via.changes), **(changes or {})},
        **({} if via is None else {"via": via.to.value, "via_data": via.data}),
        **({} if swap is None else swap_columns(swap)),
        "retry_in": retry_in,
        # Room that nobody uses yet, or the next suspect may run.
        "rings": retry_in is not None or (order.takeovers > 0 and to != Status.BUILDING),
    }


def moved(order: Order, move: Move, written: Row) -> None:
    """The move is stored: the order follows, and whoever listens hears of it."""
    data = move["data"]
    if written["retry_at"]:
        data = {**data, "retryAt": written["retry_at"]}
    for column, value in move["changes"].items():
        setattr(order, column, value)
    if "via" in move:
        follow(order, move["via"], move["via_data"], written["seq"] - 1, written)
    follow(order, move["to"], data, written["seq"], written)


def follow(order: Order, to: str, data: dict[str, Any], seq: int, written: Row) -> None:
    """One event of a stored move: counted, logged and rung for."""
    event = events.Event(
        order_id=order.id,
        owner_id=order.owner_id,
        seq=seq,
        status=to,
        previous_status=order.status,
        attempt=written["attempt"],
        created_at=written["updated_at"],
        data=data,
    )
    measures.moved(event, since=order)
    order.status, order.seq, order.attempt = event.status, event.seq, event.attempt
    order.updated_at = event.created_at
    announce(event, venue=order.venue)


async def write(moves: Sequence[Move]) -> list[Row | Exception]:
    """Make the moves in one transaction: for each its row, or what kept it from being made."""
    try:
        found = await _session().rows(MOVE, parameters(moves))
    except REFUSED as error:
        if len(moves) == 1:
            return [error]
        return [written for move in moves for written in await write([move])]  # others are sound
    return answers(moves, found)


def parameters(moves: Sequence[Move]) -> dict[str, Any]:
    return {"moves": Jsonb(moves, dumps=ENCODER.encode), "lease": settings.ORDER_LEASE_SECONDS}


def answers(moves: Sequence[Move], found: Iterable[Row]) -> list[Row | Exception]:
    """For each move the row that was found of it, or ClaimLost."""
    rows = {(row["id"], row["fence"]): row for row in found}
    return [rows.get((move["id"], move["fence"])) or lost(move) for move in moves]


def lost(move: Move) -> ClaimLost:
    return ClaimLost(f"{move['id']}: no longer {move['from']} under fence {move['fence']}")


_session = once_per_loop(database.new_session)
_moves = once_per_loop(lambda: Grouped(write, DATABASE_AWAY))


def announce(event: events.Event, *, venue: str = "", request_id: str | None = None) -> None:
    """The one log line of a move, and its doorbell. Call after commit.

    `request_id` where it is not that of all log lines at present; empty for none.
    """
    error = event.data.get("error") or event.data
    reason = event.data.get("reason")
    log.info(
        "order.moved",
        order_id=event.order_id,
        **{"from": event.previous_status or "new", "to": event.status},
        seq=event.seq,
        attempt=event.attempt,
        **({"venue": venue} if venue else {}),
        **({} if request_id is None else {"request_id": request_id}),
        **({"reason": reason["code"], "why": reason["text"]} if reason else {}),
        **({"error": f"{error['code']}: {error['message']}"} if "code" in error else {}),
    )
    events.publish(event)


def swap_columns(swap: Swap) -> dict[str, Any]:
    return {
        "signature": swap.signature,
        "transaction": b64encode(swap.transaction).decode(),
        "last_valid": swap.last_valid_block_height,
        "swap_venue": swap.venue,
    }
