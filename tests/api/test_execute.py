"""POST /api/orders/execute: what is accepted, and the answer."""

import re
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from dex import tokens
from orders import events
from orders.tasks import execute_order
from tests.api.http import EXECUTE, ORDER_ID, TIMESTAMP, execute, order_body, placed, stored_orders

pytestmark = pytest.mark.usefixtures("no_orders")


def stored(client: Client, order_id: str) -> dict[str, Any]:
    order: dict[str, Any] = client.get(f"/api/orders/{order_id}").json()
    return order


def test_the_answer_is_exactly_the_id_the_status_and_the_time(client: Client) -> None:
    before = datetime.now(UTC)

    response = execute(client)

    body = response.json()
    assert response.status_code == 201
    assert response["Content-Type"] == "application/json"
    assert set(body) == {"orderId", "status", "timestamp"}
    assert re.fullmatch(ORDER_ID, body["orderId"])
    assert body["status"] == "pending"
    assert re.fullmatch(TIMESTAMP, body["timestamp"])
    created_at = datetime.fromisoformat(body["timestamp"])
    assert abs(created_at - before) < timedelta(seconds=5)
    assert response["Location"] == f"/api/orders/{body['orderId']}"
    assert "Idempotency-Replayed" not in response


def test_the_order_is_found_where_location_says(client: Client) -> None:
    response = execute(client)

    assert client.get(response["Location"]).json()["orderId"] == response.json()["orderId"]


def test_the_order_is_stored_with_one_event_that_shows_the_request(client: Client) -> None:
    body = order_body(slippage=0.005, clientOrderId="mine-1", deadline="2099-01-01T02:00:00+02:00")

    order_id = placed(client, body)

    events = client.get(f"/api/orders/{order_id}/events").json()["results"]
    assert [(event["seq"], event["status"]) for event in events] == [(1, "pending")]
    assert events[0]["data"] == {
        "orderType": "market",
        "tokenIn": "SOL",
        "tokenOut": "USDC",
        "amount": "1.5",
        "slippage": "0.005",
        "clientOrderId": "mine-1",
        "deadline": "2099-01-01T00:00:00.000Z",
    }


def test_only_three_fields_are_needed(client: Client) -> None:
    order = stored(client, placed(client))

    assert (order["slippage"], order["orderType"], order["clientOrderId"]) == (
        "0.01", "market", None,
    )  # fmt: skip


@pytest.mark.parametrize("quotes", ["", '"'], ids=["number", "string"])
@pytest.mark.parametrize(
    ("token", "given", "answered"),
    [
        ("SOL", "1.5", "1.5"),
        ("SOL", "1.500", "1.5"),
        ("SOL", "100", "100"),
        ("SOL", "0.000000001", "0.000000001"),
        ("SOL", "0.1", "0.1"),
        ("SOL", "9007199.254740993", "9007199.254740993"),  # no double has this value
        ("SOL", "18446744073.709551615", "18446744073.709551615"),  # 2^64 - 1 lamports
        ("BONK", "184467440737095.51615", "184467440737095.51615"),
        ("USDC", "1.0000000000000000000000", "1"),
    ],
)
def test_a_decimal_is_taken_as_written(
    client: Client, token: str, given: str, answered: str, quotes: str
) -> None:
    other = "JUP"
    body = f'{{"tokenIn":"{token}","tokenOut":"{other}","amount":{quotes}{given}{quotes}}}'

    assert stored(client, placed(client, body))["amount"] == answered


@pytest.mark.parametrize(("given", "answered"), [("1e-9", "0.000000001"), ("1E2", "100")])
def test_a_json_number_may_have_an_exponent(client: Client, given: str, answered: str) -> None:
    body = f'{{"tokenIn":"SOL","tokenOut":"USDC","amount":{given}}}'

    assert stored(client, placed(client, body))["amount"] == answered


def test_a_token_is_given_by_its_symbol_or_its_mint(client: Client) -> None:
    order_id = placed(client, order_body(tokenIn=tokens.SOL.mint, tokenOut=tokens.BONK.mint))

    order = stored(client, order_id)
    assert (order["tokenIn"], order["tokenOut"]) == ("SOL", "BONK")


@pytest.mark.parametrize(
    ("given", "answered"),
    [("0.0001", "0.0001"), ("0.5", "0.5"), ("0.01", "0.01"), ("0.1234", "0.1234"), ("5e-1", "0.5")],
)
def test_slippage_is_whole_basis_points_up_to_a_half(
    client: Client, given: str, answered: str
) -> None:
    body = f'{{"tokenIn":"SOL","tokenOut":"USDC","amount":1,"slippage":{given}}}'

    assert stored(client, placed(client, body))["slippage"] == answered


@pytest.mark.parametrize("client_order_id", ["a", "A-Z_a.z:0-9", "x" * 64])
def test_a_client_order_id_is_kept_as_given(client: Client, client_order_id: str) -> None:
    order_id = placed(client, order_body(clientOrderId=client_order_id))

    assert stored(client, order_id)["clientOrderId"] == client_order_id


def test_the_client_names_the_request(client: Client) -> None:
    assert execute(client, X_Request_ID="trace.1:a-B_9")["X-Request-ID"] == "trace.1:a-B_9"


@pytest.mark.parametrize("given", ["", "has space", "x" * 65, "ä"])
def test_a_request_without_a_good_id_gets_one(client: Client, given: str) -> None:
    first, second = (execute(client, X_Request_ID=given)["X-Request-ID"] for _ in range(2))

    assert re.fullmatch(r"req_[0-9a-f]{16}", first)
    assert first != second != given


def test_redis_may_be_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(execute_order, "apply_async", lambda *_, **__: released.wait(30))

    def refused(waiting: object) -> None:
        raise ConnectionError("Redis is away")

    monkeypatch.setattr(events, "send", refused)
    order_ids, took = [], []
    for _ in range(3):
        started = time.monotonic()
        order_ids.append(placed(client))
        took.append(time.monotonic() - started)

    released.set()
    assert max(took) < 1
    assert stored_orders() == sorted(order_ids)


def test_getting_it_without_an_upgrade_says_what_the_path_is_for(client: Client) -> None:
    response = client.get(EXECUTE)

    assert response.status_code == 426
    assert response["Content-Type"] == "application/problem+json"
    assert response["Upgrade"] == "websocket"
    assert "Upgrade" in response["Connection"]


def test_an_amount_may_be_written_with_an_exponent(client: Client) -> None:
    for written in ("1E-9", "1e-9", "0.1E-8"):
        order_id = execute(client, order_body(amount=written)).json()["orderId"]
        assert client.get(f"/api/orders/{order_id}").json()["amount"] == "0.000000001"
