"""Trading halts: two buttons, and who pressed them when."""

from typing import Any

import psycopg
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path, reverse

from orders import trading
from orders.admin.badges import moment, seconds
from orders.admin.readonly import ReadOnlyAdmin
from orders.models import Halt

MAY_HALT = "orders.change_halt"
# Where the buttons are, and lead back to.
PAGES = {"order", "halt"}
AWAY = "PostgreSQL did not answer in time: look below whether trading is halted."


def banner(request: HttpRequest, page: str) -> dict[str, Any]:
    """What the banner of a page of PAGES shows."""
    return {
        "halt": trading.current(),
        "may_halt": request.user.has_perm(MAY_HALT),
        "longest_reason": trading.LONGEST_REASON,
        "page": page,
    }


@admin.register(Halt)
class HaltAdmin(ReadOnlyAdmin):
    list_display = ["halted", "halted_by", "reason", "resumed", "resumed_by", "lasted"]
    list_display_links = None
    list_per_page = 50
    show_full_result_count = False
    ordering = ["-id"]
    sortable_by = ()
    change_list_template = "admin/orders/trading.html"

    @admin.display(description="halted at (UTC)")
    def halted(self, halt: Halt) -> str | None:
        return moment(halt.halted_at)

    @admin.display(description="resumed at (UTC)")
    def resumed(self, halt: Halt) -> str | None:
        return moment(halt.resumed_at)

    @admin.display
    def lasted(self, halt: Halt) -> str | None:
        if halt.resumed_at is None:
            return None
        return seconds((halt.resumed_at - halt.halted_at).total_seconds())

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        return [
            path("now/", wrap(self.halt), name="orders_halt_now"),
            path("resume/", wrap(self.resume), name="orders_halt_resume"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        context = {"title": "Trading", **banner(request, "halt"), **(extra_context or {})}
        return super().changelist_view(request, context)

    def halt(self, request: HttpRequest) -> HttpResponse:
        if refusal := refused(request):
            return refusal
        reason = request.POST.get("reason", "")
        try:
            halt = trading.halt(request.user.get_username(), reason)
        except psycopg.OperationalError:
            messages.error(request, AWAY)
        else:
            if halt is None:
                messages.warning(request, "Trading was halted already.")
            else:
                self.log_change(request, halt, "halted trading")
        return back(request)

    def resume(self, request: HttpRequest) -> HttpResponse:
        if refusal := refused(request):
            return refusal
        try:
            halt = trading.resume(request.user.get_username())
        except psycopg.OperationalError:
            messages.error(request, AWAY)
        else:
            if halt is None:
                messages.warning(request, "Trading was not halted.")
            else:
                self.log_change(request, halt, "resumed trading")
                messages.success(request, "Trading is resumed.")
        return back(request)


def refused(request: HttpRequest) -> HttpResponse | None:
    """Raises PermissionDenied."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    if not request.user.has_perm(MAY_HALT):
        raise PermissionDenied
    return None


def back(request: HttpRequest) -> HttpResponse:
    page = request.POST.get("page", "")
    return HttpResponseRedirect(
        reverse(f"admin:orders_{page if page in PAGES else 'halt'}_changelist")
    )
