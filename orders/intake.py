"""What a client asks for, over REST or WebSocket: one call each, refusals as problems."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from rest_framework.exceptions import ValidationError

from dex.errors import OrderRejected, VenueUnavailable
from dex.grouping import Grouped
from dex.postgres import no_answer
from dex.types import Route, SwapRequest
from orders import loop, placement, render, trading
from orders.events import iso
from orders.execution import exchange
from orders.lifecycle import ClaimLost, IllegalTransition
from orders.models import FailureCode, Order, Status
from orders.once import once_per_loop
from orders.placement import (
    ClientOrderIdReused,
    DeadlinePassed,
    Denied,
    OrderRequest,
    Placed,
    TradingHalted,
)
from orders.problems import DATABASE_AWAY, FieldError, Problem, invalid
from orders.serializers import (
    BatchRequestSerializer,
    OrderRequestSerializer,
    QuoteRequestSerializer,
)
from orders.threads import in_thread

# 503 is promised within 3 s, however many calls an order takes part in.
PLACE_SECONDS = 2.7
ORDER, BATCH = OrderRequestSerializer(), BatchRequestSerializer()  # making one takes 80 µs
place_together = once_per_loop(lambda: Grouped(placement.place_each, DATABASE_AWAY))


async def place(body: Any, owner_id: int | None, at: str = "") -> Placed:
    """`at` is the pointer to the body. Raises Problem, psycopg.OperationalError."""
    begun = asyncio.get_running_loop().time()
    try:
        request = ORDER.request(body, owner_id)
    except ValidationError as error:
        raise invalid(error, at) from None
    placed = await place_together()(request)
    if placed is None:
        (placed,) = await before(begun + PLACE_SECONDS, stored([request], at))
    return placed


async def place_batch(body: Any, owner_id: int | None) -> list[Placed]:
    """All of them, or none. Raises as `place` does, and rest_framework's ValidationError."""
    begun = asyncio.get_running_loop().time()
    requests = BATCH.requests(body, owner_id)
    return await before(begun + PLACE_SECONDS, stored(requests, "/orders/{}"))


async def before(moment: float, placing: Awaitable[list[Placed]]) -> list[Placed]:
    """`moment` is of the loop's clock. Raises psycopg.OperationalError when it has passed."""
    try:
        async with asyncio.timeout_at(moment):
            return await placing
    except TimeoutError:
        raise no_answer(PLACE_SECONDS) from None


async def stored(requests: list[OrderRequest], place: str) -> list[Placed]:
    """`place` is the pointer to the order at a position of the body."""
    try:
        return await placement.place_orders(requests)
    except ClientOrderIdReused as error:
        errors = field_errors(error, place + "/clientOrderId", "client_order_id_reused")
        raise Problem(
            status=409, code="CLIENT_ORDER_ID_REUSED", detail=str(error), errors=errors
        ) from None
    except DeadlinePassed as error:
        errors = field_errors(error, place + "/deadline", "deadline_passed")
        raise Problem(status=400, code="VALIDATION", detail=str(error), errors=errors) from None
    except TradingHalted:
        raise (await in_thread(trading_halted)) from None


def trading_halted() -> Problem:
    halt = trading.current()
    if halt is None:
        halted = "Trading was halted until a moment ago"
    else:
        reason = f" ({halt.reason})" if halt.reason else ""
        halted = f"Trading has been halted since {iso(halt.halted_at)}{reason}"
    detail = (
        f"{halted}: no new order is accepted. Orders accepted before keep their place. Place this "
        "one again, with the same clientOrderId, when trading is resumed: GET /api/orders/stats "
        "says so in `trading`."
    )
    return Problem(status=503, code="TRADING_HALTED", detail=detail, headers={"Retry-After": "30"})


def field_errors(denied: Denied, pointer: str, code: str) -> list[FieldError]:
    return [
        FieldError(pointer=pointer.format(position), code=code, detail=reason)
        for position, reason in denied.reasons.items()
    ]


def withdraw(order: Order) -> None:
    """Cancel a waiting order. Raises Problem."""
    try:
        placement.withdraw(order, by="owner")
    except (IllegalTransition, ClaimLost):
        waits = order.status == Status.PENDING  # or did, when it was looked at
        state = "has left pending" if waits else f"is {order.status}"
        detail = f"Order {order.id} {state}: only a waiting order can be cancelled."
        raise Problem(status=409, code="NOT_CANCELLABLE", detail=detail) from None


def quote(body: Any) -> dict[str, Any]:
    """Every venue's quote and the route that would be taken now. Raises Problem."""
    wanted = QuoteRequestSerializer(data=body)
    wanted.is_valid(raise_exception=True)
    try:
        return render.route_json(loop.run(route(wanted.swap_request())))
    except VenueUnavailable as error:
        again = {"Retry-After": "1"}
        raise Problem(status=503, code=error.code, detail=error.detail, headers=again) from None
    except OrderRejected as error:
        status = 400 if error.code == FailureCode.INSUFFICIENT_LIQUIDITY else 404
        raise Problem(status=status, code=error.code, detail=error.detail) from None


async def route(request: SwapRequest) -> Route:
    """On the process's own loop: a large order on concentrated pools takes tens of ms to route."""
    return await exchange().route(request)
