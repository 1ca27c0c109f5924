"""POST /api/orders/batch: all orders of a body are stored, or none."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from psycopg.types.json import Jsonb

from orders import database, events, hints, placement
from orders.reconcile import examine
from orders.tasks import execute_order
from tests.api.asgi import ASGIClient
from tests.api.http import (
    BATCH,
    ORDER_ID,
    TIMESTAMP,
    bearer,
    execute,
    order_body,
    placed,
    pointers,
    post,
    problem,
    stored_orders,
)
from tests.factories import order_request
from tests.stacks import wait_until

pytestmark = pytest.mark.usefixtures("no_orders")

WAITING_FOR_LOCKS = """
SELECT count(*) AS count FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


def batch(client: Client, *orders: Any, **headers: str) -> HttpResponse:
    return post(client, BATCH, {"orders": orders}, **headers)


def named(*names: str, **changes: Any) -> list[dict[str, Any]]:
    return [order_body(clientOrderId=name, **changes) for name in names]


def ids(response: HttpResponse) -> list[str]:
    assert response.status_code == 201, response.content
    return [order["orderId"] for order in response.json()["results"]]


# What is stored and answered ---------------------------------------------------------------------


def test_the_answer_has_each_order_in_the_order_given(client: Client) -> None:
    amounts = [str(number) for number in range(1, 11)]

    response = batch(client, *(order_body(amount=amount) for amount in amounts))

    assert response.status_code == 201
    assert set(response.json()) == {"results"}
    assert "Idempotency-Replayed" not in response
    for order in response.json()["results"]:
        assert set(order) == {"orderId", "status", "timestamp"}
        assert re.fullmatch(ORDER_ID, order["orderId"])
        assert re.fullmatch(TIMESTAMP, order["timestamp"])
        assert order["status"] == "pending"
    stored = [client.get(f"/api/orders/{order_id}").json() for order_id in ids(response)]
    assert [order["amount"] for order in stored] == amounts


def test_the_orders_start_in_the_order_given(client: Client) -> None:
    response = batch(client, *[order_body()] * 20)

    assert ids(response) == stored_orders()


@pytest.mark.parametrize("count", [1, 100])
def test_one_to_a_hundred_are_taken(client: Client, count: int) -> None:
    assert ids(batch(client, *[order_body()] * count)) == stored_orders()
    assert len(stored_orders()) == count


def test_each_order_has_its_first_event_and_is_counted(client: Client) -> None:
    order_ids = ids(batch(client, *named("a", "b"), order_body()))

    for order_id, name in zip(order_ids, ["a", "b", None], strict=True):
        [event] = client.get(f"/api/orders/{order_id}/events").json()["results"]
        assert (event["seq"], event["status"]) == (1, "pending")
        assert event["data"].get("clientOrderId") == name
    assert client.get("/api/orders/stats").json()["queue"]["waiting"] == 3


def test_no_invariant_is_broken(client: Client) -> None:
    batch(client, *named("a", "b", "c"))
    batch(client, *named("b", "d"))
    batch(client, *named("e", "a", amount="2"))

    findings = examine(database.rows, concurrency=10, starts=100)
    broken = {finding.invariant.name for finding in findings if finding.violations}
    assert broken <= {"landed-is-confirmed"}  # the ledger keeps what earlier tests sent


def test_a_batch_is_one_statement(client: Client, asked: list[str]) -> None:
    batch(client, order_body())  # the first use of a connection says more
    asked.clear()

    new = batch(client, *named(*(f"order-{n}" for n in range(100))))
    again = batch(client, *named(*(f"order-{n}" for n in range(100))))

    assert ids(new) == ids(again)
    assert asked == [placement.PLACE] * 2


def test_each_new_order_is_hinted_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    hinted: list[str] = []
    rung: list[str] = []
    monkeypatch.setattr(hints, "send_soon", hinted.extend)
    monkeypatch.setattr(events, "publish", lambda event: rung.append(event.order_id))

    order_ids = ids(batch(client, *named("a", "b")))
    batch(client, *named("a", "b"))
    batch(client, *named("c", "a", amount="2"))

    assert hinted == rung == order_ids


def test_redis_may_be_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(execute_order, "apply_async", lambda *_, **__: released.wait(30))

    def refused(waiting: object) -> None:
        raise ConnectionError("Redis is away")

    monkeypatch.setattr(events, "send", refused)
    started = time.monotonic()
    order_ids = ids(batch(client, *[order_body()] * 100))
    took = time.monotonic() - started

    released.set()
    assert took < 1
    assert stored_orders() == order_ids


# What is refused ---------------------------------------------------------------------------------


def test_every_error_of_every_order_has_its_place(client: Client) -> None:
    response = batch(
        client,
        order_body(),
        order_body(amount="0", slippage="0.6"),
        order_body(tokenIn="DOGE"),
        order_body(amount="-1"),
        order_body(message="m", code="c"),
        {"tokenIn": "SOL"},
        "an order",
        order_body(tokenOut="SOL"),
        order_body(deadline="2000-01-01T00:00:00Z"),
    )

    assert pointers(problem(response, 400, "VALIDATION")) == {
        "/orders/1/slippage",
        "/orders/2/tokenIn",
        "/orders/3/amount",
        "/orders/4/message",
        "/orders/4/code",
        "/orders/5/tokenOut",
        "/orders/5/amount",
        "/orders/6",
        "/orders/7/tokenOut",
    }
    assert stored_orders() == []


@pytest.mark.parametrize("name", ["message", "code", "a/b"])
def test_a_batch_of_one_has_its_errors_at_0(client: Client, name: str) -> None:
    response = batch(client, order_body(**{name: "x"}))

    escaped = name.replace("/", "~1")
    assert pointers(problem(response, 400, "VALIDATION")) == {f"/orders/0/{escaped}"}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/orders"),
        ({"orders": []}, "/orders"),
        ({"orders": None}, "/orders"),
        ({"orders": {}}, "/orders"),
        ({"orders": "all"}, "/orders"),
        ({"orders": [order_body()] * 101}, "/orders"),
        ({"orders": [order_body()], "mode": "atomic"}, "/mode"),
        ([order_body()], ""),
        (order_body(), "/tokenIn"),
    ],
    ids=["nothing", "none", "null", "object", "text", "101", "unknown", "a list", "an order"],
)
def test_what_is_no_batch_is_refused(client: Client, body: Any, pointer: str) -> None:
    assert pointer in pointers(problem(post(client, BATCH, body), 400, "VALIDATION"))
    assert stored_orders() == []


def test_two_orders_of_a_batch_may_not_have_one_name(client: Client) -> None:
    response = batch(client, *named("a", "b", "a"), order_body(), order_body(), *named("b"))

    expected = {"/orders/2/clientOrderId", "/orders/5/clientOrderId"}
    assert pointers(problem(response, 400, "VALIDATION")) == expected
    assert stored_orders() == []


def test_a_deadline_that_has_passed_denies_the_whole_batch(client: Client) -> None:
    late = order_body(deadline=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())

    response = batch(client, order_body(), late, order_body(), late)

    body = problem(response, 400, "VALIDATION")
    assert pointers(body) == {"/orders/1/deadline", "/orders/3/deadline"}
    assert {error["code"] for error in body["errors"]} == {"deadline_passed"}
    assert stored_orders() == []
    assert database.row("SELECT sum(count) AS count FROM orders_tally", {}) == {"count": None}


def test_the_header_cannot_name_a_batch(client: Client) -> None:
    response = batch(client, order_body(), Idempotency_Key="batch-1")

    assert "clientOrderId" in problem(response, 400, "IDEMPOTENCY_KEY_ON_BATCH")["detail"]
    assert stored_orders() == []


@pytest.mark.usefixtures("auth_required")
def test_where_keys_are_required_a_batch_needs_one(client: Client, alice: User) -> None:
    problem(batch(client, order_body()), 401, "NOT_AUTHENTICATED")

    assert len(ids(batch(client, order_body(), Authorization=bearer(alice)))) == 1


# Repeats -----------------------------------------------------------------------------------------


def test_a_repeat_gets_the_first_answers_again(client: Client) -> None:
    first = batch(client, *named("a", "b", "c"))
    again = batch(client, *named("a", "b", "c"))

    assert (again.status_code, again.json()) == (201, first.json())
    assert "Idempotency-Replayed" not in first
    assert again["Idempotency-Replayed"] == "true"
    assert stored_orders() == ids(first)


def test_a_repeat_may_be_in_another_order_and_have_new_ones(client: Client) -> None:
    a, b = ids(batch(client, *named("a", "b")))

    response = batch(client, *named("b", "c", "a"))

    assert "Idempotency-Replayed" not in response
    first, new, last = ids(response)
    assert (first, last) == (b, a)
    assert stored_orders() == sorted([a, b, new])


def test_a_batch_repeats_single_orders_and_the_other_way_round(client: Client) -> None:
    single = placed(client, order_body(clientOrderId="a"))
    a, b = ids(batch(client, *named("a", "b")))

    again = execute(client, order_body(clientOrderId="b"))

    assert a == single
    assert (again.json()["orderId"], again["Idempotency-Replayed"]) == (b, "true")


def test_another_body_under_a_used_name_denies_the_whole_batch(client: Client) -> None:
    first = placed(client, order_body(clientOrderId="used"))
    same = placed(client, order_body(clientOrderId="same"))
    bodies = [*named("new", "same"), order_body(), *named("used", amount="2")]

    body = problem(batch(client, *bodies), 409, "CLIENT_ORDER_ID_REUSED")

    assert pointers(body) == {"/orders/3/clientOrderId"}
    assert first in body["detail"]
    assert stored_orders() == sorted([first, same])
    assert database.row("SELECT sum(count) AS count FROM orders_tally", {}) == {"count": 2}
    assert client.get("/api/orders?clientOrderId=new").json()["results"] == []


def test_a_repeat_after_a_deadline_still_gets_the_first_answer(client: Client) -> None:
    deadline = database.now() + timedelta(seconds=1)
    soon = deadline.isoformat()
    bodies = named("a", "b", deadline=soon)
    first = batch(client, *bodies)
    wait_until(lambda: database.now() > deadline)

    again = batch(client, *bodies)
    with_another = batch(client, *bodies, *named("c", deadline=soon))

    assert (again.status_code, again.json()) == (201, first.json())
    assert pointers(problem(with_another, 400, "VALIDATION")) == {"/orders/2/deadline"}
    assert stored_orders() == ids(first)


def test_two_owners_may_use_the_same_names(client: Client, alice: User, bob: User) -> None:
    found = [
        *ids(batch(client, *named("a", "b"), Authorization=bearer(alice))),
        *ids(batch(client, *named("a", "b"), Authorization=bearer(bob))),
        *ids(batch(client, *named("a", "b"))),
    ]

    assert len(set(found)) == 6
    assert ids(batch(client, *named("a", "b"), Authorization=bearer(bob))) == found[2:4]


# Many at once ------------------------------------------------------------------------------------


def at_once(count: int, bodies: Any) -> list[HttpResponse]:
    """The answers to `bodies(n)` for n from 0, sent at the same moment."""
    together = Barrier(count)

    def send(number: int) -> HttpResponse:
        client = ASGIClient()
        together.wait(10)
        return batch(client, *bodies(number))

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(send, range(count)))


def test_twenty_repeats_at_once_make_one_set_of_orders() -> None:
    names = [f"order-{n}" for n in range(20)]

    responses = at_once(20, lambda _: named(*names))

    assert {response.status_code for response in responses} == {201}
    assert len({response.content for response in responses}) == 1
    assert len([r for r in responses if "Idempotency-Replayed" in r]) == 19
    assert stored_orders() == ids(responses[0])
    count = "SELECT count(*) AS count, sum(seq) AS seq FROM orders_orderevent"
    assert database.row(count, {}) == {"count": 20, "seq": 20}
    assert database.row("SELECT sum(count) AS count FROM orders_tally", {}) == {"count": 20}


def waiting_for_locks() -> int:
    found = database.row(WAITING_FOR_LOCKS, {})
    return 0 if found is None else found["count"]


def test_batches_that_name_the_same_orders_the_other_way_round_do_not_block_each_other() -> None:
    names = ["first", "held", "last"]
    with database.pool().connection() as conn, ThreadPoolExecutor(2) as threads:
        with conn.transaction(force_rollback=True):
            held = placement.wanted([order_request(client_order_id="held")], [{}])
            conn.execute(placement.PLACE, {"owner_id": None, "wanted": Jsonb(held)})
            sent = [
                threads.submit(batch, ASGIClient(), *named(*these))
                for these in (names, reversed(names))
            ]
            wait_until(lambda: waiting_for_locks() == 2, seconds=5)
        one_way, other_way = (ids(response.result()) for response in sent)

    assert one_way == other_way[::-1]
    assert stored_orders() == sorted(one_way)


def test_of_batches_that_differ_in_one_order_one_wins_and_the_others_leave_nothing() -> None:
    responses = at_once(
        20, lambda n: [*named(f"own-{n}"), *named("shared", amount=str(n + 1)), order_body()]
    )

    assert sorted(response.status_code for response in responses) == [201] + [409] * 19
    [won] = [response for response in responses if response.status_code == 201]
    assert sorted(ids(won)) == stored_orders()
    for response in responses:
        if response is not won:
            body = problem(response, 409, "CLIENT_ORDER_ID_REUSED")
            assert pointers(body) == {"/orders/1/clientOrderId"}
