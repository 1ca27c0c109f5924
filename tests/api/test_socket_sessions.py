"""A browser's cookie opens a socket for pages of this server only, while it is good."""

import asyncio
import threading
from collections.abc import Callable

import pytest
from channels.db import database_sync_to_async
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client
from pytest_django import Settings

from orders import consumers, keys
from orders.keys import Caller
from orders.sessions import SessionStore
from tests.api.http import post
from tests.api.sockets import PATIENCE, Connect, refusal
from tests.api.test_socket_refusals import refused_frame

pytestmark = pytest.mark.usefixtures("no_orders", "auth_required")

HOST = "orders.example.com:8443"
SOCKET_THREADS = 4  # orders/threads.py


@pytest.fixture
def browser(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def hosts(settings: Settings) -> Settings:
    settings.ALLOWED_HOSTS = ["orders.example.com", "testserver"]
    return settings


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats, and with them a look at who asks."""
    monkeypatch.setattr(consumers, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(consumers, "TRUST_SECONDS", 0.0)


def cookie(client: Client) -> str:
    return f"sessionid={client.cookies['sessionid'].value}"


@pytest.mark.parametrize(
    "origin",
    [
        "http://orders.example.com:8080",
        "https://orders.example.com",
        "https://app.example.com",
    ],
)
async def test_a_page_of_another_place_has_no_session(
    connect: Connect, browser: Client, hosts: Settings, origin: str
) -> None:
    hosts.CORS_ALLOWED_ORIGINS = ["https://app.example.com"]

    socket = await connect(Cookie=cookie(browser), Origin=origin, Host=HOST)

    await refused_frame(socket, 401, 4401)


@pytest.mark.parametrize("origin", [f"http://{HOST}", f"https://{HOST}", "https://trusted.example"])
@pytest.mark.parametrize("secure", [False, True])
async def test_a_page_of_this_server_has(
    connect: Connect, browser: Client, hosts: Settings, origin: str, secure: bool
) -> None:
    hosts.SESSION_COOKIE_SECURE = secure
    hosts.ALLOWED_HOSTS.append("trusted.example")
    hosts.CSRF_TRUSTED_ORIGINS = ["https://trusted.example"]

    socket = await connect(Cookie=cookie(browser), Origin=origin, Host=HOST)

    if secure and origin.startswith("http:"):
        await refused_frame(socket, 401, 4401)
    else:
        await socket.hello()


async def test_what_is_no_page_has_a_session(connect: Connect, browser: Client) -> None:
    await (await connect(Cookie=cookie(browser))).hello()


def sign_out(browser: Client, _: User) -> None:
    browser.logout()


def change_password(_: Client, user: User) -> None:
    user.set_password("another one")
    user.save()


def deactivate(_: Client, user: User) -> None:
    user.is_active = False
    user.save()


@pytest.mark.parametrize("end", [sign_out, change_password, deactivate])
@pytest.mark.parametrize("by", ["cookie", "ticket"])
@pytest.mark.usefixtures("soon")
async def test_a_socket_ends_with_the_sign_in_it_was_opened_by(
    connect: Connect, alice: User, browser: Client, end: Callable[[Client, User], None], by: str
) -> None:
    if by == "ticket":
        socket = await connect(f"?ticket={await ticket(browser)}")
    else:
        socket = await connect(Cookie=cookie(browser))
    await socket.hello()
    assert (await socket.receive())["type"] == "heartbeat"

    await database_sync_to_async(end)(browser, alice)

    while (frame := await socket.receive())["type"] == "heartbeat":
        pass
    assert (frame["status"], frame["code"]) == (401, "NOT_AUTHENTICATED")
    assert await socket.close_code() == 4401


@pytest.mark.parametrize("end", [sign_out, change_password, deactivate])
async def test_a_ticket_ends_with_the_sign_in_it_was_got_by(
    connect: Connect, alice: User, browser: Client, end: Callable[[Client, User], None]
) -> None:
    got = await ticket(browser)
    await database_sync_to_async(end)(browser, alice)

    socket = await connect(f"?ticket={got}")

    await refusal(socket, 401, "NOT_AUTHENTICATED")
    assert await socket.close_code() == 4401


def test_a_look_at_a_session_keeps_no_connection(alice: User, browser: Client) -> None:
    caller = Caller(alice.pk, session_key=browser.cookies["sessionid"].value)

    keys.check_still_good(caller)

    assert connection.connection is None  # it is back in the pool, which all threads share


async def ticket(browser: Client) -> str:
    answer = await database_sync_to_async(post)(browser, "/api/tickets", {})
    return str(answer.json()["ticket"])


async def test_a_cookie_that_no_session_can_have_is_nobodys(connect: Connect) -> None:
    cookie = 'sessionid="aaaaaaaa\\000"'

    socket = await connect(Cookie=cookie)
    await refusal(socket, 401, "NOT_AUTHENTICATED")

    page = await database_sync_to_async(Client().get)("/login", headers={"Cookie": cookie})
    assert page.status_code == 200


async def test_a_session_that_has_ended_lets_nobody_in(
    connect: Connect, browser: Client, alice: User
) -> None:
    ended = cookie(browser)
    await database_sync_to_async(sign_out)(browser, alice)

    await refusal(await connect(Cookie=ended), 401, "NOT_AUTHENTICATED")


async def test_a_session_that_cannot_be_looked_up_is_told_and_holds_up_nobody(
    connect: Connect, browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, go_on = threading.Barrier(SOCKET_THREADS + 1), threading.Event()

    def away(_: SessionStore) -> None:
        looking.wait(5)
        go_on.wait(2 * PATIENCE)
        raise OperationalError("away")

    monkeypatch.setattr(SessionStore, "load", away)
    hers = [await connect(Cookie=cookie(browser)) for _ in range(SOCKET_THREADS)]
    await asyncio.to_thread(looking.wait, 5)

    await refusal(await connect(Authorization="Bearer no key"), 401, "NOT_AUTHENTICATED")
    go_on.set()
    for socket in hers:
        await refusal(socket, 503, "DATABASE_UNAVAILABLE")
