"""Tickets: a browser gets one over REST and opens one socket with it."""

import asyncio
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.contrib.auth.models import User
from django.test import Client

from orders import database, keys, tickets
from orders.keys import Caller
from tests import factories
from tests.api.http import bearer, post, problem
from tests.api.sockets import Connect, refusal

pytestmark = pytest.mark.usefixtures("no_orders", "auth_required")


def ticket_of(client: Client, user: User) -> dict[str, Any]:
    response = post(client, "/api/tickets", {}, Authorization=bearer(user))
    assert response.status_code == 201, response.content
    assert response["Cache-Control"] == "no-store"
    body: dict[str, Any] = response.json()
    assert set(body) == {"ticket", "expiresAt"}
    return body


def issued_to(user: User) -> str:
    return tickets.issue(Caller(user.pk)).text


def stored() -> list[dict[str, Any]]:
    return database.rows("SELECT * FROM orders_ticket", {})


async def refused(connect: Connect, ticket: str) -> None:
    socket = await connect(f"?ticket={ticket}")
    await refusal(socket, 401, "NOT_AUTHENTICATED")
    assert await socket.close_code() == 4401


def test_a_ticket_is_good_for_30_seconds_and_stored_as_a_hash(client: Client, alice: User) -> None:
    body = ticket_of(client, alice)

    good = datetime.fromisoformat(body["expiresAt"]) - datetime.now(UTC)
    assert 25 < good.total_seconds() <= 30
    (row,) = stored()
    assert row["digest"] == sha256(body["ticket"].encode()).hexdigest()
    assert body["ticket"] not in str(row)


async def test_a_ticket_opens_a_socket_of_its_owner(connect: Connect, alice: User) -> None:
    order_id = await asyncio.to_thread(factories.place, owner_id=alice.pk)

    socket = await connect(
        f"?orderId={order_id}&ticket={issued_to(alice)}", Origin="http://localhost"
    )

    await socket.hello()
    await socket.events(1)


async def test_a_ticket_is_good_once(connect: Connect, alice: User) -> None:
    ticket = issued_to(alice)
    await (await connect(f"?ticket={ticket}")).hello()

    await refused(connect, ticket)


async def test_of_many_sockets_with_one_ticket_one_opens(connect: Connect, alice: User) -> None:
    ticket = issued_to(alice)

    sockets = await asyncio.gather(*(connect(f"?ticket={ticket}") for _ in range(8)))

    kinds = sorted([(await socket.receive())["type"] for socket in sockets])
    assert kinds == ["error"] * 7 + ["hello"]


async def test_a_malformed_address_does_not_use_its_ticket_up(
    connect: Connect, alice: User
) -> None:
    ticket = issued_to(alice)
    socket = await connect(f"?ticket={ticket}&ticket={ticket}")
    await refusal(socket, 400, "VALIDATION")
    assert await socket.close_code() == 4400

    await (await connect(f"?ticket={ticket}")).hello()


async def test_an_expired_ticket_is_refused(
    connect: Connect, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets, "GOOD_SECONDS", 0)

    await refused(connect, issued_to(alice))


@pytest.mark.parametrize("ticket", ["", "x", "x" * 43, "x" * 65, "%00"])
async def test_what_is_no_ticket_is_refused(connect: Connect, ticket: str) -> None:
    await refused(connect, ticket)


async def test_a_ticket_of_a_revoked_key_is_refused(connect: Connect, alice: User) -> None:
    key = keys.create(alice.pk)
    ticket = tickets.issue(keys.caller_of_key(f"Bearer {key}")).text

    keys.revoke(key[4:12])

    await refused(connect, ticket)


async def test_a_ticket_of_a_user_who_may_not_sign_in_is_refused(
    connect: Connect, alice: User
) -> None:
    ticket = tickets.issue(keys.caller_of_key(bearer(alice))).text

    await database_sync_to_async(User.objects.filter(pk=alice.pk).update)(is_active=False)

    await refused(connect, ticket)


async def test_a_ticket_of_nobody_does_not_open_where_keys_are_required(connect: Connect) -> None:
    await refused(connect, tickets.issue(Caller(None)).text)


async def test_a_ticket_does_not_help_another_page(connect: Connect, alice: User) -> None:
    socket = await connect(f"?ticket={issued_to(alice)}", Origin="https://evil.example")

    await refusal(socket, 403)
    assert await socket.close_code() == 4403


def test_a_ticket_is_no_key(client: Client, alice: User) -> None:
    ticket = issued_to(alice)

    problem(client.get("/api/orders", headers={"Authorization": f"Bearer {ticket}"}), 401)
    problem(client.get("/api/orders", {"ticket": ticket}), 401)


def test_a_session_gets_a_ticket_with_a_csrf_token_only(client: Client, alice: User) -> None:
    client.force_login(alice)

    problem(post(client, "/api/tickets", {}), 403)
    token = client.cookies["csrftoken"] = "t" * 32
    assert post(client, "/api/tickets", {}, X_CSRFToken=token).status_code == 201


def test_expired_tickets_are_swept_up_by_the_next(alice: User) -> None:
    issued_to(alice)
    database.rows("UPDATE orders_ticket SET expires_at = now() - interval '1 s' RETURNING 1", {})
    issued_to(alice)

    assert len(stored()) == 1
