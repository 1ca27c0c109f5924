"""The JSON that a client is answered, as schemas of the OpenAPI document.

`render.py`, `events.py` and `problems.py` write it; test_openapi.py holds their answers to this.
"""

from typing import Any

from dex import tokens
from dex.types import Reason, Strategy
from dex.venues.registry import VENUES, route_names
from orders import activity
from orders.models import TERMINAL, FailureCode, OrderType, Status

Schema = dict[str, Any]


def text(description: str = "", **more: Any) -> Schema:
    return {"type": "string", **more} | ({"description": description} if description else {})


def integer(description: str = "", minimum: int = 0) -> Schema:
    return {"type": "integer", "minimum": minimum} | (
        {"description": description} if description else {}
    )


def nullable(schema: Schema) -> Schema:
    if "type" in schema and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"oneOf": [schema, {"type": "null"}]}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def record(description: str = "", optional: tuple[str, ...] = (), **properties: Schema) -> Schema:
    """An object; members are required unless named in `optional`."""
    return record_of(properties, description, optional)


def record_of(
    properties: dict[str, Schema], description: str = "", optional: tuple[str, ...] = ()
) -> Schema:
    """The same, of members that no Python name can have."""
    required = [name for name in properties if name not in optional]
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return schema | ({"description": description} if description else {})


ORDER_ID = text("Milliseconds, then random.", pattern="^ord_[0-9]{13}_[a-z0-9]{10}$")
# Open lists: a client bears a code that it does not know.
PROBLEM_CODES = (
    *("BAD_REQUEST", "CLIENT_ORDER_ID_REUSED", "DATABASE_UNAVAILABLE", "FORBIDDEN"),
    *("IDEMPOTENCY_KEY_ON_BATCH", "INSUFFICIENT_LIQUIDITY", "INTERNAL", "METHOD_NOT_ALLOWED"),
    *("NOT_AUTHENTICATED", "NOT_CANCELLABLE", "NOT_FOUND", "NO_ROUTE", "QUOTE_UNAVAILABLE"),
    *("TOO_LARGE", "TOO_MANY_REQUESTS", "TRADING_HALTED", "UNAVAILABLE", "UNSUPPORTED_MEDIA_TYPE"),
    *("UPGRADE_REQUIRED", "VALIDATION"),
)
FIELD_CODES = (
    *("ambiguous", "amount_out_of_range", "blank", "client_order_id_reused", "deadline_passed"),
    *("duplicate", "invalid", "invalid_choice", "invalid_cursor", "max_length", "max_value"),
    *("min_length", "min_value", "not_a_dict", "not_a_list", "not_a_number", "null"),
    *("null_characters_not_allowed", "out_of_range", "overflow", "repeated", "required"),
    *("same_token", "slippage_out_of_range", "surrogate_characters_not_allowed", "unknown_field"),
    *("unknown_token",),
)
CLIENT_ORDER_ID = text(pattern="^[A-Za-z0-9_.:-]{1,64}$")
TOKEN = text(enum=[token.symbol for token in tokens.TOKENS])
TIMESTAMP = text(
    format="date-time",
    pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
    examples=["2025-11-08T10:30:00.000Z"],
)
TX_HASH = text("The transaction's signature.", minLength=1, maxLength=88)
VENUE = text(enum=list(VENUES))
ROUTE_VENUE = text(enum=route_names())


def decimal(description: str) -> Schema:
    return text(description, pattern=r"^-?[0-9]+(\.[0-9]+)?$", examples=["1.5"])


def amount(of: str, note: str = "") -> Schema:
    return decimal(f"Whole {of} tokens. {note}".strip())


ACCEPTED = record(
    orderId=ORDER_ID,
    status=text(const=Status.PENDING.value),
    timestamp=TIMESTAMP,
)
FAILURE = record(
    code=text(enum=FailureCode.values),
    message=text(),
    retryable={"type": "boolean", "description": "A new order may succeed."},
)
QUOTE = record(
    "A venue's answer at one block height.",
    venue=VENUE,
    curve=text("The kind of pool."),
    amountOut=amount("tokenOut"),
    minAmountOut=amount("tokenOut"),
    effectivePrice=decimal("tokenOut per tokenIn, fee included."),
    midPrice=decimal("tokenOut per tokenIn at the pool's spot."),
    priceImpact=decimal("A fraction, without the fee."),
    fee=amount("feeToken", "The pool's, not the network's."),
    feeToken=TOKEN,
    blockHeight=integer(),
)
QUOTE_FAILURE = record(
    "A venue that gave no quote, and why; with its pool, where that may take a part of the order.",
    optional=("curve", "midPrice", "blockHeight"),
    venue=VENUE,
    curve=text("The kind of pool."),
    midPrice=decimal("tokenOut per tokenIn at the pool's spot."),
    blockHeight=integer(),
    error=record(code=text(enum=FailureCode.values), detail=text()),
)
QUOTES = array({"anyOf": [ref("Quote"), ref("QuoteFailure")]})
ROUTE = record(
    "The decision, with everything it was made on.",
    venue=ROUTE_VENUE,
    strategy=text(enum=[strategy.value for strategy in Strategy]),
    reason=record(code=text(enum=[reason.value for reason in Reason]), text=text()),
    quotes=QUOTES,
    legs=array(
        record(
            venue=VENUE,
            amountIn=amount("tokenIn"),
            amountOut=amount("tokenOut"),
            minAmountOut=amount("tokenOut"),
        )
    ),
    expectedPrice=decimal("tokenOut per tokenIn."),
    expectedAmountOut=amount("tokenOut"),
    minAmountOut=amount("tokenOut"),
)
MILLISECONDS = nullable(integer())
LATENCIES = record(
    "Milliseconds in each stage of the last attempt that the order has left; `total` from its "
    "acceptance to its end, with all attempts.",
    queued=MILLISECONDS,
    routing=MILLISECONDS,
    building=MILLISECONDS,
    submitted=MILLISECONDS,
    total=MILLISECONDS,
)
ORDER = record(
    orderId=ORDER_ID,
    clientOrderId=nullable(CLIENT_ORDER_ID),
    orderType=text(enum=OrderType.values),
    tokenIn=TOKEN,
    tokenOut=TOKEN,
    amount=amount("tokenIn"),
    slippage=decimal("The tolerance, a fraction."),
    deadline=nullable(TIMESTAMP),
    status=text(enum=Status.values),
    seq=integer("Of the newest event.", minimum=1),
    attempt=integer("Counts from 1.", minimum=1),
    venue=nullable(ROUTE_VENUE),
    quotes=QUOTES | {"description": "Empty where no venue gave one: `failure` says why."},
    expectedPrice=nullable(decimal("tokenOut per tokenIn, as quoted.")),
    executedPrice=nullable(decimal("tokenOut per tokenIn, as filled.")),
    amountOut=nullable(amount("tokenOut")),
    minAmountOut=nullable(amount("tokenOut")),
    fee=nullable(amount("feeToken", "As quoted: a fee on the output is paid on what was filled.")),
    feeToken=nullable(TOKEN),
    priceImpact=nullable(decimal("A fraction, without the fee.")),
    realizedSlippage=nullable(
        decimal("The part of the quoted amount that did not arrive; negative when more arrived.")
    ),
    txHash=nullable(TX_HASH),
    failure=nullable(ref("Failure")),
    latencies=LATENCIES,
    createdAt=TIMESTAMP,
    updatedAt=TIMESTAMP,
    completedAt=nullable(TIMESTAMP),
)
ORDER_PAGE = record(
    results=array(ref("Order")),
    next=nullable(text("The next page's address.", format="uri")),
    previous=nullable(text("The previous page's address.", format="uri")),
)

# What an event carries, by its status.
REQUESTED = record(
    "The request, in the first event.",
    optional=("clientOrderId", "deadline"),
    orderType=text(enum=OrderType.values),
    tokenIn=TOKEN,
    tokenOut=TOKEN,
    amount=amount("tokenIn"),
    slippage=decimal("A fraction."),
    clientOrderId=CLIENT_ORDER_ID,
    deadline=TIMESTAMP,
)
RETRIED = record(
    "Queued again after a passing failure.",
    error=record(code=text(enum=FailureCode.values), message=text()),
    retryAt=TIMESTAMP,
)
FILLED = record(
    txHash=TX_HASH,
    venue=ROUTE_VENUE,
    executedPrice=decimal("tokenOut per tokenIn."),
    amountOut=amount("tokenOut"),
    realizedSlippage=decimal("A fraction."),
)
NOTHING = record()
EVENT_DATA: dict[Status, Schema] = {
    Status.ROUTING: NOTHING,
    Status.BUILDING: ref("Route"),
    Status.SUBMITTED: record(txHash=TX_HASH, venue=ROUTE_VENUE),
    Status.CONFIRMED: FILLED,
    Status.FAILED: record(code=text(enum=FailureCode.values), message=text()),
    Status.CANCELLED: record(
        "Who cancelled it. Events of before 2026-12 do not say.",
        optional=("by",),
        by=text(enum=["owner", "operator"]),
    ),
    Status.EXPIRED: NOTHING,
}


def event(status: Status, data: Schema, **first: Schema) -> Schema:
    """`first` has what differs in an order's first event."""
    return record(
        type=text(const="order.status"),
        orderId=ORDER_ID,
        seq=first.get("seq", integer("1, 2, 3 … without gap.", minimum=1)),
        status=text(const=status.value),
        previousStatus=first.get("previousStatus", text(enum=Status.values)),
        attempt=integer("Counts from 1.", minimum=1),
        timestamp=TIMESTAMP,
        replayed={"type": "boolean", "description": "Read from the store, not live."},
        data=data,
    )


FIRST: dict[str, Schema] = {"seq": integer() | {"const": 1}, "previousStatus": {"type": "null"}}
EVENTS = {
    "PlacedEvent": event(Status.PENDING, REQUESTED, **FIRST),
    "RetryEvent": event(Status.PENDING, RETRIED),
    **{f"{status.capitalize()}Event": event(status, data) for status, data in EVENT_DATA.items()},
}
EVENT = {
    "description": "The frame `order.status` of the WebSocket has the same fields.",
    "oneOf": [ref(name) for name in EVENTS],
}

STATS = record(
    queue=record(
        waiting=integer(),
        active=integer("In execution."),
        completed=integer("Confirmed."),
        failed=integer(),
        cancelled=integer(),
        expired=integer(),
    ),
    websocket=record(connections=integer("Open sockets of the whole fleet.")),
    limits=record(
        "Of the whole fleet; null is no limit.",
        concurrency=nullable(integer("Orders in execution at once.")),
        startsPerMinute=nullable(integer("First starts in any 60 s.")),
    ),
    starts=record(lastMinute=integer("First starts in the last 60 s; 10,000 are counted at most.")),
    workers=nullable(integer("Live worker processes, a few seconds old; null without Redis.")),
    trading=record(
        "While trading is halted no order is accepted and none that waits starts.",
        halted={"type": "boolean"},
        since=nullable(TIMESTAMP),
        reason=nullable(text("As the operator gave it.")),
    ),
)
BUCKET = record_of(
    {
        "at": TIMESTAMP | {"description": "Where the bucket begins."},
        **{status.value: integer() for status in TERMINAL},
        "p50Ms": nullable(integer("From acceptance to confirmation; null where none was.")),
        "p95Ms": nullable(integer()),
    }
)
WINDOW = (
    "Where the first bucket begins: `minutes` before `to`, or later where more than "
    f"{activity.MOST_ORDERS:,} orders have ended since; the newest are counted."
)
ACTIVITY = record_of(
    {
        "bucketSeconds": integer("The length of a bucket.", minimum=1),
        "from": TIMESTAMP | {"description": WINDOW},
        "to": TIMESTAMP | {"description": "Now."},
        "results": array(ref("ActivityBucket")),
    },
    "Buckets in which orders ended, the oldest first; the others are left out.",
)
CHECK = text(enum=["ok", "failed"])
HEALTH = record(
    status=text(enum=["ok", "unavailable"]),
    checks={
        "type": "object",
        "description": "`database`, `redis` and `worker`; `migrations` in place of `worker` for "
        "/health/ready; none for /health/live.",
        "additionalProperties": CHECK,
    },
)
PROBLEM = record(
    "RFC 9457 problem details.",
    type=text(pattern="^urn:orderengine:problem:[a-z-]+$"),
    title=text("The status in words."),
    status={"type": "integer", "minimum": 400, "maximum": 599},
    code=text(
        f"For programs: {', '.join(PROBLEM_CODES)}; more may be added.",
        pattern="^[A-Z_]+$",
        examples=["VALIDATION"],
    ),
    detail=text("For people."),
    requestId=text("As in the header X-Request-ID."),
    errors=array(
        record(
            pointer=text("The place in the body or the query (RFC 6901)."),
            code=text(f"For programs: {', '.join(FIELD_CODES)}; more may be added."),
            detail=text(),
        )
    ),
)

SCHEMAS: dict[str, Schema] = {
    "Accepted": ACCEPTED,
    "AcceptedBatch": record(results=array(ref("Accepted"))),
    "Ticket": record(ticket=text(minLength=1), expiresAt=TIMESTAMP),
    "Order": ORDER,
    "OrderPage": ORDER_PAGE,
    "Failure": FAILURE,
    "Quote": QUOTE,
    "QuoteFailure": QUOTE_FAILURE,
    "Route": ROUTE,
    "Event": EVENT,
    **EVENTS,
    "Events": record(results=array(ref("Event"))),
    "Stats": STATS,
    "Activity": ACTIVITY,
    "ActivityBucket": BUCKET,
    "Health": HEALTH,
    "Problem": PROBLEM,
}
