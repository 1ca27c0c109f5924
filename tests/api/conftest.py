from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings
from rest_framework.permissions import IsAuthenticated
from rest_framework.views import APIView

from orders import database
from tests.api.http import PASSWORD
from tests.api.sockets import PATH, Socket

SWEEP = """
WITH e AS (DELETE FROM orders_orderevent), s AS (DELETE FROM orders_swap),
    t AS (DELETE FROM orders_tally)
DELETE FROM orders_order RETURNING id
"""


@pytest.fixture
def swept(db: None) -> Iterator[None]:
    """For tests whose rows are all the engine's own: far cheaper than a flush of every table."""
    yield
    database.rows(SWEEP, {})


@pytest.fixture
def client() -> Client:
    """Treated as a client of its own: no exemption from CSRF, and no exception but an answer."""
    return Client(enforce_csrf_checks=True, raise_request_exception=False)


@pytest.fixture
def make_user(transactional_db: None, settings: Settings) -> Callable[[str], User]:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return lambda name: User.objects.create_user(name, password=PASSWORD)


@pytest.fixture
def alice(make_user: Callable[[str], User]) -> User:
    return make_user("alice")


@pytest.fixture
def bob(make_user: Callable[[str], User]) -> User:
    return make_user("bob")


@pytest.fixture
def auth_required(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """As settings have it in production; test_settings.py checks that they do."""
    settings.API_AUTH_REQUIRED = True
    monkeypatch.setattr(APIView, "permission_classes", [IsAuthenticated])


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Awaitable[Socket]]]:
    """Opens sockets that are closed after the test: connect("?orderId=…", Origin="https://…")."""
    opened: list[Socket] = []

    async def open_socket(query: str = "", path: str = PATH, **headers: str) -> Socket:
        socket = Socket(path + query, headers)
        opened.append(socket)
        await socket.open()
        return socket

    yield open_socket
    for socket in opened:
        await socket.disconnect()
