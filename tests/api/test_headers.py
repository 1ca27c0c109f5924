"""What answers tell browsers: nothing inline, nothing framed, nobody from elsewhere."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from channels.testing import HttpCommunicator
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from orderengine import asgi
from orderengine.asgi_types import Message, Receive, Send
from orderengine.headers import NOBODY, PAGES, BrowserHeaders
from orders import keys
from orders.models import ApiKey, Status
from tests import factories
from tests.api.asgi import ASGIClient
from tests.api.http import problem
from tests.api.sockets import Socket

pytestmark = pytest.mark.usefixtures("no_orders")

ELSEWHERE = "https://app.example.com"


async def ask(
    method: str = "GET",
    content_type: str = "text/html",
    origins: tuple[str, ...] = (),
    **asked: str,
) -> tuple[int, dict[str, str]]:
    """Of an application that answers 200 with this type: the status, and headers in lower case."""

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        headers = [(b"Content-Type", content_type.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    raw = [(n.replace("_", "-").encode(), value.encode()) for n, value in asked.items()]
    wrapped = BrowserHeaders(application, list(origins))
    answer = await HttpCommunicator(wrapped, method, "/", headers=raw).get_response()
    return answer["status"], {n.decode().lower(): v.decode() for n, v in answer["headers"]}


@pytest.mark.parametrize(
    ("content_type", "policy"),
    [
        ("text/html; charset=utf-8", PAGES),
        ("application/json", NOBODY),
        ("application/problem+json", NOBODY),
        ("text/css", NOBODY),
    ],
)
async def test_an_answer_is_for_its_own_page_only(content_type: str, policy: str) -> None:
    _, headers = await ask(content_type=content_type)

    assert headers["content-security-policy"] == policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_the_web_process_answers_with_these_headers() -> None:
    """test_up.py looks at its answers from outside."""
    protocols = asgi.application.application

    assert isinstance(protocols.application_mapping["http"].application, BrowserHeaders)


def page_at(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, (path, answer.headers)
    return answer.text


def test_no_page_of_the_admin_needs_anything_inline(
    client: Client, make_user: Callable[..., User]
) -> None:
    operator = make_user("operator", is_staff=True, is_superuser=True)
    login = page_at(client, "/admin/login/")
    client.force_login(operator)
    orders = [factories.order_in(status) for status in Status]
    keys.create(operator.pk)
    paths = [
        "/admin/",
        "/admin/orders/order/",
        "/admin/orders/apikey/",
        "/admin/orders/apikey/add/",
        f"/admin/orders/apikey/{ApiKey.objects.get().pk}/change/",
        "/admin/auth/user/",
        f"/admin/auth/user/{operator.pk}/change/",
        "/admin/password_change/",
        *(f"/admin/orders/order/{order.id}/change/" for order in orders),
    ]

    for page in (login, *(page_at(client, path) for path in paths)):
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=\"|javascript:", page)
        for script in re.findall(r"<script[^>]*>", page):
            assert "src=" in script or 'type="application/json"' in script


def test_the_page_of_the_api_has_nothing_inline(client: Client) -> None:
    page = page_at(client, "/api/docs")

    assert not re.search(r"\sstyle=|<style|<script(?![^>]*\ssrc=)", page)
    assert "orders/docs.css" in page


def test_over_tls_browsers_are_to_stay_with_tls(client: Client, settings: Settings) -> None:
    settings.SECURE_HSTS_SECONDS = 31_536_000

    answer = Client().get("/health/live", secure=True)

    assert answer["Strict-Transport-Security"].startswith("max-age=31536000")


# Other origins -----------------------------------------------------------------------------------


async def test_pages_of_elsewhere_read_nothing_by_default() -> None:
    for method in ("GET", "OPTIONS"):
        _, headers = await ask(method, origin=ELSEWHERE, access_control_request_method="GET")
        assert not [name for name in headers if name.startswith("access-control")]


async def test_pages_of_an_allowed_origin_may_ask() -> None:
    _, headers = await ask(origins=(ELSEWHERE,), origin=ELSEWHERE)
    _, other = await ask(origins=(ELSEWHERE,), origin="https://evil.example")

    assert headers["access-control-allow-origin"] == ELSEWHERE
    assert headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in headers
    assert "access-control-allow-origin" not in other


async def test_a_preflight_of_an_allowed_origin_is_answered() -> None:
    status, headers = await ask(
        "OPTIONS", origins=(ELSEWHERE,), origin=ELSEWHERE, access_control_request_method="POST"
    )

    assert status == 204
    assert "POST" in headers["access-control-allow-methods"]
    assert "authorization" in headers["access-control-allow-headers"]


async def test_pages_of_an_allowed_origin_may_connect(
    connect: Callable[..., Any], settings: Settings
) -> None:
    settings.CORS_ALLOWED_ORIGINS = [ELSEWHERE]

    socket: Socket = await connect(Origin=ELSEWHERE)

    await socket.hello()


@pytest.mark.parametrize("path", ["none.js", "../../manage.py", "..%2f..%2fmanage.py", "%2e%2e/x"])
def test_a_file_outside_the_folder_is_none(path: str) -> None:
    problem(ASGIClient().get(f"/static/{path}"), 404, "NOT_FOUND")
