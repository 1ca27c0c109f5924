"""The WebSocket: a refusal is said in an `error` frame, then the socket closes with its code."""

import asyncio
import gc
import threading
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import Client

from orders import database, execution, presence, queries
from orders.bells import Inbox
from orders.events import order_group
from orders.hub import Hub, hub
from tests.api.http import bearer, order_body
from tests.api.sockets import PATIENCE, Connect, Socket, place, refusal, seqs

pytestmark = pytest.mark.usefixtures("no_orders")

UNKNOWN = "ord_1700000000000_abcdefghij"


async def refused_frame(socket: Socket, status: int, code: int) -> dict[str, Any]:
    """The refusal, after the hello that may come before it."""
    frame = await socket.receive()
    if frame["type"] == "hello":
        frame = await refusal(socket, status)
    assert (frame["type"], frame["status"]) == ("error", status), frame
    assert await socket.close_code() == code
    return frame


@pytest.mark.parametrize(
    "query",
    [
        "?orderid=x",
        "?afterSeq=-1",
        "?orderId=x&afterSeq=ten",
        "?orderId=x&afterSeq=99999999999999999999",
        f"?orderId={'x' * 65}",
        "?orderId=a%00b",
        "?orderId=x&other=1",
    ],
)
async def test_a_malformed_address_is_4400(connect: Connect, query: str) -> None:
    socket = await connect(query)

    await refused_frame(socket, 400, 4400)


@pytest.mark.parametrize(
    ("query", "pointers"),
    [
        ("?orderId=", {"/orderId"}),
        ("?orderId", {"/orderId"}),
        ("?orderId=ORDER&afterSeq=", {"/afterSeq"}),
        ("?afterSeq=3", {"/orderId"}),
        ("?orderId=x&orderId=ORDER", {"/orderId"}),
        ("?orderId=ORDER&orderId=", {"/orderId"}),
        ("?orderId=ORDER&afterSeq=1&afterSeq=2", {"/afterSeq"}),
        ("?orderId=ORDER&x=1&x=2", {"/x"}),
        ("?orderId=ORDER&other=", {"/other"}),
    ],
)
async def test_the_pointers_of_a_malformed_address_name_its_parameters(
    connect: Connect, query: str, pointers: set[str]
) -> None:
    order_id = await place()

    frame = await refused_frame(await connect(query.replace("ORDER", order_id)), 400, 4400)

    assert {error["pointer"] for error in frame["errors"]} == pointers
    assert all(pointer in frame["detail"] for pointer in pointers)


@pytest.mark.parametrize("order_id", [UNKNOWN, "x", "%FF"])
async def test_an_order_that_is_not_there_is_4404(connect: Connect, order_id: str) -> None:
    socket = await connect(f"?orderId={order_id}")

    await refused_frame(socket, 404, 4404)


@pytest.mark.parametrize("path", ["/", "/ws", "/api/orders", "/api/orders/execute/", "/api/quotes"])
async def test_another_path_is_4404(connect: Connect, path: str) -> None:
    socket = await connect(path=path)

    await refused_frame(socket, 404, 4404)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "https://localhost.evil.example",
        "https://evil.example/localhost",
        "https://localhost@evil.example",
        "localhost",
        "http://[",
        "",
    ],
)
async def test_a_page_of_another_host_is_4403(connect: Connect, origin: str) -> None:
    order_id = await place()

    socket = await connect(f"?orderId={order_id}", Origin=origin)

    await refused_frame(socket, 403, 4403)


@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://testserver"])
async def test_a_page_of_this_host_may_connect(connect: Connect, origin: str) -> None:
    socket = await connect(Origin=origin)

    await socket.hello()


@pytest.mark.usefixtures("auth_required")
async def test_where_keys_are_required_nobody_is_4401(connect: Connect) -> None:
    socket = await connect()

    await refused_frame(socket, 401, 4401)


@pytest.mark.usefixtures("auth_required")
async def test_the_owner_follows_the_order(connect: Connect, alice: User) -> None:
    order_id = await place(owner_id=alice.pk)
    socket = await connect(f"?orderId={order_id}", Authorization=bearer(alice))
    await socket.hello()
    await asyncio.to_thread(execution.execute_order, order_id)

    assert seqs(await socket.events(5)) == [1, 2, 3, 4, 5]


async def test_a_signed_in_browser_follows_its_order(
    connect: Connect, client: Client, alice: User
) -> None:
    await sync_to_async(client.force_login)(alice)
    order_id = await place(owner_id=alice.pk)

    cookie = f"sessionid={client.cookies['sessionid'].value}"
    socket = await connect(f"?orderId={order_id}", Cookie=cookie, Origin="http://localhost")

    await socket.hello()
    await socket.events(1)


@pytest.mark.parametrize("somebody", ["another user", "nobody"])
async def test_somebody_else_s_order_is_4404(
    connect: Connect, alice: User, bob: User, somebody: str
) -> None:
    order_id = await place(owner_id=alice.pk)
    headers = {"Authorization": bearer(bob)} if somebody == "another user" else {}

    await refused_frame(await connect(f"?orderId={order_id}", **headers), 404, 4404)

    socket = await connect(**headers)
    await socket.hello()
    for kind in ("subscribe", "order.cancel"):
        await socket.send(type=kind, orderId=order_id)
        await refusal(socket, 404, "NOT_FOUND")


async def test_all_orders_are_those_of_the_owner(connect: Connect, alice: User, bob: User) -> None:
    socket = await connect(Authorization=bearer(alice))
    await socket.hello()
    await socket.send(type="subscribe", scope="all")
    await socket.receive()

    await place(owner_id=bob.pk)
    await place()
    hers = await place(owner_id=alice.pk)

    (frame,) = await socket.events(1)
    assert frame["orderId"] == hers


async def test_an_order_submitted_is_the_socket_s_owner_s(connect: Connect, alice: User) -> None:
    socket = await connect(Authorization=bearer(alice))
    await socket.hello()

    await socket.send(type="order.submit", order=order_body())

    order_id = (await socket.receive())["orderId"]
    owner = "SELECT owner_id FROM orders_order WHERE id = %(id)s"
    assert await asyncio.to_thread(database.row, owner, {"id": order_id}) == {"owner_id": alice.pk}


async def test_while_postgresql_is_away_a_socket_is_told_to_come_again(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = await place()

    def away(*_: object) -> None:
        raise psycopg.OperationalError("away")

    with monkeypatch.context() as patched:
        patched.setattr(database, "rows", away)
        await refused_frame(await connect(f"?orderId={order_id}"), 503, 1013)


async def test_an_open_socket_is_counted_until_it_closes(connect: Connect) -> None:
    before = presence.connections()
    socket = await connect()
    await socket.hello()

    assert presence.connections() == before + 1

    await socket.disconnect()
    assert presence.connections() == before


async def test_an_open_socket_is_told_to_the_fleet_also_where_none_subscribes(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orders.hub.POLL_SECONDS", 0.1)
    redis, key = presence.client(), presence.KEY + presence._process
    redis.delete(key)
    await (await connect()).hello()

    async with asyncio.timeout(PATIENCE):
        while redis.get(key) != b"1":  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_refused_socket_is_not_counted(connect: Connect) -> None:
    before = presence.connections()
    socket = await connect("?orderId=x")
    await refused_frame(socket, 404, 4404)
    await socket.disconnect()

    assert presence.connections() == before


async def test_a_socket_that_is_killed_while_it_waits_leaves_nothing_behind(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, answer = presence.connections(), threading.Event()
    socket = await connect()
    await socket.send(type="subscribe", scope="all")
    await socket.send(type="subscribe", orderId=await place())
    while (await socket.receive())["type"] != "order.status":
        pass
    monkeypatch.setattr(queries, "events_after", lambda *_: answer.wait(10))
    await socket.send(type="subscribe", orderId=await place())
    await asyncio.sleep(0.1)
    assert loops_of_sockets()

    await socket.kill()

    answer.set()
    assert presence.connections() == before
    assert not any(group.inboxes for group in hub()._groups.values())
    async with asyncio.timeout(5):
        while loops_of_sockets():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_who_is_cancelled_while_it_joins_has_not_joined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def joins_nothing(*_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr("orders.hub.JOIN_SECONDS", 60)
    monkeypatch.setattr(Hub, "_keep_membership", joins_nothing)  # as if Redis were away
    ear, inbox, name = hub(), Inbox(), order_group("ord_x")

    joining = asyncio.create_task(ear.join(name, inbox))
    await asyncio.sleep(0.05)
    assert inbox in ear._groups[name].inboxes
    joining.cancel()
    await asyncio.wait([joining])

    assert joining.cancelled()
    assert not ear._groups[name].inboxes


async def test_the_error_that_ends_the_membership_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def breaks(*_: object) -> None:
        raise KeyError("a bug of the membership")

    monkeypatch.setattr(Hub, "_keep_membership", breaks)
    hub()

    async with asyncio.timeout(5):
        while "a bug of the membership" not in caplog.text:
            gc.collect()
            await asyncio.sleep(0.05)


def loops_of_sockets() -> list[str]:
    running = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return [name for name in running if name.startswith("OrderConsumer.")]
