"""The OpenAPI document says what the API does: its paths, its answers, its refusals."""

import ast
import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from jsonschema import Draft202012Validator, FormatChecker
from psycopg_pool import PoolTimeout
from referencing import Registry, Resource
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.views import APIView

from dex.errors import OrderRejected, VenueUnavailable
from orders import database, execution, health, openapi, problems, serializers, trading, views
from orders.models import Status
from orders.openapi_components import PROBLEM_CODES
from tests import asyncapi as tests_asyncapi
from tests import factories
from tests.api.http import EXECUTE, bearer, execute, order_body, placed, post, problem, routes

pytestmark = pytest.mark.usefixtures("no_orders")

SCHEMA = "/api/schema"
DOCS = "/api/docs"
UNKNOWN = "ord_1700000000000_abcdefghij"
# What any answer may have, for browsers and caches.
OF_HTTP = {
    *("allow", "connection", "content-length", "content-security-policy"),
    *("content-type", "cross-origin-opener-policy", "referrer-policy", "vary"),
    *("x-content-type-options", "x-frame-options"),
}
METHODS = {"get", "put", "post", "delete", "patch"}


@cache
def closed_document() -> dict[str, Any]:
    """With no member allowed that is not described."""
    document = deepcopy(openapi.document())
    for schema in document["components"]["schemas"].values():
        close(schema)
    return document


def close(node: Any) -> None:
    if isinstance(node, dict):
        if "properties" in node:
            node.setdefault("additionalProperties", False)
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            close(part)


def validate(schema: dict[str, Any], body: Any) -> None:
    document = Resource.opaque(closed_document())
    absolute = {"$ref": f"urn:api{schema['$ref']}"} if "$ref" in schema else schema
    registry = Registry().with_resource("urn:api", document)
    Draft202012Validator(absolute, registry=registry, format_checker=FormatChecker()).validate(body)


def conforms(response: HttpResponse, method: str, path: str) -> Any:
    """The body, after checking status, type, headers and body against the operation."""
    operation = closed_document()["paths"][path][method]
    described = operation["responses"][str(response.status_code)]
    validate(described["content"][response["Content-Type"]]["schema"], response.json())
    components = closed_document()["components"]["headers"]
    headers = {
        name: components[name] if "$ref" in header else header
        for name, header in described["headers"].items()
    }
    for name, header in headers.items():
        assert name in response or not header.get("required"), name
        if name in response:
            validate(header["schema"], response[name])
    had = {name.lower() for name in response.headers}
    assert had - OF_HTTP <= {name.lower() for name in headers}
    return response.json()


def run(order_id: str, exchange: factories.StubExchange, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(execution, "exchange", lambda: exchange)
    execution.execute_order(order_id)


# The document ------------------------------------------------------------------------------------


def test_every_route_and_method_is_in_the_document_and_no_other() -> None:
    there = {
        ("/" + path.replace("<str:order_id>", "{orderId}"), method)
        for path, view in routes().items()
        for method in METHODS & set(dir(view))
    }

    described = {
        (path, method) for path, found in openapi.document()["paths"].items() for method in found
    }

    assert described == there


def test_an_operation_has_an_id_a_tag_and_a_summary() -> None:
    operations = [o for found in openapi.document()["paths"].values() for o in found.values()]

    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["tags"] and operation["summary"] for operation in operations)
    assert not [o for o in operations if "View" in o.get("description", "")]  # of a base class


def test_every_refusal_is_a_problem() -> None:
    for path, operations in openapi.document()["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400 and not (path.startswith("/health") and status == "503"):
                    assert list(response["content"]) == ["application/problem+json"]


def test_every_operation_but_health_and_two_names_the_credentials() -> None:
    others: dict[str, set[str]] = {"/api/asyncapi.yaml": set(), "/metrics": {"session"}}
    for path, operations in openapi.document()["paths"].items():
        for operation in operations.values():
            named = {name for scheme in operation["security"] for name in scheme}
            known = others.get(path, {"apiKey", "session"})
            assert named == (set() if path.startswith("/health") else known)


def test_every_operation_takes_a_request_id() -> None:
    for operations in openapi.document()["paths"].values():
        for operation in operations.values():
            assert {"$ref": "#/components/parameters/X-Request-ID"} in operation["parameters"]


def test_the_parameters_of_a_socket_are_those_that_are_read() -> None:
    operation = openapi.document()["paths"][EXECUTE]["get"]
    in_query = {each["name"] for each in operation["parameters"] if each.get("in") == "query"}

    assert in_query == set(serializers.SocketQuerySerializer().fields)
    assert {"101", "400", "426"} <= set(operation["responses"])
    assert "headers" not in operation["responses"]["101"]


def test_a_batch_has_bounds() -> None:
    orders = openapi.document()["components"]["schemas"]["BatchRequest"]["properties"]["orders"]

    assert (orders["minItems"], orders["maxItems"]) == (1, serializers.MOST_IN_BATCH)


def test_a_refusal_that_only_some_have_is_described() -> None:
    paths = openapi.document()["paths"]
    quote, cancel = paths["/api/quotes"]["post"], paths["/api/orders/{orderId}/cancel"]["post"]

    assert "INSUFFICIENT_LIQUIDITY" in quote["responses"]["400"]["description"]
    assert "Content-Encoding" in cancel["responses"]["415"]["description"]
    assert all(code in openapi.document()["info"]["description"] for code in ("400", "405", "431"))
    assert openapi.document()["servers"] == [{"url": "/"}]


def test_every_code_of_a_refusal_is_in_the_table_and_no_other() -> None:
    refusals = Path("docs/api.md").read_text().partition("## Refusals")[2]
    rows = re.findall(r"^\| (`[A-Z_`, ]+) \| ([0-9, ]+) \|", refusals, re.M)
    table = {
        (status, code)
        for codes, statuses in rows
        for code in re.findall("[A-Z_]+", codes)
        for status in statuses.split(", ")
    }

    assert table == refusals_in_the_source()
    frames = tests_asyncapi.SCHEMAS["Error"]["properties"]["code"]["description"]
    assert {code for _, code in table} == {*PROBLEM_CODES, *re.findall("[A-Z_]{4,}", frames)}


# What a refusal's status and code may be where the source works them out.
OF_STATUS = {(str(status), code) for status, code in problems.CODES.items()}
COMPUTED = {
    ("status", "CODES[status]"): OF_STATUS,
    ("status", "CODES.get(status, 'ERROR')"): OF_STATUS,
    ("503", "error.code"): {("503", "QUOTE_UNAVAILABLE")},
    ("status", "error.code"): {("400", "INSUFFICIENT_LIQUIDITY"), ("404", "NO_ROUTE")},
    ("code", "name"): {("400", "BAD_REQUEST"), ("405", "METHOD_NOT_ALLOWED")},
}


def refusals_in_the_source() -> set[tuple[str, str]]:
    """Status and code of each `Problem(…)`, and of what nginx answers by itself."""
    nginx = Path("orderengine/nginx.conf.template").read_text()
    found = set(re.findall(r'"status":(\d+),"code":"([A-Z_]+)"', nginx))
    for file in [*Path("orders").rglob("*.py"), *Path("orderengine").rglob("*.py")]:
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("Problem"):
                said = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
                pair = said["status"], said["code"]
                found |= COMPUTED.get(pair) or {(pair[0], pair[1].strip("'"))}
    return found


def test_the_examples_of_requests_are_accepted(client: Client) -> None:
    for path in (EXECUTE, "/api/orders/batch", "/api/quotes"):
        media = openapi.document()["paths"][path]["post"]["requestBody"]["content"]
        for example in media["application/json"]["examples"].values():
            validate(media["application/json"]["schema"], example["value"])
            assert post(client, path, example["value"]).status_code in {200, 201}


@pytest.mark.parametrize(
    "change",
    [
        {"amount": True},
        {"amount": "1,5"},
        {"amount": "-1"},
        {"amount": 0},
        {"amount": None},
        {"slippage": 0.6},
        {"slippage": 0},
        {"amount": "0"},
        {"amount": "0.00e5"},
        {"slippage": "0.00001"},
        {"slippage": "0.00015"},
        {"slippage": "0.6"},
        {"slippage": "0.5001"},
        {"slippage": "0e0"},
        {"slippage": 0.00001},
        {"deadline": "2999-01-01"},
        {"deadline": "2999-01-01T00:00:00+1"},
        {"tokenIn": "DOGE"},
        {"tokenOut": 5},
        {"orderType": "limit"},
        {"clientOrderId": "ä"},
        {"clientOrderId": "x" * 65},
        {"price": "1"},
    ],
    ids=str,
)
def test_what_the_document_refuses_the_api_refuses(client: Client, change: dict[str, Any]) -> None:
    body = order_body(**change)
    schema = openapi.document()["components"]["schemas"]["OrderRequest"]

    assert not Draft202012Validator(schema).is_valid(body)
    problem(execute(client, body), 400, "VALIDATION")


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 2},
        {"amount": 0.5},
        {"amount": "0.000000001"},
        {"slippage": "0.5"},
        {"slippage": "0.0001"},
        {"amount": "1e2"},
        {"amount": "0.1E+1"},
        {"amount": "007"},
        {"slippage": "0.010"},
        {"slippage": "1e-2"},
        {"slippage": "00.4999"},
        {"slippage": "0.50"},
        {"tokenIn": "wSol"},
        {"tokenOut": "usdt"},
        {"deadline": "2999-01-01T00:00"},
        {"deadline": "2999-01-01t00:00:00.123456789z"},
        {"deadline": "2999-01-01T00:00:00+0100"},
        {"tokenIn": "WSOL"},
        {"tokenIn": "So11111111111111111111111111111111111111112"},
        {"clientOrderId": "a.B:c-_9"},
        {"deadline": "2999-01-01T00:00:00Z"},
    ],
    ids=str,
)
def test_what_the_document_allows_the_api_takes(client: Client, change: dict[str, Any]) -> None:
    body = order_body(**change)
    schema = openapi.document()["components"]["schemas"]["OrderRequest"]

    assert Draft202012Validator(schema).is_valid(body)
    conforms(execute(client, body), "post", EXECUTE)


# Answers -----------------------------------------------------------------------------------------


def test_the_answer_to_an_order_and_its_repetition(client: Client) -> None:
    body = order_body(clientOrderId="mine")

    first = conforms(execute(client, body), "post", EXECUTE)

    again = execute(client, body)
    assert conforms(again, "post", EXECUTE) == first
    assert again["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("status", Status, ids=lambda status: status.value)
def test_an_order_in_every_state(client: Client, status: Status) -> None:
    order = factories.order_in(status)

    shown = conforms(client.get(f"/api/orders/{order.id}"), "get", "/api/orders/{orderId}")

    assert shown["status"] == status
    conforms(client.get("/api/orders"), "get", "/api/orders")


def test_an_order_that_was_retried_and_confirmed_with_its_events(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = placed(client, order_body(clientOrderId="mine", deadline="2999-01-01T00:00:00Z"))
    away = factories.StubExchange(route=VenueUnavailable("QUOTE_UNAVAILABLE", "no answer"))
    with pytest.raises(execution.RetryLater):
        run(order_id, away, monkeypatch)
    factories.make_due(order_id)
    run(order_id, factories.StubExchange(), monkeypatch)

    shown = conforms(client.get(f"/api/orders/{order_id}"), "get", "/api/orders/{orderId}")
    events = client.get(f"/api/orders/{order_id}/events")
    found = conforms(events, "get", "/api/orders/{orderId}/events")["results"]

    assert (shown["status"], shown["attempt"]) == ("confirmed", 2)
    assert shown["quotes"]
    assert [event["status"] for event in found] == [
        "pending", "routing", "pending", "routing", "building", "submitted", "confirmed",
    ]  # fmt: skip
    assert conforms(client.get("/api/orders"), "get", "/api/orders")["results"] == [shown]


def test_an_order_that_failed_with_its_events(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = placed(client)
    refused = OrderRejected("INSUFFICIENT_LIQUIDITY", "too large")
    run(order_id, factories.StubExchange(route=refused), monkeypatch)

    shown = conforms(client.get(f"/api/orders/{order_id}"), "get", "/api/orders/{orderId}")
    events = client.get(f"/api/orders/{order_id}/events")

    assert shown["failure"]["code"] == "INSUFFICIENT_LIQUIDITY"
    assert conforms(events, "get", "/api/orders/{orderId}/events")["results"][-1]["data"]["code"]


def test_a_cancelled_order_with_its_events(client: Client) -> None:
    order_id = placed(client)

    answer = client.post(f"/api/orders/{order_id}/cancel")

    assert conforms(answer, "post", "/api/orders/{orderId}/cancel")["status"] == "cancelled"
    events = client.get(f"/api/orders/{order_id}/events")
    conforms(events, "get", "/api/orders/{orderId}/events")


def test_pages_of_the_list(client: Client) -> None:
    for _ in range(3):
        placed(client)

    first = conforms(client.get("/api/orders?limit=1"), "get", "/api/orders")
    second = conforms(client.get(first["next"]), "get", "/api/orders")

    assert second["next"]
    assert second["previous"]


@pytest.mark.parametrize("amount", ["1.5", "20000"], ids=["one venue", "divided"])
def test_quotes(client: Client, amount: str) -> None:
    answer = post(client, "/api/quotes", order_body(amount=amount, slippage="0.5"))

    conforms(answer, "post", "/api/quotes")


def test_quotes_when_one_venue_has_none(client: Client) -> None:
    answer = post(client, "/api/quotes", {**order_body(), "tokenIn": "RAY", "tokenOut": "USDC"})

    conforms(answer, "post", "/api/quotes")


def test_stats(client: Client) -> None:
    placed(client)

    conforms(client.get("/api/orders/stats"), "get", "/api/orders/stats")
    trading.halt("alice", "a drill")
    conforms(client.get("/api/orders/stats"), "get", "/api/orders/stats")


def test_activity(client: Client) -> None:
    for status in (Status.CONFIRMED, Status.CANCELLED):
        factories.order_in(status)

    conforms(client.get("/api/orders/activity?minutes=1"), "get", "/api/orders/activity")


@pytest.mark.parametrize("path", ["/api/asyncapi.yaml", "/metrics"])
def test_what_is_no_json(client: Client, path: str) -> None:
    described = openapi.document()["paths"][path]["get"]["responses"]["200"]["content"]

    assert list(described) == [client.get(path)["Content-Type"]]


def test_a_ticket(client: Client) -> None:
    conforms(client.post("/api/tickets"), "post", "/api/tickets")


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/health/live"])
def test_health(client: Client, path: str) -> None:
    conforms(client.get(path), "get", path)


def test_ill_health(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "run", lambda name, check: health.Answer("failed", 0))

    response = client.get("/health")

    assert response.status_code == 503
    conforms(response, "get", "/health")


# Refusals ----------------------------------------------------------------------------------------


def test_refusals_of_an_order(client: Client) -> None:
    execute(client, order_body(clientOrderId="mine"))
    responses = [
        execute(client, {}),
        execute(client, "{"),
        execute(client, order_body(clientOrderId="mine", amount="2")),
        execute(client, b" " * 300_000),
        client.post(EXECUTE, "a=b", content_type="application/x-www-form-urlencoded"),
    ]

    assert [response.status_code for response in responses] == [400, 400, 409, 413, 415]
    for response in responses:
        conforms(response, "post", EXECUTE)


def test_refusals_of_reading(client: Client) -> None:
    one = "/api/orders/{orderId}"
    order_id = factories.order_in(Status.CONFIRMED).id

    conforms(client.get(EXECUTE), "get", EXECUTE)
    conforms(client.get(f"/api/orders/{UNKNOWN}"), "get", one)
    conforms(client.get(f"/api/orders/{UNKNOWN}/events"), "get", one + "/events")
    conforms(client.get(f"/api/orders/{order_id}/events?afterSeq=x"), "get", one + "/events")
    conforms(client.get("/api/orders?limit=0"), "get", "/api/orders")
    conforms(client.post(f"/api/orders/{UNKNOWN}/cancel"), "post", one + "/cancel")
    conforms(client.post(f"/api/orders/{order_id}/cancel"), "post", one + "/cancel")
    conforms(client.get(SCHEMA + "?format=xml"), "get", SCHEMA)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OrderRejected("NO_ROUTE", "no pool"), 404),
        (OrderRejected("INSUFFICIENT_LIQUIDITY", "too large"), 400),
        (VenueUnavailable("QUOTE_UNAVAILABLE", "no answer"), 503),
    ],
)
def test_refusals_of_quotes(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    stub = factories.StubExchange(route=error)
    monkeypatch.setattr("orders.intake.exchange", lambda: stub)

    response = post(client, "/api/quotes", order_body())

    assert response.status_code == status
    assert ("Retry-After" in response) == (status == 503)
    conforms(response, "post", "/api/quotes")


def test_refusals_while_postgresql_is_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise PoolTimeout("2 s")

    monkeypatch.setattr(database, "rows", away)

    for path in ("/api/orders", "/api/orders/stats"):
        response = client.get(path)
        assert response.status_code == 503
        conforms(response, "get", path)
    conforms(execute(client), "post", EXECUTE)


def test_refusals_of_a_stranger(client: Client, auth_required: None) -> None:
    for path in ("/api/orders", "/api/orders/stats", EXECUTE):
        response = client.get(path)
        assert response.status_code == 401
        conforms(response, "get", path)
    conforms(execute(client), "post", EXECUTE)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ('{"a":1}', {}, 400),
        ("[]", {}, 400),
        ("{", {}, 400),
        (" " * 300_000, {}, 413),
        ("{}", {"Content-Encoding": "gzip"}, 415),
    ],
)
def test_refusals_of_what_is_sent_with_a_cancel(
    client: Client, body: str, headers: dict[str, str], status: int
) -> None:
    address = f"/api/orders/{factories.place()}/cancel"

    answer = client.post(address, body, content_type="application/json", headers=headers)

    assert answer.status_code == status
    conforms(answer, "post", "/api/orders/{orderId}/cancel")


@pytest.mark.parametrize("content_type", ["text/plain", "application/json-patch+json"])
def test_what_is_sent_with_a_cancel_is_not_read_unless_it_is_json(
    client: Client, content_type: str
) -> None:
    answer = client.post(
        f"/api/orders/{factories.place()}/cancel", "nothing", content_type=content_type
    )

    assert answer.status_code == 200


def test_refusals_of_a_session_from_another_page(client: Client, alice: User) -> None:
    client.force_login(alice)

    response = execute(client)

    assert response.status_code == 403
    conforms(response, "post", EXECUTE)


def test_a_fault_of_ours(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "owner_of", lambda request: 1 / 0)

    response = client.get("/api/orders")

    assert response.status_code == 500
    conforms(response, "get", "/api/orders")


# Schema and page ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "accept", "media_type"),
    [
        ("", "*/*", "application/json"),
        ("", "text/html,*/*;q=0.8", "application/json"),
        ("", "image/png", "application/json"),
        ("", "application/yaml", "application/yaml"),
        ("", "application/vnd.oai.openapi+json", "application/vnd.oai.openapi+json"),
        ("?format=json", "*/*", "application/json"),
        ("?format=yaml", "*/*", "application/yaml"),
    ],
)
def test_the_document_is_json_or_yaml(
    client: Client, query: str, accept: str, media_type: str
) -> None:
    response = client.get(SCHEMA + query, headers={"Accept": accept})

    assert response.status_code == 200
    assert response["Content-Type"].partition(";")[0] == media_type
    assert media_type in openapi.document()["paths"][SCHEMA]["get"]["responses"]["200"]["content"]
    assert yaml.safe_load(response.content) == openapi.document()


def test_the_page_refers_to_no_other_host(client: Client) -> None:
    page = client.get(DOCS).text
    scripts = re.findall(r'(?:src|href)="([^"]*)"', page)
    own = [client.get(script).text for script in scripts if script.startswith(DOCS)]

    assert len(scripts) >= 4
    assert all(re.match(r"/[^/]", script) for script in scripts)
    assert len(own) == 1
    assert "//" not in re.sub(r"(?m)^\s*//.*$", "", own[0])
    assert '"validatorUrl": null' in own[0]
    assert f'url: "{SCHEMA}"' in own[0].replace("\\u002D", "-")


def test_the_page_is_only_read(client: Client) -> None:
    for method in ("options", "post", "put"):
        problem(getattr(client, method)(DOCS), 405, "METHOD_NOT_ALLOWED")


def test_a_stranger_gets_neither_document_nor_page(
    client: Client, auth_required: None, monkeypatch: pytest.MonkeyPatch, alice: User
) -> None:
    monkeypatch.setattr(openapi.DocsView, "permission_classes", APIView.permission_classes)

    for path in (SCHEMA, SCHEMA + "?format=yaml", DOCS):
        problem(client.get(path), 401, "NOT_AUTHENTICATED")
        known = client.get(path, headers={"Authorization": bearer(alice)})
        assert known.status_code == 200


def test_the_page_has_the_permissions_of_the_api() -> None:
    assert openapi.DocsView.permission_classes == APIView.permission_classes == [AllowAny]


def test_a_format_that_is_none_is_refused(client: Client) -> None:
    problem(client.get(f"{SCHEMA}?format=xml"), 404, "NOT_FOUND")


def test_a_browser_that_is_not_signed_in_is_sent_to_the_sign_in(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openapi.DocsView, "permission_classes", [IsAuthenticated])
    to_the_page = client.get(DOCS, headers={"Accept": "text/html,*/*;q=0.8"})
    assert (to_the_page.status_code, to_the_page["Location"]) == (302, f"/login?next={DOCS}")
    problem(client.get(DOCS), 401, "NOT_AUTHENTICATED")

    client.force_login(alice)

    assert client.get(DOCS, headers={"Accept": "text/html"}).status_code == 200
