"""REST: each method translates in, calls once, translates out."""

from typing import Any

from django.http import Http404, HttpResponse
from django.utils.http import parse_etags
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from orders import (
    activity,
    asyncapi,
    health,
    intake,
    lookups,
    metrics,
    pages,
    presence,
    queries,
    render,
    tickets,
)
from orders.access import caller_of
from orders.coroutines import CoroutineView
from orders.models import Order
from orders.pages import BadCursor, Filter, Page
from orders.problems import FieldError, Problem
from orders.queries import Found
from orders.serializers import (
    ActivitySerializer,
    AfterSeqSerializer,
    ClientOrderId,
    OrderFilterSerializer,
    Strict,
    each_once,
)
from orders.threads import in_thread

CLIENT_ORDER_ID = ClientOrderId()


def owner_of(request: Request) -> int | None:
    return request.user.pk


def query_of(request: Request) -> dict[str, str]:
    """Raises ValidationError where a parameter is given twice."""
    given = request.query_params.lists()
    return each_once([(name, value) for name, values in given for value in values])


async def find_order(request: Request, order_id: str) -> Found:
    """The owner's order; somebody else's does not exist."""
    found = await lookups.order(order_id, owner_of(request))
    if found is None:
        raise Http404(f"There is no order {order_id}.")
    return found


class ExecuteView(CoroutineView):
    """POST places an order. GET is the WebSocket's, and needs an Upgrade."""

    repeatable = True

    async def post(self, request: Request) -> Response:
        placed = await intake.place(with_key(request), owner_of(request))
        headers = {"Location": f"/api/orders/{placed.order_id}"}
        if placed.replayed:
            headers["Idempotency-Replayed"] = "true"
        return Response(placed.as_json(), status=201, headers=headers)

    async def get(self, request: Request) -> Response:
        raise Problem(
            status=426,
            code="UPGRADE_REQUIRED",
            detail="This path speaks WebSocket; POST to place an order.",
            headers={"Upgrade": "websocket", "Connection": "Upgrade"},
        )


class BatchView(CoroutineView):
    """POST places all orders of the body, or none."""

    repeatable = True

    async def post(self, request: Request) -> Response:
        refuse_key(request)
        placed = await intake.place_batch(request.data, owner_of(request))
        replayed = all(order.replayed for order in placed)
        return Response(
            {"results": [order.as_json() for order in placed]},
            status=201,
            headers={"Idempotency-Replayed": "true"} if replayed else {},
        )


def refuse_key(request: Request) -> None:
    if "Idempotency-Key" in request.headers:
        detail = "Idempotency-Key names one order: give each order of a batch a clientOrderId."
        raise Problem(status=400, code="IDEMPOTENCY_KEY_ON_BATCH", detail=detail)


def with_key(request: Request) -> Any:
    """The body, with the Idempotency-Key header as its client order id."""
    key = request.headers.get("Idempotency-Key")
    if key is None or not isinstance(request.data, dict):
        return request.data
    if request.data.get("clientOrderId", key) != key:
        detail = "clientOrderId and the Idempotency-Key header differ: send one of them."
        error = FieldError(pointer="/clientOrderId", code="ambiguous", detail=detail)
        raise Problem(status=400, code="VALIDATION", detail=detail, errors=[error])
    try:
        CLIENT_ORDER_ID.run_validation(key)
    except ValidationError as error:  # no pointer: the body may have no such member
        sentence, *_ = error.detail
        detail = f"Idempotency-Key: {sentence}"
        raise Problem(status=400, code="VALIDATION", detail=detail) from None
    return {**request.data, "clientOrderId": key}


class CancelView(CoroutineView):
    async def post(self, request: Request, order_id: str) -> Response:
        if request.content_type.partition(";")[0].strip().lower() == "application/json":
            Strict(data=request.data).is_valid(raise_exception=True)  # it has no field
        waiting = await find_order(request, order_id)
        await in_thread(intake.withdraw, waiting.order)
        cancelled = await find_order(request, order_id)
        return Response(render.order_json(*cancelled))


class OrderView(CoroutineView):
    async def get(self, request: Request, order_id: str) -> Response:
        order, steps = await find_order(request, order_id)
        headers = {"ETag": etag(order), "Cache-Control": "private, no-cache"}
        if known_to_client(request, order):
            return Response(status=304, headers=headers)
        return Response(render.order_json(order, steps), headers=headers)


def etag(order: Order) -> str:
    """Weak: a newer release may show more of the same state."""
    return f'W/"{order.id}.{order.seq}"'


def known_to_client(request: Request, order: Order) -> bool:
    given = parse_etags(request.headers.get("If-None-Match", ""))
    return given == ["*"] or etag(order) in {f"W/{tag.removeprefix('W/')}" for tag in given}


class OrderListView(APIView):
    def get(self, request: Request) -> Response:
        query = OrderFilterSerializer(data=query_of(request))
        page = find_page(request, query.wanted(), query.validated_data)
        return Response(
            {
                "results": [render.order_json(*found) for found in page.found],
                "next": link(request, page.next),
                "previous": link(request, page.previous),
            }
        )


def find_page(request: Request, wanted: Filter, query: dict[str, Any]) -> Page:
    try:
        return pages.page(
            owner_of(request), wanted, limit=query["limit"], cursor=query.get("cursor")
        )
    except BadCursor:
        detail = "This is not a cursor of this list: take it from `next` or `previous`."
        raise ValidationError({"cursor": detail}, code="invalid_cursor") from None


def link(request: Request, cursor: str | None) -> str | None:
    """The address of the page at a cursor, with the same filters."""
    if cursor is None:
        return None
    return replace_query_param(request.build_absolute_uri(), "cursor", cursor)


class EventsView(CoroutineView):
    async def get(self, request: Request, order_id: str) -> Response:
        query = AfterSeqSerializer(data=query_of(request))
        query.is_valid(raise_exception=True)
        order, _ = await find_order(request, order_id)
        after = query.validated_data["afterSeq"]
        events = await in_thread(queries.events_after, order.id, order.owner_id, after)
        return Response({"results": [event.frame(replayed=True) for event in events]})


class QuotesView(APIView):
    """Every venue's quote and the route that would be taken now; nothing is stored."""

    def post(self, request: Request) -> Response:
        return Response(intake.quote(request.data))


class TicketsView(APIView):
    """For a browser, whose WebSocket cannot send an Authorization header."""

    def post(self, request: Request) -> Response:
        ticket = tickets.issue(caller_of(request))
        return Response(ticket.as_json(), status=201, headers={"Cache-Control": "no-store"})


class StatsView(APIView):
    def get(self, request: Request) -> Response:
        sockets = {"connections": presence.connections()}
        workers = presence.workers()
        return Response({**queries.stats(), "websocket": sockets, "workers": workers})


class ActivityView(APIView):
    """For the chart: the owner's orders of the last minutes by when and how they ended."""

    def get(self, request: Request) -> Response:
        query = ActivitySerializer(data=query_of(request))
        query.is_valid(raise_exception=True)
        return Response(activity.activity(owner_of(request), query.validated_data["minutes"]))


class AsyncAPIView(APIView):
    """What the WebSocket speaks. Served without a key, as any documentation."""

    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]

    def get(self, request: Request) -> HttpResponse:
        document = asyncapi.document(request.get_host(), secure=request.is_secure())
        return HttpResponse(document, content_type="application/yaml")


class MetricsView(APIView):
    permission_classes = [metrics.MayScrape]

    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(metrics.exposition(), content_type=metrics.CONTENT_TYPE)


class HealthView(CoroutineView):
    """Served without a key, as often as asked for: load balancers have none."""

    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]
    throttle_classes: list[Any] = []
    checks: dict[str, health.Check] = {}

    async def admit(self) -> None:
        """Nothing is asked of who asks."""
        self.initial(self.request)

    async def get(self, request: Request) -> Response:
        checks = await health.report(self.checks)
        healthy = set(checks.values()) <= {"ok"}
        body = {"status": "ok" if healthy else "unavailable", "checks": checks}
        return Response(body, status=200 if healthy else 503)
