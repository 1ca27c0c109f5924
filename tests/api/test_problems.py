"""One shape for every refusal, also for what nobody foresaw."""

import json
import logging

import psycopg
import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.db import OperationalError
from django.test import Client
from psycopg_pool import PoolTimeout
from structlog.testing import capture_logs

from dex.postgres import Session
from orders import database, queries, views
from orders.models import ApiKey
from tests.api.http import (
    BATCH,
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

PATHS = ["/nope", "/api", "/api/", "/api/orders/", "/api/orders/a/b/c", "/health/", "/%00"]


@pytest.mark.parametrize("path", PATHS)
def test_an_unknown_path_is_not_found(client: Client, path: str) -> None:
    problem(client.get(path), 404, "NOT_FOUND")


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_an_unknown_path_is_not_found_by_any_method(client: Client, method: str) -> None:
    problem(getattr(client, method)("/api/nope"), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("put", EXECUTE),
        ("delete", EXECUTE),
        ("post", "/api/orders"),
        ("patch", "/api/orders/ord_1700000000000_abcdefghij"),
        ("delete", "/api/orders/ord_1700000000000_abcdefghij"),
        ("get", "/api/orders/ord_1700000000000_abcdefghij/cancel"),
        ("post", "/api/orders/ord_1700000000000_abcdefghij/events"),
        ("get", "/api/quotes"),
        ("post", "/api/orders/stats"),
        ("post", "/health"),
    ],
)
def test_another_method_is_not_allowed(client: Client, method: str, path: str) -> None:
    response = getattr(client, method)(path)

    problem(response, 405, "METHOD_NOT_ALLOWED")
    assert method.upper() not in response["Allow"].split(", ")


def test_the_page_of_the_api_says_which_methods_it_takes(client: Client) -> None:
    response = client.options("/api/docs")

    problem(response, 405, "METHOD_NOT_ALLOWED")
    assert response["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/login", "/admin/"])
def test_a_page_refuses_what_another_site_sent_in_the_one_shape(path: str) -> None:
    client = Client(enforce_csrf_checks=True)

    problem(client.post(path, headers={"Accept": "*/*"}), 403, "FORBIDDEN")
    shown = client.post(path, headers={"Accept": "text/html,*/*;q=0.8"})
    assert (shown.status_code, shown["Content-Type"]) == (403, "text/html; charset=utf-8")


@pytest.mark.parametrize("path", [EXECUTE, BATCH, "/api/tickets"])
def test_a_user_who_was_deleted_meanwhile_is_nobody(client: Client, alice: User, path: str) -> None:
    key = {"Authorization": bearer(alice)}
    assert execute(client, **key).status_code == 201  # the key is trusted for two seconds
    database.rows("DELETE FROM orders_orderevent RETURNING 1", {})
    database.rows("DELETE FROM orders_order RETURNING 1", {})
    ApiKey.objects.all().delete()
    alice.delete()

    body = {EXECUTE: order_body(), BATCH: {"orders": [order_body()] * 2}}.get(path)

    problem(post(client, path, body, **key), 401, "NOT_AUTHENTICATED")


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/png", "*/*;q=0"])
def test_json_is_answered_whatever_is_accepted(client: Client, accept: str) -> None:
    response = client.get("/api/orders", headers={"Accept": accept})

    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"


def test_another_host_is_refused(client: Client) -> None:
    for response in (
        client.get("/api/orders", headers={"Host": "evil.example"}),
        execute(client, Host="evil.example"),
    ):
        assert "Host" in problem(response, 400, "BAD_REQUEST")["detail"]
    assert stored_orders() == []


def test_the_request_id_of_a_refusal_is_the_client_s(client: Client) -> None:
    refusal = problem(execute(client, {}, X_Request_ID="mine"), 400)

    assert refusal["requestId"] == "mine"


def test_a_fault_of_ours_is_an_internal_problem_without_a_word_of_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("the secret inside")

    monkeypatch.setattr(views, "owner_of", broken)

    for response in (client.get("/api/orders"), execute(client)):
        problem(response, 500, "INTERNAL")
        assert "secret" not in response.text
        assert "ZeroDivisionError" not in response.text
    assert stored_orders() == []


def test_a_fault_past_the_views_is_an_internal_problem_too(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "stats", lambda: {"waiting": object()})

    problem(client.get("/api/orders/stats"), 500, "INTERNAL")


@pytest.mark.parametrize(
    "error",
    [psycopg.OperationalError("server closed"), psycopg.InterfaceError("gone"), PoolTimeout("2 s")],
    ids=lambda error: type(error).__name__,
)
def test_while_postgresql_is_away_requests_may_be_repeated_later(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    order_id = placed(client)

    def away(*_: object) -> None:
        raise error

    async def away_for_coroutines(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(database, "rows", away)
        patched.setattr(Session, "rows", away_for_coroutines)
        responses = [
            execute(client),
            client.get(f"/api/orders/{order_id}"),
            client.get(f"/api/orders/{order_id}/events"),
            client.post(f"/api/orders/{order_id}/cancel"),
            client.get("/api/orders"),
            client.get("/api/orders/stats"),
        ]

    for response in responses:
        problem(response, 503)
        assert int(response["Retry-After"]) > 0
        assert str(error) not in response.text
    assert stored_orders() == [order_id]


@pytest.mark.parametrize("path", ["/", "/admin/"])
def test_while_postgresql_is_away_pages_are_a_503_as_well(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    alice: User,
    path: str,
) -> None:
    client.force_login(alice)
    client.raise_request_exception = False

    def away(*_: object) -> None:
        raise OperationalError("server closed")

    with monkeypatch.context() as patched:
        patched.setattr(SessionStore, "load", away)
        response = client.get(path)

    problem(response, 503, "DATABASE_UNAVAILABLE")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_statement_cut_off_by_its_timeout_may_be_repeated_later(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def held(*_: object) -> None:
        impatient = "-c statement_timeout=50"
        async with await psycopg.AsyncConnection.connect(
            database.conninfo(), options=impatient
        ) as conn:
            await conn.execute("SELECT pg_sleep(5)")

    monkeypatch.setattr(Session, "rows", held)

    problem(execute(client), 503)


def test_a_session_alone_does_not_place_an_order_from_another_page(
    client: Client, alice: User
) -> None:
    client.force_login(alice)

    problem(execute(client), 403, "FORBIDDEN")

    assert stored_orders() == []
    assert client.get("/api/orders").status_code == 200


def test_an_order_is_not_cancelled_by_getting(client: Client) -> None:
    order_id = placed(client)

    problem(client.get(f"/api/orders/{order_id}/cancel"), 405)
    problem(post(client, f"/api/orders/{order_id}", {}), 405)

    assert client.get(f"/api/orders/{order_id}").json()["status"] == "pending"


def test_what_a_client_sent_is_repeated_in_part(client: Client) -> None:
    names = {f"{n}{'x' * 10_000}": n for n in range(9)}

    answer = problem(post(client, EXECUTE, names), 400, "VALIDATION")

    assert len(json.dumps(answer)) < 10_000
    assert answer["errors"][0]["pointer"].startswith("/0xxx")


def test_what_nobody_knows_is_named_in_part(client: Client) -> None:
    answer = execute(client, order_body(**{f"k{number:04}": 1 for number in range(5_000)}))

    named = [error["pointer"] for error in problem(answer, 400, "VALIDATION")["errors"]]
    assert named == [f"/k{number:04}" for number in range(20)]


@pytest.mark.parametrize("path", ["orders", "orders/activity", "schema"])
def test_an_address_with_more_parameters_than_are_read_is_refused(
    client: Client, path: str
) -> None:
    with capture_logs() as lines:
        answer = client.get(f"/api/{path}?{'&'.join(f'p{n}=1' for n in range(1001))}")

    assert "1000 parameters" in problem(answer, 400, "BAD_REQUEST")["detail"]
    assert not lines
