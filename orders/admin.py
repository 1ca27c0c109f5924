"""What operators see. Orders are written by the engine only; API keys are made and revoked here."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from orders import keys, render
from orders.models import ApiKey, Order, OrderEvent

admin.site.site_header = admin.site.site_title = "Order Execution Engine"
admin.site.index_title = "Operations"
admin.site.enable_nav_sidebar = False  # the list needs the width

NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
EVENT_TABLE = (
    '<table class="order-events"><thead><tr><th>seq</th><th>status</th><th>attempt</th>'
    "<th>at</th><th>after</th><th>data</th></tr></thead><tbody>{}</tbody></table>"
)
EVENT_ROW = (
    "<tr><td>{}</td><td>{}</td><td>{}</td>"
    '<td class="time">{}</td><td class="time">{}</td><td class="order-long">{}</td></tr>'
)


def badge(status: str) -> SafeString:
    return format_html('<b class="order-status {}">{}</b>', status, status)


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    list_display = ["id", "state", "order", "venue", "attempt", "created", "took"]
    list_filter = ["status", "venue", "failure_code", "created_at"]
    search_fields = ["=id", "=client_order_id", "=tx_hash"]
    search_help_text = "order id, client order id or transaction hash, whole"
    ordering = ["-id"]
    list_per_page = 50
    show_full_result_count = False
    fieldsets = [
        (None, {"fields": ["id", "state", "order", "slippage", "client_order_id", "owner"]}),
        ("Events", {"fields": ["timeline"]}),
        (
            "Execution",
            {
                "fields": [
                    *("venue", "expected_price", "executed_price", "received", "minimum"),
                    *("paid_fee", "realized_slippage", "transaction"),
                    *("failure_code", "failure_message"),
                ]
            },
        ),
        ("Engine", {"fields": ["attempt", "fence", "lease_until", "next_attempt_at", "took"]}),
    ]

    class Media:
        css = {"all": ["orders/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="status", ordering="status")
    def state(self, order: Order) -> SafeString:
        return badge(order.status)

    @admin.display(description="order")
    def order(self, order: Order) -> str:
        paid = render.amount(order.token_in, order.amount_in)
        return f"{paid} {order.token_in} → {order.token_out}".replace(" ", NO_BREAK_SPACE)

    @admin.display(description="created", ordering="id")
    def created(self, order: Order) -> str:
        return f"{order.created_at:%Y-%m-%d %H:%M:%S}".replace(" ", NO_BREAK_SPACE)

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
        return of_token(render.amount(order.token_out, order.amount_out), order.token_out)

    @admin.display(description="minimum amount out")
    def minimum(self, order: Order) -> str | None:
        return of_token(render.amount(order.token_out, order.min_amount_out), order.token_out)

    @admin.display(description="fee")
    def paid_fee(self, order: Order) -> str | None:
        return of_token(render.amount(order.fee_token, order.fee), order.fee_token)

    @admin.display
    def realized_slippage(self, order: Order) -> str | None:
        return render.realized_slippage(order)

    @admin.display(description="transaction hash")
    def transaction(self, order: Order) -> SafeString:
        return format_html('<span class="order-long">{}</span>', order.tx_hash or "-")

    @admin.display(description="took")
    def took(self, order: Order) -> str | None:
        if order.completed_at is None:
            return None
        return f"{(order.completed_at - order.created_at).total_seconds():.2f} s"

    @admin.display(description="with the time since the one before")
    def timeline(self, order: Order) -> SafeString:
        events = list(order.events.order_by("seq"))
        rows = [
            row(event, before) for before, event in zip(events[:1] + events, events, strict=False)
        ]
        return format_html(EVENT_TABLE, format_html_join("", EVENT_ROW, rows))


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["prefix", "owner", "label", "created_at", "last_used_at", "revoked_at"]
    list_select_related = ["owner"]
    search_fields = ["=prefix", "=owner__username", "label"]
    ordering = ["-created_at"]
    actions = ["revoke"]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ["owner", "label"] if obj is None else self.list_display

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [] if obj is None else [name for name in self.list_display if name != "label"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # a revoked key stays, so that its prefix in a note still leads somewhere

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.new = keys.new_key()
            obj.prefix, obj.digest = obj.new.prefix, obj.new.digest
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The key itself, on this one page: a message would pass through a cookie or a row."""
        page = "admin/orders/apikey/created.html"
        context = {
            **self.admin_site.each_context(request),
            "title": f"API key {obj.prefix}",
            "key": obj,
            "text": obj.new.text,
        }
        return TemplateResponse(request, page, context)

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[ApiKey]) -> None:
        for key in chosen:
            keys.revoke(key.prefix)
            self.log_change(request, key, "revoked")


def of_token(amount: str | None, symbol: str) -> str | None:
    return None if amount is None else f"{amount} {symbol}"


def row(event: OrderEvent, before: OrderEvent) -> tuple[Any, ...]:
    after = (event.created_at - before.created_at).total_seconds()
    return (
        event.seq,
        badge(event.status),
        event.attempt,
        f"{event.created_at:%H:%M:%S.%f}"[:-3],
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
