"""GET /metrics: what Prometheus reads, whoever may read it, and what it costs."""

import time
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from psycopg.rows import dict_row

from dex.errors import VenueUnavailable
from orders import (
    claims,
    database,
    dispatcher,
    events,
    execution,
    loop,
    measures,
    metrics,
    presence,
    trading,
)
from orders.models import Order, Status
from tests import factories
from tests.api.http import bearer, placed, problem
from tests.factories import StubExchange, claim

pytestmark = pytest.mark.usefixtures("no_orders")

STAGES = ["queued", "routing", "building", "submitted", "total"]
DIRECT = {"REMOTE_ADDR": "10.1.2.3"}


class Scrape:
    def __init__(self, client: Client) -> None:
        response = client.get("/metrics")
        assert response.status_code == 200, response.content
        assert response["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        self.families = {f.name: f for f in text_string_to_metric_families(response.text)}
        self.samples = [sample for f in self.families.values() for sample in f.samples]

    def __call__(self, name: str, **labels: str) -> float:
        (value,) = [
            s.value for s in self.samples if (s.name, s.labels) == (f"orders_{name}", labels)
        ]
        return value

    def stages(self) -> dict[str, float]:
        """How many orders have been through each."""
        return {stage: self("stage_seconds_count", stage=stage) for stage in STAGES}


@pytest.fixture
def scrape(client: Client) -> Any:
    def flushed() -> Scrape:
        measures.counts().flush()
        return Scrape(client)

    return flushed


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(*states: Any, **other: Any) -> None:
        exchange = StubExchange(*states, **other)
        monkeypatch.setattr(execution, "exchange", lambda: exchange)

    return use


@pytest.fixture
def limits(settings: Any) -> Any:
    settings.QUEUE_CONCURRENCY, settings.QUEUE_RATE_LIMIT = 10, 100
    return settings


@pytest.fixture
def conn() -> Iterator[psycopg.Connection[Any]]:
    """A session of its own, as the engine's are."""
    with psycopg.connect(
        database.conninfo(), autocommit=True, row_factory=dict_row, options=database.options()
    ) as opened:
        yield opened


# Values ------------------------------------------------------------------------------------------


def test_of_no_orders_everything_is_there_and_zero(scrape: Any, limits: Any) -> None:
    seen = scrape()

    assert (seen("placed_total"), seen("retries_total"), seen("due")) == (0, 0, 0)
    assert {seen("ended_total", outcome=o) for o in ("confirmed", "failed", "expired")} == {0}
    assert seen.stages() == dict.fromkeys(STAGES, 0)
    assert (seen("in_execution_limit"), seen("starts_limit")) == (10, 100)
    assert seen("dispatch_lag_seconds") == 0
    assert all(f.documentation for name, f in seen.families.items() if name.startswith("orders_"))


def test_an_order_is_followed_through_its_life(scrape: Any, client: Client, stub: Any) -> None:
    stub()
    order_id = placed(client)
    waiting = scrape()
    claimed = claim(order_id)
    assert claimed is not None
    running = scrape()
    move = loop.run(execution.attempt(claimed, execution.exchange()))
    loop.run(claims.end(claimed, move, go_on=False))
    ended = scrape()

    assert [seen("now", status="pending") for seen in (waiting, running, ended)] == [1, 0, 0]
    assert [seen("now", status="routing") for seen in (waiting, running, ended)] == [0, 1, 0]
    assert [seen("due") for seen in (waiting, running, ended)] == [1, 0, 0]
    assert [seen("in_execution") for seen in (waiting, running, ended)] == [0, 1, 0]
    assert [seen("starts_last_minute") for seen in (waiting, running, ended)] == [0, 1, 1]
    assert [seen("placed_total") for seen in (waiting, running, ended)] == [1, 1, 1]
    assert ended("ended_total", outcome="confirmed") == 1
    assert running.stages() == dict.fromkeys(STAGES, 0) | {"queued": 1}
    assert ended.stages() == dict.fromkeys(STAGES, 1)


def test_a_halt_is_seen(scrape: Any) -> None:
    def halted() -> list[float]:
        return [sample.value for sample in scrape().samples if sample.name == "trading_halted"]

    assert halted() == [0]
    trading.halt("alice")
    assert halted() == [1]


def test_what_was_held_is_late_from_when_trading_was_resumed(scrape: Any, limits: Any) -> None:
    order_id = factories.place()
    Order.objects.filter(id=order_id).update(next_attempt_at=database.now() - timedelta(minutes=9))
    assert scrape()("dispatch_lag_seconds") > 500
    trading.halt("alice")
    assert scrape()("dispatch_lag_seconds") == 0
    trading.resume("alice")
    assert scrape()("dispatch_lag_seconds") < 60


def test_the_times_are_those_between_the_events(scrape: Any) -> None:
    order_id, begun = factories.place(), time.monotonic()
    database.rows(
        "UPDATE orders_order SET created_at = now() - interval '55.5 s' WHERE id = %(id)s "
        "RETURNING id",
        {"id": order_id},
    )
    order = claim(order_id)
    assert order is not None
    for status, seconds in (
        (Status.BUILDING, 0.3),
        (Status.SUBMITTED, 0.2),
        (Status.CONFIRMED, 30),
    ):
        order.updated_at -= timedelta(seconds=seconds)
        factories.step_to(order, status)

    took = time.monotonic() - begun
    seen = scrape()

    sums = {stage: seen("stage_seconds_sum", stage=stage) for stage in STAGES}
    assert sums["queued"] == pytest.approx(55.5, abs=took)
    assert sums["routing"] == pytest.approx(0.3, abs=took)
    assert sums["building"] == pytest.approx(0.2, abs=took)
    assert sums["submitted"] == pytest.approx(30, abs=took)
    assert seen("stage_seconds_bucket", stage="queued", le="30.0") == 0
    assert seen("stage_seconds_bucket", stage="queued", le="60.0") == 1
    assert seen("stage_seconds_bucket", stage="queued", le="+Inf") == 1


def test_the_waits_before_a_retry_are_not_in_the_queue_s_time(
    scrape: Any, client: Client, stub: Any
) -> None:
    order_id = placed(client)
    stub(route=VenueUnavailable("QUOTE_UNAVAILABLE", "no answer"))
    with pytest.raises(execution.RetryLater):
        execution.execute_order(order_id)
    delayed = scrape()
    factories.make_due(order_id)
    again = scrape()
    stub()
    execution.execute_order(order_id)
    ended = scrape()

    assert [seen("retries_total") for seen in (delayed, again, ended)] == [1, 1, 1]
    assert [seen("now", status="pending") for seen in (delayed, again, ended)] == [1, 1, 0]
    assert [seen("due") for seen in (delayed, again, ended)] == [0, 1, 0]
    assert ended.stages() == dict.fromkeys(STAGES, 1)


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED, Status.EXPIRED])
def test_other_ends_are_counted_and_have_no_total_time(scrape: Any, status: Status) -> None:
    factories.order_in(status)

    seen = scrape()

    assert seen("ended_total", outcome=status.value) == 1
    assert seen.stages()["total"] == 0


def test_a_move_that_loses_its_claim_measures_nothing(scrape: Any) -> None:
    order = factories.order_in(Status.SUBMITTED)
    before = scrape().stages()
    order.fence += 1
    with pytest.raises(claims.ClaimLost):
        factories.step_to(order, Status.CONFIRMED)

    assert scrape().stages() == before


def test_what_is_counted_while_the_database_is_away_is_kept(
    scrape: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise psycopg.OperationalError("away")

    factories.order_in(Status.CONFIRMED)
    with monkeypatch.context() as while_away:
        while_away.setattr(database, "rows", away)
        measures.counts().flush()

    assert scrape().stages() == dict.fromkeys(STAGES, 1)


def test_what_a_process_has_counted_is_added_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    at_the_end: list[Any] = []
    monkeypatch.setattr("atexit.register", at_the_end.append)

    made = measures.counts.__wrapped__()  # type: ignore[attr-defined]

    assert at_the_end == [made.flush]


# The dispatcher ----------------------------------------------------------------------------------


def started_ago(order_id: str, seconds: float) -> None:
    database.rows(
        "UPDATE orders_order SET started_at = now() - make_interval(secs => %(ago)s) "
        "WHERE id = %(id)s RETURNING id",
        {"id": order_id, "ago": seconds},
    )


def test_an_order_that_could_start_and_does_not_is_late(scrape: Any, limits: Any) -> None:
    factories.make_due(factories.place(), 20)

    assert scrape()("dispatch_lag_seconds") == pytest.approx(20, abs=2)


def test_an_order_that_waits_for_a_place_is_not_late(scrape: Any, limits: Any) -> None:
    limits.QUEUE_CONCURRENCY = 1
    factories.order_in(Status.ROUTING)
    factories.make_due(factories.place(), 20)

    assert scrape()("dispatch_lag_seconds") == 0


def test_an_order_is_late_from_when_the_minute_had_a_start_left(scrape: Any, limits: Any) -> None:
    limits.QUEUE_RATE_LIMIT = 1
    started_ago(factories.order_in(Status.CONFIRMED).id, 65)
    factories.make_due(factories.place(), 50)

    assert scrape()("dispatch_lag_seconds") == pytest.approx(5, abs=2)


def test_while_others_start_a_long_queue_is_not_late(scrape: Any, limits: Any) -> None:
    factories.make_due(factories.place(), 500)
    started_ago(factories.order_in(Status.CONFIRMED, owner_id=None).id, 1)

    assert scrape()("dispatch_lag_seconds") < 5


def test_a_leading_dispatcher_is_seen(scrape: Any, conn: psycopg.Connection[Any]) -> None:
    alone = scrape()
    conn.execute("SELECT pg_advisory_lock(%s)", [dispatcher.LEADER_LOCK])
    led = scrape()

    assert (alone("dispatcher_leading"), led("dispatcher_leading")) == (0, 1)


# This process ------------------------------------------------------------------------------------


def test_doorbells_and_sockets_of_the_process(scrape: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "rung", events.Counter(published=3, failed=2, dropped=1))
    monkeypatch.setattr(presence, "_open", {1, 2})

    seen = scrape()

    assert [seen("doorbells_total", result=r) for r in ("published", "failed", "dropped")] == [
        3,
        2,
        1,
    ]
    assert seen("sockets") == 2
    assert seen("sockets_of_all") >= 2
    assert seen("hints_waiting") >= 0


def test_what_redis_knows_is_left_out_while_it_is_away(
    scrape: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = metrics.redis.Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.2)
    monkeypatch.setattr(metrics.hints, "_broker", lambda: away)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    seen = scrape()

    assert "orders_hints_waiting" not in seen.families
    assert seen("placed_total") == 0


def test_while_postgresql_is_away_there_are_none(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise psycopg.OperationalError("away")

    monkeypatch.setattr(database, "rows", away)

    problem(client.get("/metrics"), 503, "DATABASE_UNAVAILABLE")


# Who may read them -------------------------------------------------------------------------------


@pytest.mark.usefixtures("auth_required")
def test_where_keys_are_required_nobody_reads_them(client: Client) -> None:
    problem(client.get("/metrics"), 401, "NOT_AUTHENTICATED")
    problem(client.get("/metrics", REMOTE_ADDR="127.0.0.1"), 401)


@pytest.mark.usefixtures("auth_required")
def test_a_user_is_not_staff(client: Client, alice: User) -> None:
    problem(client.get("/metrics", headers={"Authorization": bearer(alice)}), 403, "FORBIDDEN")


@pytest.mark.usefixtures("auth_required")
def test_staff_reads_them(client: Client, make_user: Any) -> None:
    scraper = make_user("prometheus", is_staff=True)

    assert client.get("/metrics", headers={"Authorization": bearer(scraper)}).status_code == 200


@pytest.mark.usefixtures("auth_required")
@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3"])
def test_an_allowed_address_reads_them(client: Client, settings: Any, address: str) -> None:
    settings.METRICS_ALLOW = [ip_network("10.1.0.0/16")]

    assert client.get("/metrics", REMOTE_ADDR=address).status_code == 200


@pytest.mark.usefixtures("auth_required")
@pytest.mark.parametrize("address", ["10.2.0.1", "::1", "", "unix:"])
def test_another_address_does_not(client: Client, settings: Any, address: str) -> None:
    settings.METRICS_ALLOW = [ip_network("10.1.0.0/16")]

    problem(client.get("/metrics", REMOTE_ADDR=address), 401)


@pytest.mark.usefixtures("auth_required")
@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Forwarded-Proto", "Forwarded"])
def test_the_address_of_a_proxy_opens_nothing(client: Client, settings: Any, header: str) -> None:
    settings.METRICS_ALLOW = [ip_network("10.1.0.0/16")]

    problem(client.get("/metrics", headers={header: "10.1.2.3"}, **DIRECT), 401)


# What they cost ----------------------------------------------------------------------------------


def test_no_order_is_read_but_by_an_index(conn: psycopg.Connection[Any], limits: Any) -> None:
    plan = conn.execute("EXPLAIN (FORMAT JSON) " + metrics.FLEET, claims.limits()).fetchone()
    scans = {(node["Relation Name"], node["Node Type"]) for node in scans_of(plan)}

    assert ("orders_order", "Index Scan") in scans
    assert {table for table, kind in scans if kind == "Seq Scan"} <= {"pg_database"}
    others = {"orders_tally", "orders_halt", "pg_database"}
    assert {table for table, _ in scans} - {"orders_order"} <= others


def test_it_is_two_statements_however_many_orders_there_are(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    rows = database.rows
    monkeypatch.setattr(
        database, "rows", lambda sql, params: asked.append(sql) or rows(sql, params)
    )
    for _ in range(3):
        factories.order_in(Status.CONFIRMED)
    asked.clear()

    Scrape(client)

    # What this process has measured is stored by a thread of its own, whenever it is time.
    assert [sql for sql in asked if sql != measures.ADD] == [metrics.FLEET, metrics.MEASURES]


def test_what_it_reads_of_a_thousand_ended_orders_is_what_it_reads_of_ten(
    conn: psycopg.Connection[Any], limits: Any
) -> None:
    end_many(conn, 10)
    few = rows_read(conn)
    end_many(conn, 1000)

    assert rows_read(conn) <= few + 10


def end_many(conn: psycopg.Connection[Any], count: int) -> None:
    conn.execute(
        """INSERT INTO orders_order (id, order_type, token_in, token_out, amount_in, slippage_bps,
               status, seq, started_at, completed_at)
           SELECT 'ord_1700000000000_' || lpad((%(count)s::int * 10000 + n)::text, 10, '0'),
               'market', 'SOL', 'USDC', 1, 100, 'confirmed', 5,
               now() - interval '1 day', now() - interval '1 day'
           FROM generate_series(1, %(count)s) n""",
        {"count": count},
    )


def rows_read(conn: psycopg.Connection[Any]) -> int:
    """Of orders, by the plan's own count, those that a filter took out included."""
    explained = "EXPLAIN (ANALYZE, FORMAT JSON) " + metrics.FLEET
    found = conn.execute(explained, claims.limits()).fetchone()
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in scans_of(found)
        if node["Relation Name"] == "orders_order"
    )


def scans_of(plan: Any) -> Iterator[dict[str, Any]]:
    """The nodes of a plan that read a table."""
    if isinstance(plan, dict):
        if "Relation Name" in plan:
            yield plan
        plan = list(plan.values())
    for child in plan if isinstance(plan, list) else []:
        yield from scans_of(child)
