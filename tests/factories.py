"""Orders in any state, made as the engine makes them."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from dex import tokens
from dex.types import (
    Fill,
    Leg,
    Quote,
    Reason,
    Route,
    Strategy,
    Swap,
    SwapRequest,
    SwapState,
    SwapStatus,
)
from orders import claims, database, execution, lifecycle, loop, placement
from orders.models import Order, Status


def order_request(**changes: Any) -> placement.OrderRequest:
    fields = {
        "owner_id": None,
        "order_type": "market",
        "token_in": tokens.SOL,
        "token_out": tokens.USDC,
        "amount_in": 1_500_000_000,
        "slippage_bps": 100,
    }
    return placement.OrderRequest(**{**fields, **changes})


def place_one(request: placement.OrderRequest) -> placement.Placed:
    return loop.run(placement.place_orders([request]))[0]


def place(**changes: Any) -> str:
    return place_one(order_request(**changes)).order_id


def claim(order_id: str) -> Order | None:
    return loop.run(claims.claim(order_id))


def load(order_id: str) -> Order:
    return Order.objects.get(id=order_id)


def a_swap(order: Order, signature: str = "") -> Swap:
    return Swap(
        request=execution.swap_request(order),
        venue="raydium",
        signature=signature or f"signature-{order.id}-{order.attempt}",
        transaction=b"signed bytes",
        last_valid_block_height=1_000,
    )


def order_in(status: Status, **changes: Any) -> Order:
    """A stored order that has come to `status` by legal moves."""
    order = load(place(**changes))
    if status in {Status.CANCELLED, Status.EXPIRED}:
        lifecycle.advance(order, status, data={})
    elif status is not Status.PENDING:
        claimed = claim(order.id)
        assert claimed is not None
        order = claimed
        path = [Status.BUILDING, Status.SUBMITTED, status]
        for step in path[: path.index(status) + 1] if status is not Status.ROUTING else []:
            step_to(order, step)
    return order


def step_to(order: Order, status: Status) -> None:
    if status is Status.SUBMITTED:
        swap = a_swap(order)
        lifecycle.advance(
            order,
            status,
            data={"txHash": swap.signature},
            changes={"tx_hash": swap.signature},
            swap=swap,
        )
    elif status is Status.FAILED:
        lifecycle.advance(order, status, data={"code": "TX_EXPIRED", "message": "too late"})
    else:
        lifecycle.advance(order, status, data={})


def end_lease(order_id: str) -> None:
    """As if the order's worker had died a lease ago."""
    database.rows(
        "UPDATE orders_order SET lease_until = now() - interval '1 s' WHERE id = %(id)s "
        "RETURNING id",
        {"id": order_id},
    )


def make_due(order_id: str, ago: float = 0) -> None:
    """As if it might have started so many seconds ago; a negative number is in the future."""
    database.rows(
        "UPDATE orders_order SET next_attempt_at = now() - make_interval(secs => %(ago)s) "
        "WHERE id = %(id)s RETURNING id",
        {"id": order_id, "ago": ago},
    )


# Sessions that wait for an advisory lock: the halt's, or that of the claim.
WAITING = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


class StubExchange:
    """Answers as told; remembers what was asked of it.

    `states` are the chain's answers in turn, the last one for ever; an exception is raised.
    `sends` is what it says of a transaction that it is sent.
    """

    at_once = False  # whether it builds without waiting

    def __init__(
        self,
        *states: SwapState | Exception,
        route: Exception | None = None,
        sends: SwapState | None = None,
    ) -> None:
        self.states = list(states) or [landed()]
        self.sends = sends or pending()
        self.route_error = route
        self.calls: list[str] = []
        self.sent: list[Swap] = []
        self.sent_before: list[datetime | None] = []

    async def route(self, request: SwapRequest) -> Route:
        self.calls.append("route")
        if self.route_error is not None:
            raise self.route_error
        return a_route(request)

    async def build(self, route: Route) -> Swap:
        return self.built(route)

    def build_at_once(self, route: Route) -> Swap | None:
        return self.built(route) if self.at_once else None

    def built(self, route: Route) -> Swap:
        self.calls.append("build")
        return Swap(
            request=route.request,
            venue=route.legs[0].venue,
            signature=f"signature-{route.request.order_id}-{route.request.attempt}",
            transaction=b"signed bytes",
            last_valid_block_height=1_000,
        )

    async def send(self, swap: Swap, *, before: datetime | None) -> SwapState:
        self.calls.append("send")
        self.sent.append(swap)
        self.sent_before.append(before)
        return self.sends

    def watch(self, swap: Swap) -> "StubWatch":
        return StubWatch(self, swap)

    async def status(self, swap: Swap) -> SwapState:
        self.calls.append("status")
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return state


class StubWatch:
    """Asks its exchange at each look."""

    def __init__(self, exchange: StubExchange, swap: Swap) -> None:
        self.exchange, self.swap = exchange, swap

    async def next_state(self, seconds: float) -> SwapState:
        return await self.exchange.status(self.swap)

    def __enter__(self) -> "StubWatch":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def a_route(request: SwapRequest) -> Route:
    quote = Quote(
        venue="raydium",
        curve="cpmm",
        amount_in=request.amount_in,
        amount_out=214_000_000,
        min_amount_out=211_860_000,
        fee=4_500_000,
        fee_token=request.token_in,
        mid_price=Decimal("143.1"),
        effective_price=Decimal("142.67"),
        price_impact=Decimal("0.0001"),
        block_height=900,
    )
    return Route(
        request=request,
        strategy=Strategy.AUTO,
        legs=(Leg(venue="raydium", quote=quote),),
        quotes=(quote,),
        failures=(),
        reason=Reason.ONLY_VENUE,
        explanation="Raydium returns 214.000000 USDC",
        fee=(quote.fee, quote.fee_token),
        price_impact=quote.price_impact,
    )


def landed(amount_out: int = 213_900_000) -> SwapState:
    fill = Fill(amount_in=1_500_000_000, amount_out=amount_out)
    return SwapState(status=SwapStatus.LANDED, fill=fill)


def pending() -> SwapState:
    return SwapState(status=SwapStatus.PENDING)


def unknown() -> SwapState:
    return SwapState(status=SwapStatus.UNKNOWN)


def dead(status: SwapStatus = SwapStatus.EXPIRED, code: str = "TX_EXPIRED") -> SwapState:
    return SwapState(status=status, error_code=code, error="it never landed")
