"""Owner by path: an order is its owner's on every path, and for all others it is not there."""

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import Client

from orders import database
from tests import factories
from tests.api.http import EXECUTE, bearer, execute, order_body, post, routes
from tests.api.sockets import Connect, Socket

pytestmark = pytest.mark.usefixtures("no_orders")

Outcome = int | str
HERS = "hers"  # the client order id

# What the owner gets, and what everybody else gets, on each path that names an order.
REST: dict[str, tuple[Outcome, Outcome]] = {
    "get": (200, 404),
    "events": (200, 404),
    "cancel": (200, 404),
    "list": ("listed", "empty"),
    "list by client order id": ("listed", "empty"),
    "place with the same client order id": (409, 201),
    "place with the same client order id in a batch": (409, 201),
}
SOCKET: dict[str, tuple[Outcome, Outcome]] = {
    "address": ("order.status", 4404),
    "subscribe": ("ack", 404),
    "order.cancel": ("ack", 404),
    "scope: all": ("order.status", "nothing"),
}
STRANGERS = ["another user's key", "another user's session", "nobody"]


def over_rest(client: Client, path: str, order_id: str, headers: dict[str, str]) -> Outcome:
    order = f"/api/orders/{order_id}"
    match path:
        case "get":
            return client.get(order, headers=headers).status_code
        case "events":
            return client.get(f"{order}/events", headers=headers).status_code
        case "cancel":
            return post(client, f"{order}/cancel", {}, **headers).status_code
        case "place with the same client order id":
            body = order_body(clientOrderId=HERS, amount="7")
            return execute(client, body, **headers).status_code
        case "place with the same client order id in a batch":
            orders = {"orders": [order_body(clientOrderId=HERS, amount="7")]}
            return post(client, "/api/orders/batch", orders, **headers).status_code
    query = {"clientOrderId": HERS} if "client" in path else {}
    found = client.get("/api/orders", query, headers=headers).json()["results"]
    return "listed" if [order_id] == [order["orderId"] for order in found] else "empty"


async def over_socket(
    connect: Connect, path: str, order_id: str, owner_id: int, headers: dict[str, str]
) -> Outcome:
    socket = await connect(f"?orderId={order_id}" if path == "address" else "", **headers)
    await socket.hello()
    if path == "address":
        frame = await socket.receive()
        return await socket.close_code() if frame["type"] == "error" else frame["type"]
    if path == "scope: all":
        await socket.send(type="subscribe", scope="all")
        await socket.receive()
        return await heard(socket, owner_id)
    await socket.send(type=path, orderId=order_id)
    frame = await socket.receive()
    return frame["status"] if frame["type"] == "error" else frame["type"]


async def heard(socket: Socket, owner_id: int) -> Outcome:
    """What comes of an order that the owner places now: of its bells, or nothing by then."""
    await asyncio.to_thread(factories.place, owner_id=owner_id)
    try:
        frame: dict[str, Any] = await socket.receive(1.0)
    except TimeoutError:
        return "nothing"
    return frame["type"]


def status_of(order_id: str) -> str:
    found = database.row("SELECT status FROM orders_order WHERE id = %(id)s", {"id": order_id})
    assert found is not None
    return found["status"]


def sign_in(who: str, client: Client, alice: User, bob: User) -> dict[str, str]:
    match who:
        case "the owner's key":
            return {"Authorization": bearer(alice)}
        case "another user's key":
            return {"Authorization": bearer(bob)}
        case "another user's session" | "the owner's session":
            client.force_login(alice if "owner" in who else bob)
    return {}


@pytest.mark.parametrize("path", REST)
@pytest.mark.parametrize("who", ["the owner's key", "the owner's session", *STRANGERS])
def test_over_rest(alice: User, bob: User, who: str, path: str) -> None:
    client = Client()  # without CSRF: what a session may not write is another test
    order_id = factories.place(owner_id=alice.pk, client_order_id=HERS)
    headers = sign_in(who, client, alice, bob)

    outcome = over_rest(client, path, order_id, headers)

    owners, others = REST[path]
    assert outcome == (owners if "owner" in who else others)
    cancelled = (path, outcome) == ("cancel", 200)
    assert status_of(order_id) == ("cancelled" if cancelled else "pending")


@pytest.mark.parametrize("path", SOCKET)
@pytest.mark.parametrize("who", ["the owner's key", "the owner's session", *STRANGERS])
async def test_over_a_socket(connect: Connect, alice: User, bob: User, who: str, path: str) -> None:
    client = Client()
    order_id = await asyncio.to_thread(factories.place, owner_id=alice.pk)
    headers = await sync_to_async(sign_in)(who, client, alice, bob)
    if "sessionid" in client.cookies:
        headers["Cookie"] = f"sessionid={client.cookies['sessionid'].value}"

    outcome = await over_socket(connect, path, order_id, alice.pk, headers)

    owners, others = SOCKET[path]
    assert outcome == (owners if "owner" in who else others)
    cancelled = (path, outcome) == ("order.cancel", "ack")
    assert status_of(order_id) == ("cancelled" if cancelled else "pending")


def test_every_path_of_the_api_is_in_the_table() -> None:
    """A new path that names an order has to be added to REST or SOCKET above."""
    named = {path.split(">", 1)[1] for path in routes() if "order_id" in path}
    assert named == {"", "/events", "/cancel"}
    assert {path for path in routes() if "order_id" not in path} == {
        EXECUTE[1:],
        "api/orders/stats",
        "api/orders/activity",  # test_activity.py
        "api/orders",
        "api/quotes",
        "api/tickets",
        "api/orders/batch",
        "api/asyncapi.yaml",
        "api/schema",
        "api/docs",
        "metrics",
        "health",
        "health/ready",
        "health/live",
    }
