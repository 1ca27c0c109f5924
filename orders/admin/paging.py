"""Pages of all orders, newest first, at a cost that does not grow with their number.

Nothing is counted and nothing skipped: a page begins at the order that its address names. Where no
index has the filter's orders in order, a page looks at WINDOW orders and says how far it came.
"""

from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

from orders.lookups import ORDER_ID
from orders.models import IN_EXECUTION, NOT_CONFIRMED, Order, Status

WINDOW = 20_000
# An index has the orders of each of these in order.
INDEXED = (Status.PENDING, *IN_EXECUTION, *NOT_CONFIRMED)
BEFORE, AFTER = "before", "after"
# What the admin shows where it would show their number: "Select all matching orders".
UNCOUNTED: Any = "matching"


class OrderChangeList(ChangeList):
    """`?before=` or `?after=` an order id. `older` and `newer` are the addresses of the pages
    beside it, None where there is none; `looked_back_to` is set where WINDOW ended the page.
    """

    cursor: tuple[str, str] | None = None
    older: str | None = None
    newer: str | None = None
    looked_back_to: Order | None = None
    looked_at = WINDOW

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        for name in (BEFORE, AFTER):
            value = self.params.pop(name, "")
            self.filter_params.pop(name, None)
            if ORDER_ID.fullmatch(value):
                self.cursor = name, value
        return super().get_queryset(request, exclude_parameters)

    def get_ordering(self, request: HttpRequest, queryset: Any) -> list[Any]:
        return ["-id"]

    def get_results(self, request: HttpRequest) -> None:
        """A page, and one order more to know whether there is another."""
        back = self.cursor is not None and self.cursor[0] == AFTER
        end = self.window_end(back)
        found = self.of_status(self.beyond_cursor(self.queryset.order_by("id" if back else "-id")))
        if end is not None:
            found = found.filter(**{"id__lte" if back else "id__gte": end})
        page = list(found[: self.list_per_page + 1])
        more = len(page) > self.list_per_page
        page = page[: self.list_per_page]
        onward = page[-1].id if more else end
        if back:
            page.reverse()
        self.link(page, onward, back)
        if end is not None and not more and not back:
            self.looked_back_to = Order.objects.only("created_at").get(id=end)
        self.show(page, whole=self.cursor is None and onward is None)

    def window_end(self, back: bool) -> str | None:
        """The last order that this page looks at; None where that is no matter."""
        answered = {"created", *(["status__exact"] if self.status() else [])}
        if self.query or not set(self.params) - answered:
            return None
        base = self.of_status(self.beyond_cursor(Order.objects.order_by("id" if back else "-id")))
        return next(iter(base.values_list("id", flat=True)[WINDOW - 1 : WINDOW]), None)

    def status(self) -> str | None:
        """That of all orders that match, where an index has those in order."""
        if self.params.get("failure_code__exact"):
            return Status.FAILED
        status = self.params.get("status__exact")
        return status if status in INDEXED else None

    def of_status(self, orders: QuerySet[Order]) -> QuerySet[Order]:
        return orders.filter(status=status) if (status := self.status()) else orders

    def beyond_cursor(self, orders: QuerySet[Order]) -> QuerySet[Order]:
        if self.cursor is None:
            return orders
        way, order_id = self.cursor
        return orders.filter(**{"id__lt" if way == BEFORE else "id__gt": order_id})

    def link(self, page: list[Order], onward: str | None, back: bool) -> None:
        first = page[0].id if page else self.cursor and self.cursor[1]
        last = page[-1].id if page else self.cursor and self.cursor[1]
        if back:
            newer, older = onward, last
        else:
            newer, older = self.cursor and first, onward
        self.newer = self.get_query_string({AFTER: newer}) if newer else None
        self.older = self.get_query_string({BEFORE: older}) if older else None

    def show(self, page: list[Order], *, whole: bool) -> None:
        """What the admin's templates and actions ask for."""
        self.result_list = page
        self.result_count = len(page) if whole else UNCOUNTED
        # These differ where a search shall say how much it found.
        self.full_result_count = None if self.query and whole else self.result_count
        self.show_full_result_count = False
        self.show_admin_actions = bool(page)
        self.show_all = self.can_show_all = self.multi_page = False
        self.paginator = None  # asked where multi_page is true
