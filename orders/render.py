"""What a client reads: orders, routes and fills as JSON. Decimals are strings, never floats."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Context, Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from dex import tokens
from dex.pricing import mid_price
from dex.types import Leg, Quote, QuoteFailure, Route
from orders.events import iso, milliseconds
from orders.models import RETRYABLE_CODES, TERMINAL, Order, Status

PRICE = Context(prec=12)
IMPACT = Decimal("1e-8")
# What an order shows of the time it spent in a status.
STAGES = {
    Status.PENDING: "queued",
    Status.ROUTING: "routing",
    Status.BUILDING: "building",
    Status.SUBMITTED: "submitted",
}


class Step(NamedTuple):
    """What the order object takes from an event; `quotes` are those of a `building` event."""

    status: str
    attempt: int
    at: int  # milliseconds since 1970
    quotes: list[dict[str, Any]] | None = None


def plain(number: Decimal) -> str:
    """Without exponent and without trailing zeros."""
    return f"{number.normalize():f}" if number else "0"


def fraction(basis_points: int) -> str:
    """100 -> "0.01"."""
    return plain(Decimal(basis_points) / 10_000)


def amount(symbol: str, units: Decimal | int | None) -> str | None:
    """Base units as whole tokens, exactly."""
    return None if units is None else tokens.format_amount(tokens.BY_SYMBOL[symbol], int(units))


def price(order: Order, amount_out: Decimal | int | None) -> str | None:
    """token_out per token_in, in whole tokens."""
    if amount_out is None:
        return None
    paid = tokens.to_decimal(tokens.BY_SYMBOL[order.token_in], int(order.amount_in))
    received = tokens.to_decimal(tokens.BY_SYMBOL[order.token_out], int(amount_out))
    return plain(PRICE.divide(received, paid))


def realized_slippage(order: Order) -> str | None:
    """The part of the quoted amount that did not arrive; negative when more arrived."""
    if order.amount_out is None or not order.expected_amount_out:
        return None
    expected = Decimal(order.expected_amount_out)
    return plain(((expected - Decimal(order.amount_out)) / expected).quantize(IMPACT))


def impact(part: Decimal | None) -> str | None:
    return None if part is None else plain(part.quantize(IMPACT))


def moment(value: datetime | None) -> str | None:
    return None if value is None else iso(value)


def latencies(order: Order, steps: Iterable[Step]) -> dict[str, int | None]:
    """Milliseconds in each stage of the last attempt that the order has left, null for others.

    `total` is that from acceptance to the end, with all attempts.
    """
    found: dict[str, int | None] = dict.fromkeys(STAGES.values())
    for step, following in pairwise(step for step in steps if step.attempt == order.attempt):
        stage = STAGES[Status(step.status)]
        found[stage] = (found[stage] or 0) + following.at - step.at
    if order.completed_at is None:
        return {**found, "total": None}
    return {**found, "total": milliseconds(order.completed_at) - milliseconds(order.created_at)}


def order_json(order: Order, steps: Sequence[Step]) -> dict[str, Any]:
    """The order object; `steps` are its events in order, read together with it."""
    of_attempt = [step.quotes for step in steps if step.attempt == order.attempt and step.quotes]
    return {
        "orderId": order.id,
        "clientOrderId": order.client_order_id,
        "orderType": order.order_type,
        "tokenIn": order.token_in,
        "tokenOut": order.token_out,
        "amount": amount(order.token_in, order.amount_in),
        "slippage": fraction(order.slippage_bps),
        "deadline": moment(order.deadline_at),
        "status": order.status,
        "seq": order.seq,
        "attempt": order.attempt,
        "venue": order.venue or None,
        "quotes": of_attempt[-1] if of_attempt else [],
        "expectedPrice": price(order, order.expected_amount_out),
        "executedPrice": price(order, order.amount_out),
        "amountOut": amount(order.token_out, order.amount_out),
        "minAmountOut": amount(order.token_out, order.min_amount_out),
        **fee_json(order),
        "priceImpact": impact(order.price_impact),
        "realizedSlippage": realized_slippage(order),
        "txHash": order.tx_hash or None,
        "failure": failure_json(order),
        "latencies": latencies(order, steps),
        "createdAt": iso(order.created_at),
        "updatedAt": iso(order.updated_at),
        "completedAt": moment(order.completed_at),
    }


def fee_json(order: Order) -> dict[str, str | None]:
    """That of the route, until it is paid; none where the order ended without being filled."""
    if order.status in TERMINAL and order.amount_out is None:
        return {"fee": None, "feeToken": None}
    return {"fee": amount(order.fee_token, order.fee), "feeToken": order.fee_token or None}


def failure_json(order: Order) -> dict[str, Any] | None:
    if not order.failure_code:
        return None
    return {
        "code": order.failure_code,
        "message": order.failure_message,
        "retryable": order.failure_code in RETRYABLE_CODES,
    }


def fill_json(order: Order) -> dict[str, Any]:
    """The data of a `confirmed` event."""
    return {
        "txHash": order.tx_hash,
        "venue": order.venue,
        "executedPrice": price(order, order.amount_out),
        "amountOut": amount(order.token_out, order.amount_out),
        "realizedSlippage": realized_slippage(order),
    }


def route_json(route: Route) -> dict[str, Any]:
    """The data of a `building` event: the decision and everything it was made on."""
    request = route.request
    paid = tokens.to_decimal(request.token_in, request.amount_in)
    expected = tokens.to_decimal(request.token_out, route.amount_out)
    return {
        "venue": route.venue,
        "strategy": route.strategy.value,
        "reason": {"code": route.reason.value, "text": route.explanation},
        "quotes": [
            *(quote_json(quote, route) for quote in route.quotes),
            *(quote_failure_json(failure, route) for failure in route.failures),
        ],
        "legs": [leg_json(leg, route) for leg in route.legs],
        "expectedPrice": plain(PRICE.divide(expected, paid)),
        "expectedAmountOut": tokens.format_amount(request.token_out, route.amount_out),
        "minAmountOut": tokens.format_amount(request.token_out, route.min_amount_out),
    }


def quote_json(quote: Quote, route: Route) -> dict[str, Any]:
    token_out = route.request.token_out
    return {
        "venue": quote.venue,
        "curve": quote.curve,
        "amountOut": tokens.format_amount(token_out, quote.amount_out),
        "minAmountOut": tokens.format_amount(token_out, quote.min_amount_out),
        "effectivePrice": plain(PRICE.plus(quote.effective_price)),
        "midPrice": plain(PRICE.plus(quote.mid_price)),
        "priceImpact": impact(quote.price_impact),
        "fee": tokens.format_amount(quote.fee_token, quote.fee),
        "feeToken": quote.fee_token.symbol,
        "blockHeight": quote.block_height,
    }


def leg_json(leg: Leg, route: Route) -> dict[str, Any]:
    token_in, token_out = route.request.token_in, route.request.token_out
    return {
        "venue": leg.venue,
        "amountIn": tokens.format_amount(token_in, leg.quote.amount_in),
        "amountOut": tokens.format_amount(token_out, leg.quote.amount_out),
        "minAmountOut": tokens.format_amount(token_out, leg.quote.min_amount_out),
    }


def quote_failure_json(failure: QuoteFailure, route: Route) -> dict[str, Any]:
    """With the pool that cannot take all of the order, where that is why."""
    error = {"code": failure.code, "detail": failure.detail}
    if failure.offer is None:
        return {"venue": failure.venue, "error": error}
    spot = mid_price(failure.offer.pool.mid, route.request.token_in, route.request.token_out)
    return {
        "venue": failure.venue,
        "curve": failure.offer.curve,
        "midPrice": plain(PRICE.plus(spot)),
        "blockHeight": failure.offer.block_height,
        "error": error,
    }
