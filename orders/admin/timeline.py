"""The events of an order as an operator reads them: what each step took, and what it decided on."""

import json
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from django.utils.safestring import SafeString

from dex.types import without_name
from orders.admin.badges import badge, seconds
from orders.models import IN_EXECUTION, Order, OrderEvent, Status

# What follows while nothing goes wrong.
PATH = [Status.PENDING, *IN_EXECUTION, Status.CONFIRMED]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One event. `took` is how long the order then stayed there; empty while it does, and at its
    end. `error` is why an attempt or the order failed.
    """

    event: OrderEvent
    badge: SafeString
    at: str
    took: str
    error: dict[str, Any]
    quotes: list[dict[str, Any]]
    raw: str


def steps(order: Order) -> list[Step]:
    """The events that happened, in order."""
    events = list(order.events.order_by("seq"))
    return [step(event, following) for event, following in zip_longest(events, events[1:])]


def still_to_come(order: Order) -> list[SafeString]:
    """The steps before the end of an order that has not ended."""
    if order.completed_at is not None:
        return []
    return [badge(status) for status in PATH[PATH.index(Status(order.status)) + 1 :]]


def step(event: OrderEvent, following: OrderEvent | None) -> Step:
    data = event.data
    return Step(
        event=event,
        badge=badge(event.status),
        at=f"{event.created_at:%H:%M:%S.%f}"[:-3],
        took="" if following is None else seconds(since(event, following)),
        error=data if event.status == Status.FAILED else data.get("error", {}),
        quotes=quotes(data),
        raw=json.dumps(data, indent=2, ensure_ascii=False),
    )


def since(event: OrderEvent, following: OrderEvent) -> float:
    """In seconds."""
    return (following.created_at - event.created_at).total_seconds()


def quotes(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers of the venues; `chosen` is what of the amount a venue was given, `refusal` what
    it said where it gave no quote."""
    legs = {leg["venue"]: leg["amountIn"] for leg in data.get("legs", [])}
    return [
        {**quote, "chosen": legs.get(quote["venue"]), "refusal": refusal(quote)}
        for quote in data.get("quotes", [])
    ]


def refusal(quote: dict[str, Any]) -> str:
    return without_name(quote["venue"], quote["error"]["detail"]) if "error" in quote else ""
