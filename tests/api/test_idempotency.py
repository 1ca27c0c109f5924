"""One order for each client order id, however often and however it is sent."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client

from dex import tokens
from orders import database, execution
from orders.placement import OrderRequest
from tests.api.asgi import ASGIClient
from tests.api.http import bearer, execute, order_body, placed, pointers, problem, stored_orders
from tests.stacks import wait_until

pytestmark = pytest.mark.usefixtures("no_orders")


def test_a_repeat_gets_the_first_answer_again(client: Client) -> None:
    first = execute(client, order_body(clientOrderId="once"))
    again = execute(client, order_body(clientOrderId="once"))

    assert (again.status_code, again.json()) == (201, first.json())
    assert again["Idempotency-Replayed"] == "true"
    assert again["Location"] == first["Location"]
    assert stored_orders() == [first.json()["orderId"]]


def test_the_header_is_another_way_to_give_the_id(client: Client) -> None:
    first = execute(client, Idempotency_Key="once")
    by_field = execute(client, order_body(clientOrderId="once"))
    by_both = execute(client, order_body(clientOrderId="once"), Idempotency_Key="once")

    assert first.json() == by_field.json() == by_both.json()
    assert "Idempotency-Replayed" not in first
    assert by_field["Idempotency-Replayed"] == by_both["Idempotency-Replayed"] == "true"
    order = client.get(first["Location"]).json()
    assert order["clientOrderId"] == "once"


def test_the_header_and_the_field_must_agree(client: Client) -> None:
    response = execute(client, order_body(clientOrderId="one"), Idempotency_Key="other")

    assert pointers(problem(response, 400, "VALIDATION")) == {"/clientOrderId"}
    assert stored_orders() == []


@pytest.mark.parametrize("key", ["", "a b", "x" * 65, "ä"])
def test_a_bad_header_is_refused(client: Client, key: str) -> None:
    refusal = problem(execute(client, Idempotency_Key=key), 400, "VALIDATION")

    assert refusal["detail"].startswith("Idempotency-Key: ")
    assert refusal["errors"] == []  # the body has nothing to point to
    assert stored_orders() == []


def test_a_deadline_may_be_repeated_as_it_is_shown(client: Client) -> None:
    first = execute(client, order_body(clientOrderId="x", deadline="2099-01-01T00:00:00.509999Z"))
    shown = client.get(first["Location"]).json()["deadline"]

    again = execute(client, order_body(clientOrderId="x", deadline=shown))

    assert shown == "2099-01-01T00:00:00.509Z"
    assert (again.status_code, again.json()) == (201, first.json())


# By the parameter that each changes; there is one order type.
ANOTHER: dict[str, dict[str, Any]] = {
    "amount_in": {"amount": "1.500000001"},
    "token_in": {"tokenIn": "RAY"},
    "token_out": {"tokenOut": "USDT"},
    "slippage_bps": {"slippage": "0.02"},
    "deadline_at": {"deadline": "2099-01-01T00:00:00Z"},
}


def test_every_parameter_of_an_order_is_compared() -> None:
    who = {"owner_id", "client_order_id", "request_id"}

    assert ANOTHER.keys() | who | {"order_type"} == set(OrderRequest._fields)


@pytest.mark.parametrize("parameter", ANOTHER)
def test_the_same_id_for_another_order_is_refused(client: Client, parameter: str) -> None:
    changes = ANOTHER[parameter]
    first = placed(client, order_body(clientOrderId="once"))

    response = execute(client, order_body(clientOrderId="once", **changes))

    assert first in problem(response, 409, "CLIENT_ORDER_ID_REUSED")["detail"]
    assert stored_orders() == [first]


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 1.5},
        {"amount": "1.50"},
        {"tokenIn": tokens.SOL.mint},
        {"slippage": 0.01, "orderType": "market"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_same_order_in_other_words_is_a_repeat(client: Client, changes: dict[str, Any]) -> None:
    first = placed(client, order_body(clientOrderId="once"))

    assert placed(client, order_body(clientOrderId="once", **changes)) == first


def test_a_repeat_after_the_end_still_gets_the_first_answer(client: Client) -> None:
    first = execute(client, order_body(clientOrderId="once")).json()
    execution.execute_order(first["orderId"])

    assert execute(client, order_body(clientOrderId="once")).json() == first


def test_a_repeat_after_the_deadline_still_gets_the_first_answer(client: Client) -> None:
    deadline = database.now() + timedelta(seconds=1)
    soon = deadline.isoformat()
    first = execute(client, order_body(clientOrderId="once", deadline=soon))
    wait_until(lambda: database.now() > deadline)

    again = execute(client, order_body(clientOrderId="once", deadline=soon))
    another = execute(client, order_body(deadline=soon))

    assert (again.status_code, again.json()) == (201, first.json())
    assert pointers(problem(another, 400, "VALIDATION")) == {"/deadline"}


def test_without_an_id_every_post_is_a_new_order(client: Client) -> None:
    assert placed(client) != placed(client)
    assert len(stored_orders()) == 2


def test_fifty_at_once_make_one_order() -> None:
    together = Barrier(50)

    def send(_: int) -> HttpResponse:
        client = ASGIClient()
        together.wait(10)
        return execute(client, order_body(clientOrderId="race"))

    with ThreadPoolExecutor(50) as threads:
        responses = list(threads.map(send, range(50)))

    assert {response.status_code for response in responses} == {201}
    assert len({response.content for response in responses}) == 1
    replayed = [response for response in responses if "Idempotency-Replayed" in response]
    assert len(replayed) == 49
    assert stored_orders() == [responses[0].json()["orderId"]]
    count = "SELECT count(*) AS count, sum(seq) AS seq FROM orders_orderevent"
    assert database.row(count, {}) == {"count": 1, "seq": 1}


def test_of_twenty_different_orders_with_one_id_one_wins() -> None:
    together = Barrier(20)

    def send(number: int) -> HttpResponse:
        client = ASGIClient()
        together.wait(10)
        return execute(client, order_body(clientOrderId="race", amount=number + 1))

    with ThreadPoolExecutor(20) as threads:
        statuses = [response.status_code for response in threads.map(send, range(20))]

    assert sorted(statuses) == [201] + [409] * 19
    assert len(stored_orders()) == 1


def test_two_owners_may_use_the_same_id(client: Client, alice: User, bob: User) -> None:
    body = order_body(clientOrderId="once")

    ids = {placed(client, body, Authorization=bearer(user)) for user in (alice, bob)}
    ids.add(placed(client, body))

    assert stored_orders() == sorted(ids)
    assert len(ids) == 3
