"""An order belongs to who placed it. That it does not exist for others: test_isolation.py."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.api.http import (
    EXECUTE,
    bearer,
    execute,
    order_body,
    placed,
    post,
    problem,
    stored_orders,
)

pytestmark = pytest.mark.usefixtures("no_orders")


def as_user(user: User | None) -> dict[str, str]:
    return {"Authorization": bearer(user)} if user else {}


def test_the_owner_reads_lists_and_cancels_it(client: Client, alice: User) -> None:
    order_id = placed(client, **as_user(alice))
    headers = as_user(alice)

    assert client.get(f"/api/orders/{order_id}", headers=headers).status_code == 200
    assert client.get(f"/api/orders/{order_id}/events", headers=headers).status_code == 200
    found = client.get("/api/orders", headers=headers).json()["results"]
    assert [order["orderId"] for order in found] == [order_id]
    cancelled = client.post(f"/api/orders/{order_id}/cancel", headers=headers)
    assert cancelled.json()["status"] == "cancelled"


def test_an_order_of_nobody_is_not_a_user_s(client: Client, alice: User) -> None:
    order_id = placed(client)

    problem(client.get(f"/api/orders/{order_id}", headers=as_user(alice)), 404)
    assert client.get("/api/orders", headers=as_user(alice)).json()["results"] == []


@pytest.mark.usefixtures("auth_required")
def test_where_keys_are_required_everything_but_health_needs_one(client: Client) -> None:
    order = "/api/orders/ord_1700000000000_abcdefghij"
    answers = [
        execute(client),
        client.get(EXECUTE),
        client.get("/api/orders"),
        client.get(order),
        client.get(f"{order}/events"),
        client.post(f"{order}/cancel"),
        post(client, "/api/quotes", order_body()),
        client.get("/api/orders/stats"),
        post(client, "/api/tickets", {}),
    ]

    for answer in answers:
        problem(answer, 401, "NOT_AUTHENTICATED")
        assert answer["WWW-Authenticate"].startswith("Bearer")
    assert stored_orders() == []
    assert client.get("/health/live").status_code == 200


@pytest.mark.usefixtures("auth_required")
def test_where_keys_are_required_a_key_opens(client: Client, alice: User) -> None:
    assert execute(client, **as_user(alice)).status_code == 201
