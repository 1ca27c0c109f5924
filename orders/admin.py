"""Order inspection for operators. Orders are written by the engine only: nothing is editable."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from orders import render
from orders.events import iso
from orders.models import Order, OrderEvent

COLOURS = {
    "confirmed": "#1a7f37",
    "failed": "#cf222e",
    "cancelled": "#6e7781",
    "expired": "#6e7781",
    "pending": "#9a6700",
}
IN_EXECUTION_COLOUR = "#0969da"


def badge(status: str) -> SafeString:
    colour = COLOURS.get(status, IN_EXECUTION_COLOUR)
    return format_html('<b style="color:{}">{}</b>', colour, status)


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    list_display = ["id", "state", "pair", "amount", "venue", "attempt", "created_at", "took"]
    list_filter = ["status", "venue", "failure_code", "created_at"]
    search_fields = ["=id", "=client_order_id", "=tx_hash"]
    search_help_text = "order id, client order id or transaction hash, whole"
    ordering = ["-id"]
    list_per_page = 50
    show_full_result_count = False
    fieldsets = [
        (
            None,
            {"fields": ["id", "state", "pair", "amount", "slippage", "client_order_id", "owner"]},
        ),
        ("Events", {"fields": ["timeline"]}),
        (
            "Execution",
            {
                "fields": [
                    *(
                        "venue",
                        "expected_price",
                        "executed_price",
                        "received",
                        "minimum",
                        "paid_fee",
                    ),
                    *("realized_slippage", "tx_hash", "failure_code", "failure_message"),
                ]
            },
        ),
        ("Engine", {"fields": ["attempt", "seq", "fence", "lease_until", "next_attempt_at"]}),
        ("Times", {"fields": ["created_at", "started_at", "updated_at", "completed_at", "took"]}),
    ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="status", ordering="status")
    def state(self, order: Order) -> SafeString:
        return badge(order.status)

    @admin.display
    def pair(self, order: Order) -> str:
        return f"{order.token_in} → {order.token_out}"

    @admin.display
    def amount(self, order: Order) -> str:
        return f"{render.amount(order.token_in, order.amount_in)} {order.token_in}"

    @admin.display(description="slippage tolerance")
    def slippage(self, order: Order) -> str:
        return f"{order.slippage_bps} bps"

    @admin.display
    def expected_price(self, order: Order) -> str | None:
        return render.price(order, order.expected_amount_out)

    @admin.display
    def executed_price(self, order: Order) -> str | None:
        return render.price(order, order.amount_out)

    @admin.display(description="amount out")
    def received(self, order: Order) -> str | None:
        return render.amount(order.token_out, order.amount_out)

    @admin.display(description="minimum amount out")
    def minimum(self, order: Order) -> str | None:
        return render.amount(order.token_out, order.min_amount_out)

    @admin.display(description="fee")
    def paid_fee(self, order: Order) -> str | None:
        return (
            f"{render.amount(order.fee_token, order.fee)} {order.fee_token}" if order.fee else None
        )

    @admin.display
    def realized_slippage(self, order: Order) -> str | None:
        return render.realized_slippage(order)

    @admin.display(description="took")
    def took(self, order: Order) -> str | None:
        if order.completed_at is None:
            return None
        return f"{(order.completed_at - order.created_at).total_seconds():.2f} s"

    @admin.display(description="")
    def timeline(self, order: Order) -> SafeString:
        """Every event with the time since the one before it."""
        events = list(order.events.order_by("seq"))
        earlier = [events[0], *events] if events else []
        rows = [row(event, before) for before, event in zip(earlier, events, strict=False)]
        return format_html(
            "<table><thead><tr><th>seq</th><th>status</th><th>attempt</th><th>at</th>"
            "<th>after</th><th>data</th></tr></thead><tbody>{}</tbody></table>",
            format_html_join("", "<tr>" + "<td>{}</td>" * 6 + "</tr>", rows),
        )


def row(event: OrderEvent, before: OrderEvent) -> tuple[Any, ...]:
    after = (event.created_at - before.created_at).total_seconds()
    return (
        event.seq,
        badge(event.status),
        event.attempt,
        iso(event.created_at),
        f"{after:.3f} s",
        summary(event.data),
    )


def summary(data: dict[str, Any]) -> SafeString:
    """The data of an event as name and value; quotes one to a line."""
    lines = [(name, value) for name, value in data.items() if name != "quotes"]
    lines += [("quote", quote) for quote in data.get("quotes", [])]
    return format_html_join("", "<div><b>{}</b> {}</div>", [(n, flat(v)) for n, v in lines])


def flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {flat(inner)}" for name, inner in value.items())
    return str(value)
