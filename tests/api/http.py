"""How the tests speak HTTP, and what every refusal must look like."""

import json
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client

from orders import database, keys, openapi_urls, urls
from orders.openapi_components import FIELD_CODES, PROBLEM_CODES

EXECUTE = "/api/orders/execute"
BATCH = "/api/orders/batch"
ORDER_ID = r"ord_\d{13}_[a-z0-9]{10}"
TIMESTAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
PROBLEM_MEMBERS = {"type", "title", "status", "code", "detail", "requestId", "errors"}
PASSWORD = "a long enough password"


def routes() -> dict[str, Any]:
    """The view class of every path of the API."""
    *others, documents = urls.urlpatterns
    found = {str(route.pattern): route for route in others}
    found |= {f"{documents.pattern}{each.pattern}": each for each in openapi_urls.urlpatterns}
    return {path: route.callback.view_class for path, route in found.items()}


def order_body(**changes: Any) -> dict[str, Any]:
    return {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5", **changes}


def post(client: Client, path: str, body: Any, **headers: str) -> HttpResponse:
    """`body` is sent as it is when it is text or bytes, else as JSON."""
    data = body if isinstance(body, str | bytes) else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, data, content_type="application/json", headers=named)


def execute(client: Client, body: Any = None, **headers: str) -> HttpResponse:
    return post(client, EXECUTE, order_body() if body is None else body, **headers)


def placed(client: Client, body: Any = None, **headers: str) -> str:
    """The id of an order that was accepted."""
    response = execute(client, body, **headers)
    assert response.status_code == 201, response.content
    order_id: str = response.json()["orderId"]
    return order_id


def problem(response: HttpResponse, status: int, code: str | None = None) -> dict[str, Any]:
    """The body of a refusal, after checking that it has the one shape."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = json.loads(response.content)
    assert set(body) == PROBLEM_MEMBERS
    assert body["status"] == status
    assert body["requestId"] == response["X-Request-ID"]
    assert all(body[member] for member in ("type", "title", "code", "detail"))
    assert all(set(error) == {"pointer", "code", "detail"} for error in body["errors"])
    assert body["code"] in PROBLEM_CODES
    assert {error["code"] for error in body["errors"]} <= set(FIELD_CODES)
    assert "Traceback" not in response.text
    if code is not None:
        assert body["code"] == code
    return body


def pointers(body: dict[str, Any]) -> set[str]:
    return {error["pointer"] for error in body["errors"]}


def stored_orders() -> list[str]:
    """As the engine's own connections see them, outside of any test transaction."""
    return [row["id"] for row in database.rows("SELECT id FROM orders_order ORDER BY id", {})]


def bearer(user: User) -> str:
    """An Authorization header with a new key of the user."""
    return f"Bearer {keys.create(user.pk)}"
