"""Orders: found by what a client or the chain calls them, read-only, newest first."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from orders import queries, render
from orders.admin import actions, timeline
from orders.admin.badges import NO_BREAK_SPACE, badge, moment, seconds
from orders.admin.filters import CreatedFilter, VenueFilter
from orders.admin.halts import banner
from orders.admin.paging import OrderChangeList
from orders.admin.readonly import ReadOnlyAdmin
from orders.lookups import ORDER_ID
from orders.models import Order


@admin.register(Order)
class OrderAdmin(ReadOnlyAdmin):
    list_display = ["id", "state", "order", "created", "took", "route", "failure", "attempt"]
    list_filter = ["status", VenueFilter, "failure_code", CreatedFilter]
    show_facets = admin.ShowFacets.NEVER
    search_fields = ["id"]  # see get_search_results
    search_help_text = "order id, client order id, transaction hash or user name, whole"
    list_per_page = 50
    show_full_result_count = False
    sortable_by = ()
    actions = [actions.cancel, actions.hint, actions.export]
    change_list_template = "admin/orders/order/change_list.html"
    change_form_template = "admin/orders/order/change_form.html"
    fieldsets = [
        (None, {"fields": ["id", "state", "order", "slippage", "client_order_id", "owner"]}),
        (
            "Execution",
            {
                "fields": [
                    *("route", "expected_price", "executed_price", "received", "minimum"),
                    *("paid_fee", "realized_slippage", "transaction"),
                    *("failure", "failure_message"),
                ]
            },
        ),
        (
            "Engine",
            {
                "classes": ["collapse"],
                "fields": [
                    "attempt",
                    "fence",
                    "lease_until",
                    "next_attempt_at",
                    "request_id",
                    "took",
                ],
            },
        ),
    ]

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """For the actions that do something."""
        return request.user.has_perm("orders.change_order")

    def get_changelist(self, request: HttpRequest, **_: Any) -> type[OrderChangeList]:
        return OrderChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Order], search_term: str
    ) -> tuple[QuerySet[Order], bool]:
        if name := search_term.strip():
            ids = queries.ids_called(name)
            owner = None if ids else User.objects.filter(username=name).first()
            queryset = queryset.filter(owner=owner) if owner else queryset.filter(id__in=ids)
        return queryset, False

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        """By its address as it is: Django takes `_24` in an id for a `$` that its link escaped."""
        match = request.resolver_match
        typed = match.kwargs.get("object_id", "") if match else ""
        found = (
            super().get_object(request, typed, from_field) if ORDER_ID.fullmatch(typed) else None
        )
        return found or super().get_object(request, object_id, from_field)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        context = {"title": "Orders", **banner(request, "order"), **(extra_context or {})}
        return super().changelist_view(request, context)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        order = context["original"]
        context |= {
            "steps": timeline.steps(order),
            "still_to_come": timeline.still_to_come(order),
            "may_operate": self.has_operate_permission(request),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description="status")
    def state(self, order: Order) -> SafeString:
        return badge(order.status)

    @admin.display(description="order")
    def order(self, order: Order) -> str:
        paid = render.amount(order.token_in, order.amount_in)
        return f"{paid} {order.token_in} → {order.token_out}".replace(" ", NO_BREAK_SPACE)

    @admin.display(description="created (UTC)")
    def created(self, order: Order) -> str | None:
        return moment(order.created_at)

    @admin.display(description="venue")
    def route(self, order: Order) -> str:
        return order.venue or "-"

    @admin.display(description="failure code")
    def failure(self, order: Order) -> str:
        return order.failure_code or "-"

    @admin.display(description="slippage tolerance")
    def slippage(self, order: Order) -> str:
        return f"{order.slippage_bps} bps"

    @admin.display
    def expected_price(self, order: Order) -> str:
        return render.price(order, order.expected_amount_out) or "-"

    @admin.display
    def executed_price(self, order: Order) -> str:
        return render.price(order, order.amount_out) or "-"

    @admin.display(description="amount out")
    def received(self, order: Order) -> str:
        return of_token(render.amount(order.token_out, order.amount_out), order.token_out)

    @admin.display(description="minimum amount out")
    def minimum(self, order: Order) -> str:
        return of_token(render.amount(order.token_out, order.min_amount_out), order.token_out)

    @admin.display(description="fee")
    def paid_fee(self, order: Order) -> str:
        return of_token(render.amount(order.fee_token, order.fee), order.fee_token)

    @admin.display
    def realized_slippage(self, order: Order) -> str:
        return render.realized_slippage(order) or "-"

    @admin.display(description="transaction hash")
    def transaction(self, order: Order) -> SafeString:
        return format_html('<span class="order-long">{}</span>', order.tx_hash or "-")

    @admin.display
    def took(self, order: Order) -> str:
        if order.completed_at is None:
            return "-"
        took = seconds((order.completed_at - order.created_at).total_seconds())
        return took.replace(" ", NO_BREAK_SPACE)


def of_token(amount: str | None, symbol: str) -> str:
    return "-" if amount is None else f"{amount} {symbol}"
