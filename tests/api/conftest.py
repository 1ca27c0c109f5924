import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.test import Client
from psycopg.sql import SQL
from pytest_django import Settings
from rest_framework.permissions import IsAuthenticated
from rest_framework.views import APIView

from orders import database, hub
from orders.events import channel_layer
from tests.api.asgi import ASGIClient
from tests.api.http import PASSWORD
from tests.api.sockets import PATH, Connect, Socket


@pytest.fixture
def client() -> Client:
    return ASGIClient()


@pytest.fixture
def make_user(no_orders: None, settings: Settings) -> Callable[..., User]:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    User.objects.all().delete()
    return lambda name, **rights: User.objects.create_user(name, password=PASSWORD, **rights)


@pytest.fixture
def alice(make_user: Callable[..., User]) -> User:
    return make_user("alice")


@pytest.fixture
def bob(make_user: Callable[..., User]) -> User:
    return make_user("bob")


@pytest.fixture
def auth_required(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """As settings have it in production; test_settings.py checks that they do."""
    settings.API_AUTH_REQUIRED = True
    monkeypatch.setattr(APIView, "permission_classes", [IsAuthenticated])


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens sockets that are closed after the test: connect("?orderId=…", Origin="https://…")."""
    opened: list[Socket] = []

    async def open_socket(query: str = "", path: str = PATH, **headers: str) -> Socket:
        socket = Socket(path + query, headers)
        opened.append(socket)
        await socket.open()
        return socket

    yield open_socket
    try:
        for socket in opened:
            await socket.disconnect()
    finally:
        await stop_everything()


@pytest.fixture
async def socket(connect: Connect) -> Socket:
    """Of nobody, after its hello."""
    opened = await connect()
    await opened.hello()
    return opened


@pytest.fixture
def soon_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lost is looked for at once, so to say."""
    monkeypatch.setattr(hub, "POLL_SECONDS", 0.1)


async def stop_everything() -> None:
    """Ends the tasks that live as long as the process: the loop of this test ends now.

    Redis's client may swallow a cancellation, so one is not enough.
    """
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=0.1)
    await channel_layer().flush()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement, of Django and of the engine, but those that count times each second."""
    found: list[str] = []
    execute = psycopg.Cursor.execute

    def remember(cursor: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        if "orders_measure" not in str(query):
            found.append(str(query))
        return execute(cursor, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.Cursor, "execute", remember)
    return found


@pytest.fixture
def await_standby() -> Iterator[Callable[[str], None]]:
    """Names the standby that a COMMIT waits for which is to wait (this server's are not)."""
    with psycopg.connect(database.conninfo(), autocommit=True) as conn:

        def name(standby: str) -> None:
            conn.execute(SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(standby))
            conn.execute("SELECT pg_reload_conf()")

        yield name
        name("")
