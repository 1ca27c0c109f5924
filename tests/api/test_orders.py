"""Reading orders, their events, and cancelling."""

import re
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client

from dex.errors import OrderRejected
from dex.types import SwapState, SwapStatus
from dex.venues.registry import SIMULATED
from orders import database, execution
from orders.models import Status
from orders.parsing import MAX_BODY_BYTES
from tests import factories
from tests.api.http import ORDER_ID, TIMESTAMP, bearer, order_body, placed, pointers, post, problem

pytestmark = pytest.mark.usefixtures("no_orders")

UNKNOWN = "ord_1700000000000_abcdefghij"
# Each at the last microsecond of its own.
A_MILLISECOND_APART = """
UPDATE orders_order o SET created_at = first + n * interval '1 ms' + interval '999 us'
FROM (SELECT date_trunc('milliseconds', min(created_at)) AS first FROM orders_order) f,
    unnest(%(ids)s::text[]) WITH ORDINALITY placed(id, n)
WHERE o.id = placed.id RETURNING o.id
"""
MEMBERS = {
    "orderId",
    "clientOrderId",
    "orderType",
    "tokenIn",
    "tokenOut",
    "amount",
    "slippage",
    "status",
    "seq",
    "attempt",
    "venue",
    "quotes",
    "expectedPrice",
    "executedPrice",
    "amountOut",
    "minAmountOut",
    "fee",
    "priceImpact",
    "realizedSlippage",
    "txHash",
    "failure",
    "latencies",
    "createdAt",
    "updatedAt",
    "completedAt",
}
DECIMAL = r"-?\d+(\.\d+)?"


def get(client: Client, path: str) -> dict[str, Any]:
    response = client.get(path)
    assert response.status_code == 200, response.content
    assert response["Content-Type"] == "application/json"
    body: dict[str, Any] = response.json()
    return body


def listed(client: Client, query: str = "") -> list[str]:
    return [order["orderId"] for order in get(client, f"/api/orders{query}")["results"]]


# One order ---------------------------------------------------------------------------------------


def test_a_waiting_order_has_nothing_of_its_execution_yet(client: Client) -> None:
    order_id = placed(client, order_body(clientOrderId="mine"))

    order = get(client, f"/api/orders/{order_id}")

    assert set(order) >= MEMBERS
    assert (order["status"], order["seq"], order["attempt"]) == ("pending", 1, 1)
    assert order["quotes"] == []
    later = "venue expectedPrice executedPrice amountOut minAmountOut fee priceImpact"
    later += " realizedSlippage txHash failure completedAt"
    assert {order[name] for name in later.split()} == {None}
    assert re.fullmatch(TIMESTAMP, order["createdAt"])


def test_a_confirmed_order_tells_everything_of_its_execution(client: Client) -> None:
    order_id = placed(client)
    execution.execute_order(order_id)

    order = get(client, f"/api/orders/{order_id}")

    assert (order["status"], order["seq"], order["failure"]) == ("confirmed", 5, None)
    assert [quote["venue"] for quote in order["quotes"]] == list(SIMULATED)
    best = max(order["quotes"], key=lambda quote: float(quote["amountOut"]))
    assert order["venue"] == best["venue"]
    decimals = "expectedPrice executedPrice amountOut minAmountOut fee priceImpact realizedSlippage"
    assert all(re.fullmatch(DECIMAL, order[name]) for name in decimals.split())
    assert float(order["amountOut"]) >= float(order["minAmountOut"]) > 0
    assert order["txHash"]
    assert order["createdAt"] <= order["completedAt"] == order["updatedAt"]


def test_an_order_that_was_not_filled_has_paid_no_fee(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = SwapState(status=SwapStatus.FAILED, error_code="INSUFFICIENT_LIQUIDITY", error="")
    monkeypatch.setattr(execution, "exchange", lambda: factories.StubExchange(dead))
    order_id = placed(client)
    execution.execute_order(order_id)

    order = get(client, f"/api/orders/{order_id}")

    assert (order["status"], order["failure"]["code"]) == ("failed", "INSUFFICIENT_LIQUIDITY")
    assert (order["fee"], order["feeToken"], order["amountOut"]) == (None, None, None)
    assert order["expectedPrice"]


def test_a_failed_order_says_why(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    no_route = OrderRejected("NO_ROUTE", "no venue trades it")
    monkeypatch.setattr(execution, "exchange", lambda: factories.StubExchange(route=no_route))
    order_id = placed(client)
    execution.execute_order(order_id)

    order = get(client, f"/api/orders/{order_id}")

    assert order["status"] == "failed"
    assert order["failure"] == {
        "code": "NO_ROUTE", "message": "no venue trades it", "retryable": False,
    }  # fmt: skip
    assert re.fullmatch(TIMESTAMP, order["completedAt"])


def test_an_order_that_is_not_there_is_not_found(client: Client) -> None:
    for path in ("", "/events"):
        problem(client.get(f"/api/orders/{UNKNOWN}{path}"), 404, "NOT_FOUND")
    problem(post(client, f"/api/orders/{UNKNOWN}/cancel", {}), 404, "NOT_FOUND")


@pytest.mark.parametrize("order_id", ["x", "%00", "%FF", "ord_%F0%9F%98%80", "x" * 5000])
def test_what_is_no_order_id_is_not_found(client: Client, order_id: str) -> None:
    problem(client.get(f"/api/orders/{order_id}"), 404, "NOT_FOUND")
    problem(client.get(f"/api/orders/{order_id}/events"), 404, "NOT_FOUND")


def test_latencies_are_told_from_the_events(client: Client) -> None:
    order_id = placed(client)
    waiting = get(client, f"/api/orders/{order_id}")["latencies"]
    execution.execute_order(order_id)

    latencies = get(client, f"/api/orders/{order_id}")["latencies"]

    assert set(waiting) == {"queued", "routing", "building", "submitted", "total"}
    assert set(waiting.values()) == {None}
    events = get(client, f"/api/orders/{order_id}/events")["results"]
    times = [datetime.fromisoformat(event["timestamp"]) for event in events]
    spent = [(after - before) / timedelta(milliseconds=1) for before, after in pairwise(times)]
    assert list(latencies.values()) == [*spent, sum(spent)]


def test_the_list_asks_once_for_all_orders(client: Client, asked: list[str]) -> None:
    for _ in range(3):
        execution.execute_order(placed(client))
    asked.clear()

    found = get(client, "/api/orders")["results"]

    assert len(found) == 3
    assert len(asked) == 1


# What a client knows already ---------------------------------------------------------------------


def unless(client: Client, order_id: str, tags: str) -> HttpResponse:
    return client.get(f"/api/orders/{order_id}", headers={"If-None-Match": tags})


def test_an_order_that_the_client_has_is_not_sent_again(client: Client) -> None:
    order_id = placed(client)
    first = client.get(f"/api/orders/{order_id}")

    again = unless(client, order_id, first["ETag"])

    assert (again.status_code, again.content) == (304, b"")
    assert "Content-Length" not in again  # it would be the length of what was not sent
    assert again["ETag"] == first["ETag"]
    assert again["Cache-Control"] == first["Cache-Control"] == "private, no-cache"
    assert "X-Request-ID" in again


def test_an_order_that_has_moved_on_is_sent_again(client: Client) -> None:
    order_id = placed(client)
    known = client.get(f"/api/orders/{order_id}")["ETag"]
    execution.execute_order(order_id)

    response = unless(client, order_id, known)

    assert (response.status_code, response.json()["status"]) == (200, "confirmed")
    assert response["ETag"] != known


@pytest.mark.parametrize(
    ("tags", "status"),
    [
        ("*", 304),
        ("TAG", 304),
        ("STRONG", 304),
        ('"other", TAG', 304),
        ("", 200),
        ('"other"', 200),
        ("nonsense", 200),
        ('W/"', 200),
    ],
)
def test_any_of_the_tags_may_match(client: Client, tags: str, status: int) -> None:
    order_id = placed(client)
    tag = client.get(f"/api/orders/{order_id}")["ETag"]
    given = tags.replace("TAG", tag).replace("STRONG", tag.removeprefix("W/"))

    assert unless(client, order_id, given).status_code == status


def test_two_orders_have_two_tags(client: Client) -> None:
    tags = {client.get(f"/api/orders/{placed(client)}")["ETag"] for _ in range(2)}

    assert len(tags) == 2


def test_a_tag_does_not_tell_that_somebody_else_s_order_is_there(
    client: Client, alice: User
) -> None:
    order_id = placed(client, Authorization=bearer(alice))

    problem(unless(client, order_id, f'W/"{order_id}.1"'), 404, "NOT_FOUND")


# Events ------------------------------------------------------------------------------------------


def test_the_events_are_those_of_the_websocket(client: Client) -> None:
    order_id = placed(client)
    execution.execute_order(order_id)

    events = get(client, f"/api/orders/{order_id}/events")["results"]

    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5]
    path = ["pending", "routing", "building", "submitted", "confirmed"]
    assert [event["status"] for event in events] == path
    assert [event["previousStatus"] for event in events] == [None, *path[:-1]]
    for event in events:
        assert set(event) == {
            "type", "orderId", "seq", "status", "previousStatus", "attempt", "timestamp",
            "replayed", "data",
        }  # fmt: skip
        assert (event["type"], event["orderId"]) == ("order.status", order_id)
        assert (event["attempt"], event["replayed"]) == (1, True)
        assert re.fullmatch(TIMESTAMP, event["timestamp"])


def test_the_events_carry_the_data_of_their_step(client: Client) -> None:
    order_id = placed(client)
    execution.execute_order(order_id)

    events = get(client, f"/api/orders/{order_id}/events")["results"]
    _, _, building, submitted, confirmed = [event["data"] for event in events]

    order = get(client, f"/api/orders/{order_id}")
    assert building["venue"] == confirmed["venue"] == order["venue"]
    assert building["quotes"] == order["quotes"]
    assert building["reason"]["code"] in {"BEST_PRICE", "TIE_LOWER_FEE"}
    assert order["venue"].capitalize() in building["reason"]["text"]
    assert submitted["txHash"] == confirmed["txHash"] == order["txHash"]
    assert confirmed["executedPrice"] == order["executedPrice"]
    assert confirmed["amountOut"] == order["amountOut"]


@pytest.mark.parametrize(("after", "seqs"), [(0, [1, 2, 3, 4, 5]), (3, [4, 5]), (5, []), (99, [])])
def test_only_events_after_a_seq_are_asked_for(client: Client, after: int, seqs: list[int]) -> None:
    order_id = placed(client)
    execution.execute_order(order_id)

    events = get(client, f"/api/orders/{order_id}/events?afterSeq={after}")["results"]

    assert [event["seq"] for event in events] == seqs


@pytest.mark.parametrize("value", ["-1", "x", "", "1.5", "99999999999999999999"])
def test_an_after_seq_that_is_none_is_refused(client: Client, value: str) -> None:
    response = client.get(f"/api/orders/{placed(client)}/events?afterSeq={value}")

    assert pointers(problem(response, 400, "VALIDATION")) == {"/afterSeq"}


def test_an_unknown_query_parameter_of_events_is_refused(client: Client) -> None:
    response = client.get(f"/api/orders/{placed(client)}/events?after=1")

    assert pointers(problem(response, 400, "VALIDATION")) == {"/after"}


# Cancelling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{"reason": "late"}, []])
def test_a_cancel_says_nothing_else(client: Client, body: Any) -> None:
    order_id = placed(client)

    said = post(client, f"/api/orders/{order_id}/cancel", body)

    assert "known are ." not in problem(said, 400, "VALIDATION")["detail"]
    assert get(client, f"/api/orders/{order_id}")["status"] == "pending"
    assert post(client, f"/api/orders/{order_id}/cancel", {}).status_code == 200


def test_what_is_too_long_for_a_cancel_is_refused(client: Client) -> None:
    body = b'"' + b"x" * MAX_BODY_BYTES + b'"'

    said = client.post(
        f"/api/orders/{placed(client)}/cancel", body, content_type="Application/JSON"
    )

    problem(said, 413, "TOO_LARGE")


def test_a_waiting_order_is_cancelled(client: Client) -> None:
    order_id = placed(client)

    response = client.post(f"/api/orders/{order_id}/cancel")

    answer = response.json()
    assert response.status_code == 200
    assert (answer["orderId"], answer["status"], answer["seq"]) == (order_id, "cancelled", 2)
    assert answer == get(client, f"/api/orders/{order_id}")
    events = get(client, f"/api/orders/{order_id}/events")["results"]
    assert [event["status"] for event in events] == ["pending", "cancelled"]
    assert events[-1]["data"] == {"by": "owner"}


def test_a_cancelled_order_is_not_executed(client: Client) -> None:
    order_id = placed(client)
    client.post(f"/api/orders/{order_id}/cancel")

    execution.execute_order(order_id)

    assert get(client, f"/api/orders/{order_id}")["status"] == "cancelled"


@pytest.mark.parametrize("status", [status for status in Status if status != "pending"])
def test_an_order_that_has_left_pending_is_not_cancelled(client: Client, status: Status) -> None:
    order_id = factories.order_in(status).id
    before = get(client, f"/api/orders/{order_id}/events")

    problem(client.post(f"/api/orders/{order_id}/cancel"), 409)

    assert factories.load(order_id).status == status
    assert get(client, f"/api/orders/{order_id}/events") == before


# Lists -------------------------------------------------------------------------------------------


def test_the_list_is_newest_first(client: Client) -> None:
    order_ids = [factories.place() for _ in range(5)]

    found = get(client, "/api/orders")

    assert set(found) == {"results", "next", "previous"}
    assert (found["next"], found["previous"]) == (None, None)
    newest_first = [order["orderId"] for order in found["results"]]
    assert newest_first == sorted(order_ids, reverse=True)
    assert all(re.fullmatch(ORDER_ID, order_id) for order_id in newest_first)


def test_the_list_has_the_whole_orders(client: Client) -> None:
    order_id = placed(client)
    execution.execute_order(order_id)

    assert get(client, "/api/orders")["results"] == [get(client, f"/api/orders/{order_id}")]


def test_an_empty_list_is_a_list(client: Client) -> None:
    assert get(client, "/api/orders") == {"results": [], "next": None, "previous": None}


@pytest.mark.parametrize(
    ("query", "matching"),
    [
        ("status=pending", {"waiting", "bonk"}),
        ("status=confirmed", {"done"}),
        ("status=expired", set()),
        ("tokenIn=BONK", {"bonk"}),
        ("tokenIn=So11111111111111111111111111111111111111112", {"waiting", "done", "withdrawn"}),
        ("tokenOut=SOL", {"bonk"}),
        ("venue=VENUE", {"done"}),
        ("orderType=market", {"waiting", "done", "withdrawn", "bonk"}),
        ("clientOrderId=mine:1", {"waiting"}),
        ("clientOrderId=mine", set()),
        ("status=pending&tokenIn=SOL", {"waiting"}),
        ("createdAfter=2000-01-01T00:00:00Z", {"waiting", "done", "withdrawn", "bonk"}),
        ("createdAfter=2099-01-01T00:00:00Z", set()),
        ("createdBefore=2099-01-01T00:00:00Z", {"waiting", "done", "withdrawn", "bonk"}),
        ("createdBefore=2000-01-01T00:00:00Z", set()),
        ("createdAfter=0001-01-01T00:00:00Z", {"waiting", "done", "withdrawn", "bonk"}),
        ("createdBefore=9999-12-31T23:59:59Z", {"waiting", "done", "withdrawn", "bonk"}),
        ("createdAfter=2000-01-01T00:00:00Z&status=pending", {"waiting", "bonk"}),
        ("createdAfter=2099-01-01T00:00:00Z&status=pending", set()),
        ("tokenIn=SOL&tokenOut=SOL", set()),
        ("tokenIn=SOL&tokenOut=USDC&status=cancelled&orderType=market", {"withdrawn"}),
        ("clientOrderId=mine:1&status=pending&tokenIn=SOL", {"waiting"}),
        ("clientOrderId=mine:1&status=failed", set()),
        ("clientOrderId=mine:1&createdAfter=2099-01-01T00:00:00Z", set()),
        ("clientOrderId=mine:1&createdBefore=2099-01-01T00:00:00Z", {"waiting"}),
    ],
)
def test_a_filter_finds_the_orders_it_names(client: Client, query: str, matching: set[str]) -> None:
    made = {
        "waiting": placed(client, order_body(clientOrderId="mine:1")),
        "done": placed(client),
        "withdrawn": placed(client),
        "bonk": placed(client, order_body(tokenIn="BONK", tokenOut="SOL", amount=5)),
    }
    execution.execute_order(made["done"])
    client.post(f"/api/orders/{made['withdrawn']}/cancel")
    venue = get(client, f"/api/orders/{made['done']}")["venue"]

    found = listed(client, "?" + query.replace("VENUE", venue))

    assert set(found) == {made[name] for name in matching}


def test_no_other_venue_has_the_order(client: Client) -> None:
    order_id = placed(client)
    execution.execute_order(order_id)
    venue = get(client, f"/api/orders/{order_id}")["venue"]

    assert venue in SIMULATED
    for other in {*SIMULATED, "split"} - {venue}:
        assert listed(client, f"?venue={other}") == []


@pytest.mark.parametrize("kind", ["", "&status=pending", "&clientOrderId=middle"])
def test_a_shown_time_parts_the_list(client: Client, kind: str) -> None:
    oldest, middle, newest = (
        placed(client, order_body(clientOrderId=name)) for name in ("oldest", "middle", "newest")
    )
    database.rows(A_MILLISECOND_APART, {"ids": [oldest, middle, newest]})
    moment = get(client, f"/api/orders/{middle}")["createdAt"]

    after = listed(client, f"?createdAfter={moment}{kind}")
    before = listed(client, f"?createdBefore={moment}{kind}")

    assert (after, before) == (([], []) if "client" in kind else ([newest], [oldest]))


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("status=done", "/status"),
        ("status=", "/status"),
        ("tokenIn=DOGE", "/tokenIn"),
        ("tokenOut=", "/tokenOut"),
        ("venue=nowhere", "/venue"),
        ("orderType=limit", "/orderType"),
        ("clientOrderId=a%20b", "/clientOrderId"),
        ("clientOrderId=%00", "/clientOrderId"),
        ("createdAfter=yesterday", "/createdAfter"),
        ("createdBefore=5", "/createdBefore"),
        ("limit=0", "/limit"),
        ("limit=-1", "/limit"),
        ("limit=201", "/limit"),
        ("limit=ten", "/limit"),
        ("limit=1_0", "/limit"),
        ("limit=5.0", "/limit"),
        ("limit=+5", "/limit"),
        ("limit=%D9%A5", "/limit"),
        ("limit=1%0a", "/limit"),
        ("createdAfter=2099-01-01", "/createdAfter"),
        ("limit=", "/limit"),
        ("offset=10", "/offset"),
        ("Status=pending", "/Status"),
        ("status=pending&status=failed", "/status"),
    ],
)
def test_a_query_that_means_nothing_is_refused(client: Client, query: str, pointer: str) -> None:
    assert pointers(problem(client.get(f"/api/orders?{query}"), 400, "VALIDATION")) == {pointer}


@pytest.mark.parametrize("cursor", ["abc", "%00", "cD0lMDA%3D", "cD0lRUQlQTAlODA%3D", "%C3%A9"])
def test_a_cursor_of_somebody_s_own_making_does_no_harm(client: Client, cursor: str) -> None:
    response = client.get(f"/api/orders?cursor={cursor}")

    if response.status_code != 200:
        assert response.status_code in {400, 404}
        problem(response, response.status_code)


@pytest.mark.parametrize("junk", ["!{}!", "{}=", " {}", "{}%0a"])
def test_a_cursor_with_something_around_it_is_none(client: Client, junk: str) -> None:
    for _ in range(2):
        factories.place()
    cursor = parse_qs(urlsplit(get(client, "/api/orders?limit=1")["next"]).query)["cursor"][0]

    assert client.get(f"/api/orders?cursor={cursor}").status_code == 200
    problem(client.get(f"/api/orders?cursor={junk.format(cursor)}"), 400)


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (3, 3), (200, 4)])
def test_a_page_is_as_long_as_asked_for(client: Client, limit: int, count: int) -> None:
    for _ in range(4):
        factories.place()

    found = get(client, f"/api/orders?limit={limit}")

    assert len(found["results"]) == count
    assert (found["next"] is None) == (count == 4)


def next_path(page: dict[str, Any]) -> str:
    link = urlsplit(page["next"])
    return f"{link.path}?{link.query}"


def test_pages_have_no_gap_and_no_repeat_while_orders_arrive(client: Client) -> None:
    there = {factories.place() for _ in range(10)}

    page = get(client, "/api/orders?limit=3&status=pending")
    seen = [order["orderId"] for order in page["results"]]
    while page["next"]:
        factories.place()
        page = get(client, next_path(page))
        seen += [order["orderId"] for order in page["results"]]

    assert seen == sorted(there, reverse=True)


def test_previous_leads_back(client: Client) -> None:
    for _ in range(5):
        factories.place()
    first = get(client, "/api/orders?limit=2")
    second = get(client, next_path(first))

    link = urlsplit(second["previous"])
    back = get(client, f"{link.path}?{link.query}")

    assert back["results"] == first["results"]
    assert not {o["orderId"] for o in first["results"]} & {o["orderId"] for o in second["results"]}
