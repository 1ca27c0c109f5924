"""Health, statistics and quotes."""

import asyncio
import threading
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import redis
from django.conf import settings
from django.db.migrations.loader import MigrationLoader
from django.test import Client
from redis.backoff import NoBackoff
from redis.retry import Retry

from dex.venues.registry import SIMULATED
from orderengine import celery
from orders import database, execution, health, presence, trading
from orders.events import iso
from orders.models import Order, Status
from tests import factories
from tests.api.http import order_body, placed, pointers, post, problem, stored_orders

pytestmark = pytest.mark.usefixtures("no_orders")


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_asked", {})


def works() -> None:
    """A check that passes."""


def fails() -> None:
    raise ConnectionError("secret-host:6379 refused")


# Health ------------------------------------------------------------------------------------------


def test_live_depends_on_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise psycopg.OperationalError("away")

    monkeypatch.setattr(database, "rows", away)
    monkeypatch.setattr(health, "HEALTH", {"database": fails})

    response = client.get("/health/live")

    assert response.status_code == 200
    assert response.json()["status"] == "ok"


def test_ready_is_the_database_redis_and_the_migrations(client: Client) -> None:
    response = client.get("/health/ready")

    assert response.status_code == 200
    checks = {"database": "ok", "redis": "ok", "migrations": "ok"}
    assert response.json() == {"status": "ok", "checks": checks}


def test_health_is_the_database_redis_and_a_worker(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(health.HEALTH, "worker", works)

    response = client.get("/health")

    assert response.status_code == 200
    checks = {"database": "ok", "redis": "ok", "worker": "ok"}
    assert response.json() == {"status": "ok", "checks": checks}


@pytest.mark.parametrize("failing", ["database", "redis", "worker"])
def test_one_failing_check_is_unhealthy(
    client: Client, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    for name in health.HEALTH:
        monkeypatch.setitem(health.HEALTH, name, fails if name == failing else works)

    response = client.get("/health")

    body = response.json()
    assert response.status_code == 503
    assert body["status"] != "ok"
    assert {name for name, state in body["checks"].items() if state != "ok"} == {failing}
    assert "secret" not in response.text


@pytest.mark.parametrize("failing", ["database", "redis", "migrations"])
def test_one_failing_check_is_not_ready(
    client: Client, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    monkeypatch.setitem(health.READINESS, failing, fails)

    response = client.get("/health/ready")

    assert response.status_code == 503
    assert response.json()["checks"][failing] != "ok"


def test_without_a_worker_health_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PING_SECONDS", 0.1)

    response = client.get("/health")

    assert response.status_code == 503
    checks = response.json()["checks"]
    assert (checks["database"], checks["redis"]) == ("ok", "ok")
    assert checks["worker"] != "ok"


def test_redis_away_is_unhealthy(client: Client, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    assert client.get("/health/ready").json()["checks"]["redis"] != "ok"


def test_the_migrations_are_those_that_django_finds() -> None:
    assert health.migrations() == set(MigrationLoader(None).disk_migrations)


def test_a_missing_migration_is_not_ready(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "migrations", lambda: {("orders", "0099")})

    assert client.get("/health/ready").json()["checks"]["migrations"] != "ok"


def test_an_answer_is_reused_for_a_moment_and_not_for_ever(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setitem(health.HEALTH, "worker", lambda: asked.append(1))
    now = [1000.0]
    monkeypatch.setattr(health, "time", SimpleNamespace(monotonic=lambda: now[0]))

    for _ in range(5):
        client.get("/health")
    assert len(asked) == 1

    now[0] += 5
    client.get("/health")
    assert len(asked) == 2


async def test_all_who_ask_at_once_ask_one_question() -> None:
    """A hundred pings at once used up kombu's connections, and no answer ever came again."""
    begun, go_on = [], threading.Event()

    def waits() -> None:
        begun.append(1)
        go_on.wait(10)

    asked = [asyncio.create_task(health.report({"worker": waits})) for _ in range(300)]
    await asyncio.sleep(0.1)
    asked.pop().cancel()  # who stops waiting takes the answer from nobody
    go_on.set()

    assert [one["worker"] for one in await asyncio.gather(*asked)] == ["ok"] * 299
    assert begun == [1]


# Statistics --------------------------------------------------------------------------------------


def test_the_statistics_of_nothing_are_zeros(client: Client) -> None:
    body = client.get("/api/orders/stats").json()

    queue = {name: body["queue"][name] for name in ("waiting", "active", "completed", "failed")}
    assert queue == {"waiting": 0, "active": 0, "completed": 0, "failed": 0}


def test_every_order_is_counted_once(client: Client) -> None:
    waiting = [placed(client) for _ in range(4)]
    execution.execute_order(waiting.pop())
    client.post(f"/api/orders/{waiting.pop()}/cancel")
    for status in (Status.ROUTING, Status.BUILDING, Status.SUBMITTED, Status.FAILED):
        factories.order_in(status)

    queue = client.get("/api/orders/stats").json()["queue"]

    assert (queue["waiting"], queue["active"]) == (2, 3)
    assert (queue["completed"], queue["failed"]) == (1, 1)


def test_the_sockets_of_all_processes_are_counted(client: Client) -> None:
    before = client.get("/api/orders/stats").json()["websocket"]["connections"]
    number = presence.opened()
    with redis.Redis.from_url(settings.REDIS_URL) as connection:
        connection.set("presence:web:another", 3, ex=10)
        for odd in ("abc", "9" * 5000, b"\xff", "-1"):
            connection.set(f"presence:web:{hash(odd)}".encode() + b"\xff", odd, ex=10)
        during = client.get("/api/orders/stats").json()["websocket"]["connections"]
        connection.delete(*connection.scan_iter("presence:web:*"))
    presence.closed(number)

    assert during == before + 4
    assert client.get("/api/orders/stats").json()["websocket"]["connections"] == before


def test_this_process_is_counted_once() -> None:
    number = presence.opened()
    before = presence.connections()
    try:
        presence.report()

        assert presence.connections() == before
        assert 0 < presence.client().ttl(presence.KEY + presence._process) <= 10
    finally:
        presence.closed(number)
        presence.client().delete(presence.KEY + presence._process)


def test_statistics_are_answered_while_redis_is_away(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = redis.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 1))  # as client()'s
    monkeypatch.setattr(presence, "client", lambda: nowhere)

    response = client.get("/api/orders/stats")

    assert (response.status_code, response.json()["workers"]) == (200, None)


def test_the_limits_are_those_of_the_fleet(client: Client, settings: Any) -> None:
    settings.QUEUE_CONCURRENCY, settings.QUEUE_RATE_LIMIT = 10, 0

    limits = client.get("/api/orders/stats").json()["limits"]

    assert limits == {"concurrency": 10, "startsPerMinute": None}


def test_the_first_starts_of_the_last_minute_are_counted(client: Client) -> None:
    first, second = (factories.order_in(Status.ROUTING).id for _ in range(2))
    placed(client)
    assert client.get("/api/orders/stats").json()["starts"] == {"lastMinute": 2}

    Order.objects.filter(id=first).update(started_at=database.now() - timedelta(seconds=61))
    factories.end_lease(second)
    factories.claim(second)

    assert client.get("/api/orders/stats").json()["starts"] == {"lastMinute": 1}


def test_a_worker_is_counted_from_its_first_heartbeat_until_it_leaves(client: Client) -> None:
    def workers() -> int:
        return int(client.get("/api/orders/stats").json()["workers"])

    before = workers()
    celery.report()
    during = workers()
    celery.report()
    again = workers()
    celery.leave()

    assert (during, again, workers()) == (before + 1, before + 1, before)


def test_a_worker_that_dies_is_forgotten() -> None:
    presence.report_worker()
    left = presence.client().ttl(presence.WORKER_KEY + presence._process)
    presence.worker_leaves()

    assert 0 < left <= 10


def test_the_statistics_say_whether_trading_is_halted(client: Client) -> None:
    def shown() -> Any:
        return client.get("/api/orders/stats").json()["trading"]

    assert shown() == {"halted": False, "since": None, "reason": None}
    halt = trading.halt("alice", "a drill")
    assert halt is not None
    assert shown() == {"halted": True, "since": iso(halt.halted_at), "reason": "a drill"}
    trading.resume("alice")
    trading.halt("alice")
    assert shown()["reason"] is None


# Quotes ------------------------------------------------------------------------------------------


def test_quotes_are_of_each_venue_with_the_route_that_would_be_taken(client: Client) -> None:
    response = post(client, "/api/quotes", order_body())

    body = response.json()
    assert response.status_code == 200
    quotes = {quote["venue"]: quote for quote in body["quotes"]}
    assert list(quotes) == list(SIMULATED)
    best = max(quotes.values(), key=lambda quote: float(quote["amountOut"]))
    assert body["venue"] == best["venue"]
    assert body["expectedAmountOut"] == best["amountOut"]
    assert body["minAmountOut"] == best["minAmountOut"]
    assert best["venue"].capitalize() in body["reason"]["text"]
    for quote in quotes.values():
        decimals = ["amountOut", "minAmountOut", "effectivePrice", "midPrice", "priceImpact", "fee"]
        assert all(isinstance(quote[name], str) for name in decimals)
    assert stored_orders() == []


def test_a_wider_slippage_lowers_the_minimum_of_a_quote(client: Client) -> None:
    narrow, wide = (
        post(client, "/api/quotes", order_body(slippage=slippage)).json()["quotes"]
        for slippage in ("0.001", "0.1")
    )
    for before, after in zip(narrow, wide, strict=True):
        assert float(after["minAmountOut"]) < float(before["minAmountOut"])


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"amount": 0}, "/amount"),
        ({"tokenIn": "DOGE"}, "/tokenIn"),
        ({"tokenOut": "SOL"}, "/tokenOut"),
        ({"slippage": 2}, "/slippage"),
        ({"venue": "raydium"}, "/venue"),
    ],
)
def test_a_quote_is_refused_like_an_order(
    client: Client, changes: dict[str, Any], pointer: str
) -> None:
    response = post(client, "/api/quotes", order_body(**changes))

    assert pointers(problem(response, 400, "VALIDATION")) == {pointer}


def test_an_amount_that_no_pool_can_fill_is_refused(client: Client) -> None:
    response = post(client, "/api/quotes", order_body(amount="18446744073"))

    problem(response, 400, "INSUFFICIENT_LIQUIDITY")
