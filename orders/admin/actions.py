"""What operators do with the orders they selected: withdraw, hint again, take them along."""

import csv
import io
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import structlog
from asgiref.sync import sync_to_async
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse

from orders import claims, hints, pages, placement, render
from orders.admin.paging import WINDOW
from orders.events import iso
from orders.lifecycle import ClaimLost, IllegalTransition
from orders.models import Order, Status
from orders.problems import DATABASE_AWAY

log = structlog.get_logger(__name__)

MOST_CANCELLED = 1_000
MOST_EXPORTED = 10_000
EXPORTED_AT_ONCE = 500
NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
COLUMNS = (
    *("orderId", "clientOrderId", "owner", "orderType", "tokenIn", "tokenOut", "amount"),
    *("slippage", "status", "attempt", "venue", "expectedPrice", "executedPrice", "amountOut"),
    *("fee", "feeToken", "realizedSlippage", "txHash", "failureCode", "failureMessage"),
    *("createdAt", "completedAt"),
)


def chosen(request: HttpRequest, orders: QuerySet[Order], most: int) -> tuple[list[Order], bool]:
    """The orders to act on, and whether there are more.

    Of all that match the list's filters, those that wait: an index has them.
    """
    if request.POST.get("select_across") == "1":
        orders = orders.filter(status=Status.PENDING)
    found = list(orders[: most + 1])
    return found[:most], len(found) > most


def said(count: int, what: str) -> str:
    return f"1 order {what}" if count == 1 else f"{count:,} orders {what}"


def tell(request: HttpRequest, sentences: list[str], *, good: bool) -> None:
    text = "; ".join(sentences)
    messages.add_message(request, messages.SUCCESS if good else messages.WARNING, f"{text}.")


@admin.action(description="Cancel waiting orders", permissions=["operate"])
def cancel(model_admin: Any, request: HttpRequest, orders: QuerySet[Order]) -> None:
    found, more = chosen(request, orders, MOST_CANCELLED)
    cancelled, left, unknown = [], 0, False
    for order in found:
        try:
            placement.withdraw(order, by="operator")
        except (IllegalTransition, ClaimLost):
            left += 1
        except DATABASE_AWAY:
            unknown = True
            break
        else:
            cancelled.append(order)
            log.info("order.withdrawn", order_id=order.id, by=request.user.get_username())
    with suppress(*DATABASE_AWAY):  # the lines above have it, and the orders' events
        by = request.user.pk
        LogEntry.objects.log_actions(by, cancelled, CHANGE, "cancelled")  # type: ignore[arg-type]
    sentences = [said(len(cancelled), "cancelled")]
    if left:
        sentences.append(f"{said(left, 'had')} already left pending")
    if unknown:
        sentences.append("then PostgreSQL gave no answer: whether one more was is not known")
    elif more:
        sentences.append("more are waiting: do it again for the next ones")
    tell(request, sentences, good=bool(cancelled) and not unknown)


@admin.action(description="Hint again", permissions=["operate"])
def hint(model_admin: Any, request: HttpRequest, orders: QuerySet[Order]) -> None:
    found, more = chosen(request, orders, claims.MOST_HINTS)
    unfinished = [order for order in found if order.completed_at is None]
    sent = 0
    for order in unfinished:
        if not hints.send(order.id):
            break
        sent += 1
    sentences = [said(sent, "hinted")]
    if ended := len(found) - len(unfinished):
        sentences.append(f"{said(ended, 'had')} ended before")
    if sent < len(unfinished):
        sentences.append("Redis takes no more; the dispatcher hints the others when it is back")
    if more:
        sentences.append("more are waiting: these hints start them in turn")
    tell(request, sentences, good=sent > 0)


@admin.action(description="Export CSV", permissions=["view"])
def export(
    model_admin: Any, request: HttpRequest, orders: QuerySet[Order]
) -> StreamingHttpResponse:
    orders = orders.select_related("owner")
    across = request.POST.get("select_across") == "1"
    found = islice(walk(orders), MOST_EXPORTED) if across else orders
    headers = {"Content-Disposition": 'attachment; filename="orders.csv"'}
    return StreamingHttpResponse(
        streamed(lines(found)), content_type="text/csv; charset=utf-8", headers=headers
    )


def walk(orders: QuerySet[Order]) -> Iterator[Order]:
    """Newest first, a window at a time: no statement looks at more than WINDOW orders."""
    beyond = pages.HIGHEST
    while True:
        ids = Order.objects.filter(id__lt=beyond).order_by("-id").values_list("id", flat=True)
        end = next(iter(ids[WINDOW - 1 : WINDOW]), "")
        yield from orders.filter(id__lt=beyond, id__gte=end)[:MOST_EXPORTED]
        if not end:
            return
        beyond = end


def lines(orders: Iterable[Order]) -> Iterator[str]:
    """Of the file, several at a time."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    orders = iter(orders)
    while page := list(islice(orders, EXPORTED_AT_ONCE)):
        writer.writerows(map(row, page))
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


async def streamed(text: Iterator[str]) -> AsyncIterator[str]:
    """From the request's thread, where the database is asked."""
    following = sync_to_async(lambda: next(text, None))
    while (part := await following()) is not None:
        yield part


def row(order: Order) -> list[str]:
    shown = render.order_json(order, [])
    values: dict[str, Any] = {
        **shown,
        "owner": order.owner.get_username() if order.owner else None,
        "failureCode": order.failure_code,
        "failureMessage": order.failure_message,
        "createdAt": iso(order.created_at),
    }
    return [safe(values[name]) for name in COLUMNS]


def safe(value: Any) -> str:
    """No spreadsheet takes it for a formula."""
    text = "" if value is None else str(value)
    if text[:1] in {"=", "+", "-", "@", "\t", "\r"} and not NUMBER.fullmatch(text):
        return f"'{text}"
    return text
