"""Where orders come in: stored once for each client order id, then hinted to the workers."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
import structlog
from psycopg.errors import LockNotAvailable
from psycopg.types.json import Jsonb

from dex.tokens import format_amount
from dex.types import Token
from orders import database, events, hints, lifecycle, render
from orders.events import Event, iso
from orders.models import Order, Status, new_suffixes
from orders.once import once_per_loop
from orders.threads import in_thread, in_turn

log = structlog.get_logger(__name__)

# Both functions are in sql/place.sql.
PLACE = "SELECT * FROM orders_place(%(owner_id)s, %(wanted)s)"
PLACE_EACH = "SELECT * FROM orders_place_each(%(wanted)s)"
SUFFIX = len("ord_0123456789012_")  # where it begins in an order id


class OrderRequest(NamedTuple):
    """A valid order that is not stored yet. `amount_in` in base units of `token_in`."""

    owner_id: int | None
    order_type: str
    token_in: Token
    token_out: Token
    amount_in: int
    slippage_bps: int
    client_order_id: str | None = None
    deadline_at: datetime | None = None
    request_id: str = ""  # of the request that asked for it

    def columns(self) -> dict[str, Any]:
        return {
            "owner_id": self.owner_id,
            "client_order_id": self.client_order_id,
            "request_id": self.request_id,
            "order_type": self.order_type,
            "token_in": self.token_in.symbol,
            "token_out": self.token_out.symbol,
            "amount_in": self.amount_in,
            "slippage_bps": self.slippage_bps,
            "deadline_at": self.deadline_at and str(self.deadline_at),
        }

    def as_event_data(self) -> dict[str, Any]:
        """The request as the first event shows it."""
        data = {
            "orderType": self.order_type,
            "tokenIn": self.token_in.symbol,
            "tokenOut": self.token_out.symbol,
            "amount": format_amount(self.token_in, self.amount_in),
            "slippage": render.fraction(self.slippage_bps),
        }
        if self.client_order_id is not None:
            data["clientOrderId"] = self.client_order_id
        if self.deadline_at is not None:
            data["deadline"] = iso(self.deadline_at)
        return data


class Placed(NamedTuple):
    """The answer to a client. `replayed` when its client order id had been placed before."""

    order_id: str
    created_at: datetime
    replayed: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "orderId": self.order_id,
            "status": Status.PENDING.value,
            "timestamp": iso(self.created_at),
        }


class Denied(Exception):
    """Nothing was stored: `reasons` has a sentence for each order at fault, by its position."""

    def __init__(self, reasons: dict[int, str]) -> None:
        super().__init__("; ".join(reasons.values()))
        self.reasons = reasons


class ClientOrderIdReused(Denied):
    """The client order id belongs to an earlier order that asks for something else."""


class DeadlinePassed(Denied):
    """The order could never be sent in time."""


class TradingHalted(Exception):
    """An operator has halted trading: nothing new is stored."""


async def place_orders(requests: Sequence[OrderRequest]) -> list[Placed]:
    """Store the orders of one owner with their first events, all or none, then hint.

    Committed when this returns. A repeated request gets its first answer, even after its deadline.
    While trading is halted it still does. Raises ClientOrderIdReused, DeadlinePassed,
    TradingHalted, psycopg.OperationalError.
    """
    data = [request.as_event_data() for request in requests]
    run = in_thread if len(requests) == 1 else in_turn
    answers = await run(
        database.rows,
        PLACE,
        {"owner_id": requests[0].owner_id, "wanted": Jsonb(wanted(requests, data))},
    )
    check(requests, answers)
    placed = [
        Placed(order_id=row["id"], created_at=row["created_at"], replayed=row["replayed"])
        for row in answers
    ]
    announce(requests, placed, data)
    return placed


async def place_each(requests: Sequence[OrderRequest]) -> list[Placed | None]:
    """Store orders of any owners with one COMMIT, then hint.

    An order is None that nothing was done with: its client order id is taken, it came too late,
    trading is halted, or PostgreSQL refused one of these orders. `place_orders` stores it or says
    why not. Raises psycopg.OperationalError: which are stored is not known.
    """
    data = [request.as_event_data() for request in requests]
    rows = wanted(requests, data)
    try:
        stored = await _session().rows(PLACE_EACH, {"wanted": Jsonb(rows)})
    except psycopg.DatabaseError as error:
        if isinstance(error, psycopg.OperationalError) and not isinstance(error, LockNotAvailable):
            raise
        fault = isinstance(error, psycopg.ProgrammingError)  # of this release: no COMMIT is shared
        say = log.error if fault else log.warning
        reason = error.diag.message_primary or str(error)
        say("placement.one_by_one", orders=len(requests), error=reason)
        return [None] * len(requests)
    made = {row["id"][SUFFIX:]: row for row in stored}
    placed = [
        None if found is None else Placed(order_id=found["id"], created_at=found["created_at"])
        for found in (made.get(row["suffix"]) for row in rows)
    ]
    announce(requests, placed, data)
    return placed


_session = once_per_loop(database.new_session)


def announce(
    requests: Sequence[OrderRequest], placed: Sequence[Placed | None], data: list[dict[str, Any]]
) -> None:
    """After commit: the log line, the doorbell and the hint of each order that is stored now."""
    lines, firsts = [], []
    for request, order, shown in zip(requests, placed, data, strict=True):
        if order is None or order.replayed:
            continue
        asked = {"request_id": request.request_id} if request.request_id else {}
        lines.append({"order_id": order.order_id, **asked})
        firsts.append(first_event(request, order, shown))
    moved = {"from": "new", "to": Status.PENDING.value, "seq": 1, "attempt": 1}
    log.info("order.moved", each=lines, request_id="", **moved)
    for first in firsts:
        events.publish(first)
    hints.send_soon([first.order_id for first in firsts])


def wanted(requests: Sequence[OrderRequest], data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As orders_place takes them. Ids ascend, so that the orders start in the order given."""
    suffixes = sorted(new_suffixes(len(requests)))
    return [
        {
            **request.columns(),
            "suffix": suffix,
            "data": shown,
        }
        for request, suffix, shown in zip(requests, suffixes, data, strict=True)
    ]


def check(requests: Sequence[OrderRequest], answers: list[dict[str, Any]]) -> None:
    """Raises what kept the orders from being stored."""
    late, reused, halted = {}, {}, False
    for position, (request, row) in enumerate(zip(requests, answers, strict=True)):
        if row["id"] is None and row["created_at"] is not None:
            halted = True
        elif row["id"] is None:
            if request.deadline_at is None:
                raise RuntimeError("an order id was drawn twice")
            late[position] = f"The deadline {iso(request.deadline_at)} has passed."
        elif not row["same"]:
            reused[position] = (
                f"{request.client_order_id} already names order {row['id']}, which asks for "
                "something else: use a new client order id for a new order."
            )
    if late:
        raise DeadlinePassed(late)
    if reused:
        raise ClientOrderIdReused(reused)
    if halted:
        raise TradingHalted


def first_event(request: OrderRequest, placed: Placed, data: dict[str, Any]) -> Event:
    return Event(
        order_id=placed.order_id,
        owner_id=request.owner_id,
        seq=1,
        status=Status.PENDING.value,
        previous_status="",
        attempt=1,
        created_at=placed.created_at,
        data=data,
    )


def withdraw(order: Order, *, by: str) -> None:
    """Withdraw a waiting order; its event says `by` whom: "owner" or "operator".

    Raises lifecycle.IllegalTransition, lifecycle.ClaimLost.
    """
    lifecycle.advance(order, Status.CANCELLED, data={"by": by})
