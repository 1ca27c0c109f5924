"""Where an order comes in: stored once for each client order id, then hinted to the workers."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb

from dex.tokens import format_amount
from dex.types import Token
from orders import database, hints, lifecycle, render, requestid
from orders.events import Event, iso
from orders.models import Order, Status, new_order_id

STORE = f"""
WITH o AS (
    INSERT INTO orders_order (id, owner_id, client_order_id, order_type, token_in, token_out,
                              amount_in, slippage_bps, deadline_at, request_id)
    VALUES (%(id)s, %(owner_id)s, %(client_order_id)s, %(order_type)s, %(token_in)s,
            %(token_out)s, %(amount_in)s, %(slippage_bps)s, %(deadline_at)s, %(request_id)s)
    ON CONFLICT DO NOTHING
    RETURNING id, created_at
), e AS (
    INSERT INTO orders_orderevent
        (order_id, seq, status, previous_status, attempt, created_at, data)
    SELECT id, 1, 'pending', '', 1, created_at, %(data)s FROM o
), {lifecycle.TALLY.format(kind="placed")}
SELECT id, created_at FROM o
"""
EARLIER = """
SELECT id, created_at, order_type, token_in, token_out, amount_in, slippage_bps, deadline_at
FROM orders_order
WHERE owner_id IS NOT DISTINCT FROM %(owner_id)s AND client_order_id = %(client_order_id)s
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderRequest:
    """A valid order that is not stored yet. `amount_in` in base units of `token_in`."""

    owner_id: int | None
    order_type: str
    token_in: Token
    token_out: Token
    amount_in: int
    slippage_bps: int
    client_order_id: str | None = None
    deadline_at: datetime | None = None

    def columns(self) -> dict[str, Any]:
        return {
            "order_type": self.order_type,
            "token_in": self.token_in.symbol,
            "token_out": self.token_out.symbol,
            "amount_in": self.amount_in,
            "slippage_bps": self.slippage_bps,
            "deadline_at": self.deadline_at,
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
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


class ClientOrderIdReused(Exception):
    """The client order id belongs to an earlier order that asks for something else."""


class DeadlinePassed(Exception):
    """The order could never be sent in time."""


def place_order(request: OrderRequest) -> Placed:
    """Store the order and its first event, then hint. Committed when this returns.

    Raises ClientOrderIdReused, DeadlinePassed, psycopg.OperationalError.
    """
    if request.deadline_at is not None and request.deadline_at <= datetime.now(UTC):
        return late(request, request.deadline_at)
    data = request.as_event_data()
    stored = database.row(
        STORE,
        {
            **request.columns(),
            "id": new_order_id(),
            "owner_id": request.owner_id,
            "client_order_id": request.client_order_id,
            "data": Jsonb(data),
            "request_id": requestid.bound(),
        },
    )
    if stored is None:
        if (before := earlier(request)) is None:
            raise RuntimeError("an order id was drawn twice")
        return before
    placed = Placed(order_id=stored["id"], created_at=stored["created_at"])
    lifecycle.announce(first_event(request, placed, data))
    hints.send_soon(placed.order_id)
    return placed


def late(request: OrderRequest, deadline_at: datetime) -> Placed:
    """A repeated request gets its first answer even after its deadline; a new one is denied."""
    before = earlier(request) if request.client_order_id is not None else None
    if before is None:
        raise DeadlinePassed(f"The deadline {iso(deadline_at)} has passed.")
    return before


def earlier(request: OrderRequest) -> Placed | None:
    """The order that already has this client order id. Raises ClientOrderIdReused."""
    found = database.row(
        EARLIER, {"owner_id": request.owner_id, "client_order_id": request.client_order_id}
    )
    if found is None:
        return None
    placed = Placed(order_id=found.pop("id"), created_at=found.pop("created_at"), replayed=True)
    if found != request.columns():
        raise ClientOrderIdReused(
            f"{request.client_order_id} already names order {placed.order_id}, which asks for "
            "something else: use a new client order id for a new order."
        )
    return placed


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


def withdraw(order: Order) -> None:
    """Withdraw a waiting order. Raises lifecycle.IllegalTransition, lifecycle.ClaimLost."""
    lifecycle.advance(order, Status.CANCELLED, data={})
