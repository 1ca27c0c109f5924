"""Many clients at once: their orders share a COMMIT, and each gets its own answer."""

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from threading import Event
from typing import Any

import psycopg
import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIHandler
from django.db import connection
from django.http import HttpResponse
from django.test import RequestFactory
from pytest_django import Settings

from orderengine.api_views import APIViews, answer_of, read_body
from orders import database, intake, loop
from orders.parsing import MAX_BODY_BYTES
from orders.threads import in_turn
from tests.api.asgi import ASGIClient, ask, begin, scope_of, web
from tests.api.http import BATCH, EXECUTE, bearer, execute, order_body, problem, stored_orders
from tests.factories import WAITING
from tests.stacks import wait_until

pytestmark = pytest.mark.usefixtures("no_orders")

# Whoever has it alone keeps every order from being stored (migration 0010).
HALT_LOCK = "SELECT pg_advisory_lock(hashtext('orders_halt'))"
TRANSACTIONS = "SELECT count(DISTINCT xmin::text) AS count FROM orders_order"


def asking(body: Any, path: str = EXECUTE, method: str = "POST", **headers: str) -> dict[str, Any]:
    """The scope and the body of a request."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content_type = named.pop("Content-Type", "application/json")
    made = RequestFactory().generic(method, path, data, content_type=content_type, headers=named)
    typed = {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": str(len(data)), **made.META}
    return {"scope": scope_of(typed), "body": data}


def post(body: Any, **headers: str) -> Future[HttpResponse]:
    return begin(ask(**asking(body, **headers)))


@contextmanager
def nothing_stored_yet() -> Iterator[int]:
    """The first order waits within its statement, all others for it; yields that backend's pid."""
    with psycopg.connect(django_settings.DATABASE_URL) as conn:
        conn.execute(HALT_LOCK)
        first = post(order_body())
        yield wait_until(lambda: database.row(WAITING, {}), every=0.001)["pid"]
    first.result(10)


def test_orders_that_come_together_share_a_commit_and_each_is_answered(
    alice: User, bob: User
) -> None:
    late = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    execute(ASGIClient(), order_body(clientOrderId="taken"))
    keys = [bearer(user) for user in (alice, bob)]

    with nothing_stored_yet():
        good = [post(order_body(amount=n + 1), Authorization=keys[n % 2]) for n in range(20)]
        replayed = post(order_body(clientOrderId="taken"))
        reused = post(order_body(clientOrderId="taken", amount=7))
        too_late = post(order_body(deadline=late))
        wrong = post(order_body(amount=-1))
        twins = [post(order_body(clientOrderId="new")) for _ in range(3)]
        problem(wrong.result(10), 400, "VALIDATION")

    answers = [each.result(10) for each in good]
    assert [answer.status_code for answer in answers] == [201] * 20
    for number, answer in enumerate(answers):
        reader = ASGIClient()
        order = reader.get(answer["Location"], headers={"Authorization": keys[number % 2]}).json()
        assert order["amount"] == str(number + 1)
    assert replayed.result(10)["Idempotency-Replayed"] == "true"
    problem(reused.result(10), 409, "CLIENT_ORDER_ID_REUSED")
    problem(too_late.result(10), 400, "VALIDATION")
    same = [each.result(10) for each in twins]
    assert len({answer.content for answer in same}) == 1
    assert sum("Idempotency-Replayed" not in answer for answer in same) == 1
    assert len(stored_orders()) == 1 + 1 + 20 + 1
    # Each alone would be 23; on a busy machine some come when the first are stored already.
    assert database.rows(TRANSACTIONS, {})[0]["count"] <= 12


def test_when_the_connection_is_lost_each_order_of_the_group_is_refused_and_none_stored() -> None:
    with psycopg.connect(django_settings.DATABASE_URL) as conn:
        conn.execute(HALT_LOCK)
        first = post(order_body())
        backend = wait_until(lambda: database.row(WAITING, {}), every=0.001)
        group = [first]
        database.row("SELECT pg_terminate_backend(%(pid)s)", backend)
        wait(group, 5)

    for each in group:
        problem(each.result(10), 503, "DATABASE_UNAVAILABLE")
    assert stored_orders() == []
    assert execute(ASGIClient()).status_code == 201


def test_batches_that_come_together_take_turns_and_each_is_answered_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake, "PLACE_SECONDS", 1)
    body = {"orders": [order_body(), order_body()]}
    with psycopg.connect(django_settings.DATABASE_URL) as conn:
        conn.execute(HALT_LOCK)
        asked = time.monotonic()
        batches = [begin(ask(**asking(body, BATCH))) for _ in range(12)]
        wait_until(lambda: len(database.rows(WAITING, {})) == 4)
        for each in batches:
            problem(each.result(10), 503, "DATABASE_UNAVAILABLE")
        took = time.monotonic() - asked
        assert len(database.rows(WAITING, {})) <= 4
    assert 0.9 < took < 2

    after = [begin(ask(**asking(body, BATCH))) for _ in range(12)]
    assert [each.result(10).status_code for each in after] == [201] * 12


def test_an_order_takes_no_turn_with_batches() -> None:
    taken, over = order_body(clientOrderId="taken"), Event()
    execute(ASGIClient(), taken)
    batches = [asyncio.run_coroutine_threadsafe(in_turn(over.wait, 10), web()) for _ in range(4)]

    replayed = post(taken).result(10)

    over.set()
    wait(batches, 10)
    assert replayed["Idempotency-Replayed"] == "true"


def test_a_client_that_leaves_takes_nobody_along() -> None:
    with nothing_stored_yet():
        orders = [post(order_body()) for _ in range(3)]
        orders[1].cancel()

    assert [orders[n].result(10).status_code for n in (0, 2)] == [201, 201]
    assert len(stored_orders()) in (3, 4)


# What a request takes ----------------------------------------------------------------------------


def test_a_view_that_is_no_coroutine_keeps_no_connection() -> None:
    def view() -> HttpResponse:
        assert not User.objects.filter(pk=0).exists()
        assert connection.connection is not None
        return HttpResponse()

    answer_of(view)

    assert connection.connection is None


def test_no_more_of_a_body_is_kept_than_shows_that_it_is_too_long() -> None:
    body, chunks = BytesIO(), iter(range(100))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b" " * 65_536, "more_body": next(chunks) < 99}

    assert loop.run(read_body(body, receive))
    assert len(body.getvalue()) == MAX_BODY_BYTES + 1


def test_a_body_whose_client_has_gone_is_no_request() -> None:
    messages = iter(
        [{"type": "http.request", "body": b"{}", "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive() -> dict[str, Any]:
        return next(messages)

    assert not loop.run(read_body(BytesIO(), receive))


# Beside Django's own handler ----------------------------------------------------------------------


CASES = {
    "valid": asking(order_body()),
    "refused": asking(order_body(amount=0)),
    "no JSON": asking(b"{"),
    "null": asking(b"null"),
    "too long": asking(b" " * 300_000),
    "other type": asking(b"a=1", Content_Type="application/x-www-form-urlencoded"),
    "wrong key": asking(order_body(), Authorization="Bearer no"),
    "batch": asking({"orders": [order_body()] * 2}, BATCH),
    "key on a batch": asking({"orders": [order_body()]}, BATCH, Idempotency_Key="one"),
    "GET": asking(b"", method="GET"),
    "HEAD": asking(b"", method="HEAD"),
    "OPTIONS": asking(b"", method="OPTIONS"),
    "PUT": asking(b"", method="PUT"),
    "unknown method": asking(b"", method="DISPATCH"),
    "unknown host": asking(order_body(), Host="elsewhere.example"),
    "slash": asking(order_body(), f"{EXECUTE}/"),
}
READ = {
    "list": "/api/orders",
    "wrong filter": "/api/orders?limit=0",
    "no such order": "/api/orders/ord_1795843939082_0b09ezs9wy",
    "its events": "/api/orders/ord_1795843939082_0b09ezs9wy/events?afterSeq=1",
    "an order's slash": "/api/orders/ord_1795843939082_0b09ezs9wy/",
    "stats": "/api/orders/stats",
    "activity": "/api/orders/activity",
    "ready": "/health/ready",
    "live": "/health/live",
    "metrics": "/metrics",
    "schema": "/api/schema",
    "page": "/api/docs",
    "sockets": "/api/asyncapi.yaml",
    "nothing": "/api/orders/execute/no",
}
CASES |= {
    f"{method} {name}": asking(b"", path, method)
    for name, path in READ.items()
    for method in ("GET", "HEAD", "POST", "OPTIONS")
}
CASES |= {
    "cancel": asking(b"", "/api/orders/ord_1795843939082_0b09ezs9wy/cancel"),
    "quotes": asking({"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1"}, "/api/quotes"),
    "wrong quotes": asking({"tokenIn": "SOL"}, "/api/quotes"),
    "ticket": asking(b"", "/api/tickets"),
    "read with a wrong key": asking(b"", "/api/orders", "GET", Authorization="Bearer no"),
}
# What is new in every answer, or may be: numbers change their length.
OWN = {"x-request-id", "location", "content-length"}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("https", [False, True], ids=["http", "https"])
def test_it_is_the_answer_of_django_s_handler(case: str, https: bool, settings: Settings) -> None:
    settings.SECURE_HSTS_SECONDS = 31_536_000
    parts = CASES[case]
    parts["scope"]["scheme"] = "https" if https else "http"
    body = parts["body"]

    django_handler = ASGIHandler()
    applications = [APIViews(django_handler), django_handler]
    answers = [begin(ask(dict(parts["scope"]), body, app)) for app in applications]

    ours, django = (shown(answer.result(10)) for answer in answers)
    assert ours == django


def shown(answer: HttpResponse) -> Any:
    headers = {name.lower(): value for name, value in answer.items() if name.lower() not in OWN}
    headers["vary"] = headers.get("vary", "").removesuffix("Cookie")  # who looked for a session
    is_json = headers.get("content-type", "").endswith("json")
    return answer.status_code, headers, set(json.loads(answer.content)) if is_json else None
