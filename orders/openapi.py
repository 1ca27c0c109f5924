"""The OpenAPI document of the REST API: what each operation takes, answers and refuses.

The views know nothing of it: their descriptions are attached here. Requests are read off the
serializers; answers are in `openapi_components.py`.
"""

from decimal import Decimal
from typing import Any, Final

from django.contrib.auth.views import redirect_to_login
from drf_spectacular.extensions import (
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
)
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import (
    OpenApiJsonRenderer,
    OpenApiJsonRenderer2,
    OpenApiYamlRenderer,
    OpenApiYamlRenderer2,
)
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
)
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.exceptions import NotAcceptable, NotAuthenticated
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from dex import tokens
from orders import metrics, problems, views
from orders.once import once
from orders.openapi_components import CLIENT_ORDER_ID, ORDER_ID, SCHEMAS, ref
from orders.serializers import (
    ActivitySerializer,
    AfterSeqSerializer,
    BatchRequestSerializer,
    OrderFilterSerializer,
    OrderRequestSerializer,
    QuoteRequestSerializer,
    SocketQuerySerializer,
)

HEADER: Final = "header"

# Requests ---------------------------------------------------------------------------------------

# A number above 0, and its exponent. asyncapi.yaml has the same.
POSITIVE = r"(0{0,39}[1-9][0-9]{0,39}(\.[0-9]{1,40})?|0{1,40}\.0{0,39}[1-9][0-9]{0,39})"
EXPONENT = r"[eE][+-]?[0-9]{1,3}"
# Whole basis points up to 0.5, without an exponent.
FRACTION = r"0{1,40}\.(([1-4][0-9]{0,3}|0[1-9][0-9]{0,2}|00[1-9][0-9]?|000[1-9])0{0,36}|50{0,39})"
MOMENT = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
    r"([Zz]|[+-][0-9]{2}:?[0-9]{2})?$"
)


class StrictExtension(OpenApiSerializerExtension):
    target_class = "orders.serializers.Strict"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        schema.pop("description", None)  # the docstring speaks to programmers
        for name, field in self.target.fields.items():
            if hasattr(field, "child"):  # drf-spectacular leaves the bounds of a list out
                bounds = {"minItems": field.min_length, "maxItems": field.max_length}
                schema["properties"][name] |= bounds
        return {**schema, "additionalProperties": False}


class TokenExtension(OpenApiSerializerFieldExtension):
    target_class = "orders.serializers.TokenField"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        symbols = ["".join(f"[{c}{c.lower()}]" for c in name) for name in tokens.BY_SYMBOL]
        names = "|".join([*symbols, *(token.mint for token in tokens.TOKENS)])
        return {
            "type": "string",
            "pattern": f"^({names})$",
            "description": "A symbol, in any case, or a mint.",
        }


class TimestampExtension(OpenApiSerializerFieldExtension):
    """Wider than `date-time`, which has a zone."""

    target_class = "orders.serializers.Timestamp"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        return {"type": "string", "pattern": MOMENT, "description": "UTC where it has no zone."}


class DecimalExtension(OpenApiSerializerFieldExtension):
    """A number, or a string where a client's numbers would lose digits."""

    target_class = "orders.serializers.DecimalNumber"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        if self.target.field_name == "slippage":
            return {
                "oneOf": [
                    {"type": "number", "minimum": 0.0001, "maximum": 0.5},
                    {"type": "string", "pattern": f"^({FRACTION}|{POSITIVE}{EXPONENT})$"},
                ],
                "description": "The tolerance: a fraction in whole basis points, above 0 and at "
                "most 0.5.",
            }
        return {
            "oneOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": f"^{POSITIVE}({EXPONENT})?$"},
            ],
            "description": "Whole tokens, with no more decimals than the token has; above 0 and "
            "at most 2^64 - 1 base units.",
        }


# Answers ----------------------------------------------------------------------------------------

REFUSALS = {
    400: "A field, a parameter or the JSON is not as described; `errors` says which, or `detail`.",
    401: "No credentials, or none that are known.",
    403: "A session without its CSRF token.",
    404: "There is no such thing, or it is somebody else's.",
    413: "The body is larger than 256 KiB.",
    415: "The body is not application/json, or it has a Content-Encoding.",
    426: "Without an Upgrade header.",
    429: "Too many requests.",
    500: "A fault of the engine; it was logged.",
    503: "PostgreSQL is away, no venue answers, or trading is halted (`TRADING_HALTED`). Ask "
    "again; an order is placed again with the same clientOrderId.",
}


def answer(name: str, description: str) -> OpenApiResponse:
    return OpenApiResponse(ref(name), description)


def refusals(*statuses: int, **described: str) -> dict[Any, OpenApiResponse]:
    """Those of every API operation, and those given: by number, or with words as `_409="why"`."""
    texts = {status: REFUSALS[status] for status in (401, 429, 500, 503, *statuses)}
    texts |= {int(name[1:]): why for name, why in described.items()}
    return {
        (status, problems.CONTENT_TYPE): OpenApiResponse(ref("Problem"), texts[status])
        for status in sorted(texts)
    }


BODY = (400, 403, 413, 415)
RETRY_AFTER = OpenApiParameter(
    "Retry-After", {"type": "string", "pattern": "^[0-9]+$"}, HEADER,
    description="Seconds.", response=[429, 503],
)  # fmt: skip
LOCATION = OpenApiParameter(
    "Location", {"type": "string", "format": "uri-reference"}, HEADER,
    description="The order.", required=True, response=[201],
)  # fmt: skip
REPLAYED = OpenApiParameter(
    "Idempotency-Replayed", {"type": "string", "enum": ["true"]}, HEADER,
    description="The order had been placed before: this is the first answer again.",
    response=[201],
)  # fmt: skip
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key", CLIENT_ORDER_ID, HEADER,
    description="Another way to give clientOrderId.",
)  # fmt: skip
ETAG = OpenApiParameter(
    "ETag", str, HEADER, description="Changes with every event.", required=True, response=[200, 304]
)
NOT_REUSED = OpenApiParameter(
    "Cache-Control", {"type": "string", "const": "private, no-cache"}, HEADER,
    description="Kept by the client alone, who asks each time.", required=True,
    response=[200, 304],
)  # fmt: skip
NOT_STORED = OpenApiParameter(
    "Cache-Control", {"type": "string", "const": "no-store"}, HEADER, required=True, response=[201]
)
IF_NONE_MATCH = OpenApiParameter("If-None-Match", str, HEADER, description="The ETag one has.")
THE_ORDER = OpenApiParameter("order_id", ORDER_ID, "path")

NO_CREDENTIALS: list[Any] = [{}]
SESSION_OR_NONE: list[Any] = [{"session": []}, {}]
MARKET = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5", "slippage": 0.01}
FULL = MARKET | {"orderType": "market", "clientOrderId": "my-order-1"}

# Operations -------------------------------------------------------------------------------------


def describe(view: type[APIView], **operations: Any) -> None:
    extend_schema_view(**operations)(view)


describe(
    views.ExecuteView,
    post=extend_schema(
        operation_id="placeOrder",
        tags=["orders"],
        summary="Place an order",
        description="Stored once for each clientOrderId: the same request again gets the first "
        "answer again.",
        request=OrderRequestSerializer,
        examples=[
            OpenApiExample("market order", MARKET, request_only=True),
            OpenApiExample("with a client order id", FULL, request_only=True),
        ],
        parameters=[IDEMPOTENCY_KEY, LOCATION, REPLAYED, RETRY_AFTER],
        responses={
            201: answer("Accepted", "Stored; it runs as soon as it can."),
            **refusals(*BODY, _409="The clientOrderId belongs to an order that asks for other."),
        },
    ),
    get=extend_schema(
        operation_id="openSocket",
        tags=["websocket"],
        summary="The WebSocket of order events",
        description="Connect with `?orderId=…&afterSeq=0` to get every event of an order; `ticket` "
        "is one of POST /api/tickets. What is wrong with them is said on the socket, by an `error` "
        "frame. /api/asyncapi.yaml describes the frames.",
        parameters=[
            SocketQuerySerializer,
            RETRY_AFTER,
            OpenApiParameter(
                "Upgrade", {"type": "string", "enum": ["websocket"]}, HEADER, response=[426]
            ),
        ],
        responses={
            101: OpenApiResponse(description="The WebSocket is open."),
            **refusals(426, _400="The handshake is malformed (`BAD_REQUEST`)."),
        },
    ),
)
describe(
    views.BatchView,
    post=extend_schema(
        operation_id="placeOrders",
        tags=["orders"],
        summary="Place up to a hundred orders, all of them or none",
        description="The pointer of an error has the order's place: `/orders/3/amount`. The "
        "Idempotency-Key header is refused: each order may have a clientOrderId.",
        request=BatchRequestSerializer,
        examples=[OpenApiExample("two orders", {"orders": [MARKET, FULL]}, request_only=True)],
        parameters=[REPLAYED, RETRY_AFTER],
        responses={
            201: answer("AcceptedBatch", "Stored, in the order given."),
            **refusals(*BODY, _409="A clientOrderId belongs to an order that asks for other."),
        },
    ),
)
describe(
    views.TicketsView,
    post=extend_schema(
        operation_id="createTicket",
        tags=["websocket"],
        summary="A ticket for `?ticket=` of the WebSocket's address, good once, for 30 s",
        request=None,
        parameters=[NOT_STORED, RETRY_AFTER],
        responses={201: answer("Ticket", "Not to be cached."), **refusals(403)},
    ),
)
describe(
    views.OrderListView,
    get=extend_schema(
        operation_id="listOrders",
        tags=["orders"],
        summary="Orders, newest first, in cursor pages",
        parameters=[OrderFilterSerializer, RETRY_AFTER],
        responses={200: answer("OrderPage", "A page."), **refusals(400)},
    ),
)
describe(
    views.OrderView,
    get=extend_schema(
        operation_id="getOrder",
        tags=["orders"],
        summary="An order",
        description="`attempt` is 2 as soon as the first has failed. What belongs to an attempt "
        "(venue, quotes, prices, fee, txHash, latencies) is that of the last: null or empty until "
        "it gets there. The events have all of them.",
        parameters=[THE_ORDER, IF_NONE_MATCH, ETAG, NOT_REUSED, RETRY_AFTER],
        responses={
            200: answer("Order", "The order."),
            304: OpenApiResponse(description="The client has it: nothing has happened since."),
            **refusals(404),
        },
    ),
)
describe(
    views.EventsView,
    get=extend_schema(
        operation_id="listEvents",
        tags=["orders"],
        summary="An order's events, as on the WebSocket",
        description="Those of all attempts.",
        parameters=[THE_ORDER, AfterSeqSerializer, RETRY_AFTER],
        responses={200: answer("Events", "In order, without gap."), **refusals(400, 404)},
    ),
)
describe(
    views.CancelView,
    post=extend_schema(
        operation_id="cancelOrder",
        tags=["orders"],
        summary="Cancel a waiting order",
        description="One that is cancelled already has left pending, too: ask for it to see which. "
        "It needs no body; one of JSON is to be an empty object, any other is not read.",
        request=None,
        parameters=[THE_ORDER, RETRY_AFTER],
        responses={
            200: answer("Order", "The order, cancelled."),
            **refusals(
                *BODY, 404, _409="It has left pending.", _415="The JSON has a Content-Encoding."
            ),
        },
    ),
)
describe(
    views.QuotesView,
    post=extend_schema(
        operation_id="quote",
        tags=["quotes"],
        summary="Every venue's quote and the route that would be taken now",
        description="Nothing is stored.",
        request=QuoteRequestSerializer,
        examples=[OpenApiExample("quote", MARKET, request_only=True)],
        parameters=[RETRY_AFTER],
        responses={
            200: answer("Route", "The route."),
            **refusals(
                *BODY,
                _400=f"{REFUSALS[400]} Or no pool fills the amount (`INSUFFICIENT_LIQUIDITY`).",
                _404="No venue trades the pair (`NO_ROUTE`).",
            ),
        },
    ),
)
describe(
    views.StatsView,
    get=extend_schema(
        operation_id="stats",
        tags=["engine"],
        summary="Orders by where they stand, limits, workers, sockets, whether trading is halted",
        description="Of the whole engine, all owners' orders.",
        parameters=[RETRY_AFTER],
        responses={200: answer("Stats", "Counts."), **refusals()},
    ),
)
describe(
    views.ActivityView,
    get=extend_schema(
        operation_id="activity",
        tags=["engine"],
        summary="Your orders of the last minutes by when and how they ended",
        parameters=[ActivitySerializer, RETRY_AFTER],
        responses={200: answer("Activity", "For a chart."), **refusals(400)},
    ),
)
describe(
    views.AsyncAPIView,
    get=extend_schema(
        operation_id="asyncapi",
        tags=["websocket"],
        summary="Every frame of the WebSocket, as AsyncAPI 3",
        auth=NO_CREDENTIALS,
        parameters=[RETRY_AFTER],
        responses={
            (200, "application/yaml"): OpenApiResponse({"type": "object"}, "AsyncAPI 3."),
            **{at: why for at, why in refusals().items() if at[0] in (429, 500)},
        },
    ),
)
describe(
    views.MetricsView,
    get=extend_schema(
        operation_id="metrics",
        tags=["engine"],
        summary="For Prometheus",
        auth=SESSION_OR_NONE,
        parameters=[RETRY_AFTER],
        responses={
            (200, metrics.CONTENT_TYPE): OpenApiResponse(str, "Its text format."),
            **refusals(_403="Neither staff nor in METRICS_ALLOW."),
        },
    ),
)
describe(
    views.HealthView,
    get=extend_schema(
        tags=["engine"],
        summary="Is the engine able to take and to run orders?",
        auth=NO_CREDENTIALS,
        responses={
            200: answer("Health", "Every check is ok."),
            503: answer("Health", "A check has failed."),
            (500, problems.CONTENT_TYPE): OpenApiResponse(ref("Problem"), REFUSALS[500]),
        },
    ),
)

# The document -----------------------------------------------------------------------------------

# One view serves three paths, which differ in the checks they make.
HEALTH = {
    "/health": ("health", "Is the engine able to take and to run orders?"),
    "/health/ready": ("healthReady", "Is this process able to take orders?"),
    "/health/live": ("healthLive", "Does this process answer? Depends on nothing else."),
}
SECURITY_SCHEMES = {
    "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "sessionid",
        "description": "A session of /admin/; anything but GET needs its CSRF token.",
    },
}
GIVEN_REQUEST_ID = {
    "name": "X-Request-ID",
    "in": HEADER,
    "description": "1 to 64 of `A-Za-z0-9_.:-`; any other is replaced.",
    "schema": {"type": "string"},
}
REQUEST_ID = {
    "description": "The request's X-Request-ID where it was well formed, else a new one.",
    "schema": {"type": "string"},
    "required": True,
}
SIGN_IN = {"description": "Bearer: an API key.", "schema": {"type": "string"}, "required": True}
# Where requests are limited (API_RATE_LIMIT), on the answers to those that are counted.
RATE_LIMIT = {
    f"RateLimit-{name}": {
        "description": f"{what} Not where requests are unlimited.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    }
    for name, what in {
        "Limit": "Requests of a full bucket.",
        "Remaining": "Requests that are left.",
        "Reset": "Seconds until the bucket is full.",
    }.items()
}


def complete(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """drf-spectacular's hook: what is the same for every operation, and names as in the JSON."""
    components = result["components"]
    components["schemas"] = dict(sorted({**components["schemas"], **SCHEMAS}.items()))
    components["securitySchemes"] = SECURITY_SCHEMES
    components["headers"] = {"X-Request-ID": REQUEST_ID, **RATE_LIMIT, "WWW-Authenticate": SIGN_IN}
    components["parameters"] = {"X-Request-ID": GIVEN_REQUEST_ID}
    for path, operations in result["paths"].items():
        for operation in operations.values():
            if path in HEALTH:
                operation["operationId"], operation["summary"] = HEALTH[path]
            parameters = operation.setdefault("parameters", [])
            for parameter in parameters:
                parameter["name"] = in_json(parameter["name"])
            parameters.append({"$ref": "#/components/parameters/X-Request-ID"})
            counted = RATE_LIMIT if "429" in operation["responses"] else ()
            for status, response in operation["responses"].items():
                if status == "101":
                    continue  # it has none of these
                sign_in = ["WWW-Authenticate"] if status == "401" else []
                headers = response.setdefault("headers", {})
                for name in ("X-Request-ID", *counted, *sign_in):
                    headers[name] = {"$ref": f"#/components/headers/{name}"}
    result["paths"] = {in_json(path): found for path, found in result["paths"].items()}
    completed: dict[str, Any] = plain(result)
    return completed


def plain(node: Any) -> Any:
    """The same in JSON and YAML, and without the marks that drf-spectacular leaves on enums."""
    if isinstance(node, dict):
        return {key: plain(part) for key, part in node.items() if key != "x-spec-enum-id"}
    if isinstance(node, list):
        return [plain(part) for part in node]
    return str(node) if isinstance(node, Decimal) else node


def in_json(name: str) -> str:
    return name.replace("order_id", "orderId")


@once  # drf-spectacular loads its extensions with the first, and not for two threads at once
def document() -> dict[str, Any]:
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return schema


class JSONUnlessAsked(DefaultContentNegotiation):
    """YAML for who asks for it, JSON for everyone else."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        renderers = list(renderers)
        try:
            return super().select_renderer(request, renderers, format_suffix)
        except NotAcceptable:
            return renderers[0], renderers[0].media_type


class RefusesInJSON(APIView):
    """For views that answer something else than JSON."""

    def handle_exception(self, exc: Exception) -> Response:
        renderer = JSONRenderer()
        self.request.accepted_renderer = renderer
        self.request.accepted_media_type = renderer.media_type
        return super().handle_exception(exc)


class SchemaView(RefusesInJSON):
    renderer_classes = [
        OpenApiJsonRenderer2,
        OpenApiJsonRenderer,
        OpenApiYamlRenderer2,
        OpenApiYamlRenderer,
    ]
    content_negotiation_class = JSONUnlessAsked

    @extend_schema(
        operation_id="schema",
        tags=["engine"],
        summary="This document",
        description="As JSON, or as YAML where Accept (its q aside) or `format` asks for it.",
        parameters=[
            OpenApiParameter("format", str, enum=["json", "yaml"]),
            RETRY_AFTER,
        ],
        responses={
            **{
                (200, renderer.media_type): OpenApiResponse({"type": "object"}, "OpenAPI 3.")
                for renderer in renderer_classes
            },
            **refusals(_404="There is no such format."),
        },
    )
    def get(self, request: Request) -> Response:
        return Response(document())


class DocsView(RefusesInJSON, SpectacularSwaggerSplitView):
    """Swagger UI, from files of this server."""

    template_name = "orders/docs.html"
    http_method_names = ("get", "head")  # an answer to OPTIONS would need a template

    def handle_exception(self, exc: Exception) -> Any:
        """A browser whose user is not signed in goes there; any other client is refused."""
        reads_pages = "text/html" in self.request.headers.get("Accept", "")
        if isinstance(exc, NotAuthenticated) and reads_pages:
            return redirect_to_login(self.request.get_full_path())
        return super().handle_exception(exc)

    @extend_schema(
        operation_id="docs",
        tags=["engine"],
        summary="This document as a page",
        parameters=[RETRY_AFTER],
        responses={
            (200, "text/html"): OpenApiResponse(str, "A page."),
            302: OpenApiResponse(description="To the sign-in, for a browser without one."),
            **refusals(),
        },
    )
    def get(self, request: Request) -> Response:
        page: Response = super().get(request)  # type: ignore[no-untyped-call]
        return page
