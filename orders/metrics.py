"""GET /metrics for Prometheus: the fleet as the database has it, and this process.

What the fleet does is counted in PostgreSQL, so every web process answers the same and a restart
loses nothing. The cost is that of a few index entries, whatever the tables hold.
"""

from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from itertools import accumulate, groupby
from math import inf
from operator import itemgetter
from typing import Any

import redis
from django.conf import settings
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from orders import claims, database, events, hints, measures, presence, queries
from orders.dispatcher import LEADER_LOCK
from orders.models import IN_EXECUTION, TERMINAL, listed

# The one that every version of Prometheus reads.
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
# Beyond these a count is cut off.
MOST_DELAYED = 1_000

# `lag` is from when the order was due and could start: an order that waits for a place or for the
# minute's starts is not late. Where a place was freed later than the last start, it says too much
# until the next start, so a single value means nothing.
FLEET = f"""
SELECT
    (SELECT coalesce(jsonb_object_agg(kind, n), '{{}}')
     FROM (SELECT kind, sum(count) AS n FROM orders_tally GROUP BY kind) t) AS tally,
    (SELECT coalesce(jsonb_object_agg(status, n), '{{}}')
     FROM (SELECT status, count(*) AS n FROM orders_order
           WHERE status IN ({listed(IN_EXECUTION)}) GROUP BY status) a) AS running,
    (SELECT count(*) FROM (
        SELECT FROM orders_order
        WHERE status = 'pending' AND started_at IS NOT NULL
          AND next_attempt_at > (SELECT clock_timestamp())
        ORDER BY id LIMIT {MOST_DELAYED}) d) AS delayed,
    (SELECT count(*) FROM (
        SELECT FROM orders_order
        WHERE started_at > (SELECT clock_timestamp() - interval '60 s')
        ORDER BY started_at DESC LIMIT {queries.MOST_STARTS}) s) AS starts,
    (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - since)), 0)::float8
     FROM (SELECT id FROM orders_runnable(%(concurrency)s, %(starts)s, 1) id LIMIT 4) r
     CROSS JOIN LATERAL (
        SELECT CASE WHEN status = 'pending' THEN greatest(
            next_attempt_at,
            (SELECT started_at FROM orders_order WHERE started_at IS NOT NULL
             ORDER BY started_at DESC LIMIT 1),
            (SELECT resumed_at FROM orders_halt ORDER BY id DESC LIMIT 1),
            CASE WHEN %(starts)s > 0 THEN
                (SELECT started_at + interval '60.01 s' FROM orders_order
                 WHERE started_at IS NOT NULL
                 ORDER BY started_at DESC OFFSET greatest(%(starts)s - 1, 0) LIMIT 1) END
            ) ELSE lease_until END AS since
        FROM orders_order WHERE orders_order.id = r.id OFFSET 0) late) AS lag,
    EXISTS (SELECT FROM orders_halt WHERE resumed_at IS NULL) AS halted,
    EXISTS (SELECT FROM pg_locks
            WHERE locktype = 'advisory' AND classid = 0 AND objid = {LEADER_LOCK} AND granted
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) AS led
"""
MEASURES = """
SELECT name, le, sum(count)::bigint AS count, sum(seconds) AS seconds
FROM orders_measure GROUP BY name, le ORDER BY name, le
"""


class MayScrape(BasePermission):
    """Staff, whoever is in METRICS_ALLOW, and everyone where the API is open to everyone."""

    def has_permission(self, request: Request, view: Any) -> bool:
        staff = bool(getattr(request.user, "is_staff", False))
        return staff or not settings.API_AUTH_REQUIRED or is_allowed(request)


def is_allowed(request: Request) -> bool:
    """By the peer's address. What came through a proxy has the proxy's, which says nothing."""
    if any(name.startswith("X-Forwarded-") or name == "Forwarded" for name in request.headers):
        return False
    try:
        peer = ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:  # a socket file has none
        return False
    if isinstance(peer, IPv6Address) and peer.ipv4_mapped:
        peer = peer.ipv4_mapped
    return any(peer in network for network in settings.METRICS_ALLOW)


def exposition() -> bytes:
    """In Prometheus's text format. Raises psycopg.OperationalError."""
    found = database.rows(FLEET, claims.limits())[0]
    measured = database.rows(MEASURES, {})
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(Collected([*fleet(found), *stages(measured), *process()]))
    return generate_latest(registry)


class Collected(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self.metrics = metrics

    def collect(self) -> list[Metric]:
        return self.metrics


def gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"orders_{name}", meaning, value=value)


def by_label(family: Any, values: dict[str, Any]) -> Any:
    for label, value in values.items():
        family.add_metric([label], value)
    return family


def fleet(found: dict[str, Any]) -> Iterator[Metric]:
    tally, running = found["tally"], found["running"]
    ended = {status.value: tally.get(status.value, 0) for status in TERMINAL}
    active = {status.value: running.get(status.value, 0) for status in IN_EXECUTION}
    placed = tally.get("placed", 0)
    waiting = placed - sum(ended.values()) - sum(active.values())
    yield CounterMetricFamily("orders_placed", "Orders that were stored.", value=placed)
    outcomes = CounterMetricFamily("orders_ended", "Orders by how they ended.", labels=["outcome"])
    yield by_label(outcomes, ended)
    standing = GaugeMetricFamily("orders_now", "Orders that have not ended.", labels=["status"])
    yield by_label(standing, {"pending": waiting, **active})
    yield gauge("due", "Pending orders that need not wait for a retry.", waiting - found["delayed"])
    yield gauge("in_execution", "Places in execution that are taken.", sum(active.values()))
    yield gauge(
        "in_execution_limit", "Places there are; 0 is no limit.", settings.QUEUE_CONCURRENCY
    )
    yield gauge("starts_last_minute", "First starts in the last 60 s.", found["starts"])
    yield gauge("starts_limit", "First starts in 60 s; 0 is no limit.", settings.QUEUE_RATE_LIMIT)
    lag = "How long the oldest order has waited that could start now, seconds."
    yield gauge("dispatch_lag_seconds", lag, max(found["lag"], 0.0))
    yield GaugeMetricFamily(
        "trading_halted", "Whether an operator has halted trading.", value=found["halted"]
    )
    yield gauge("dispatcher_leading", "Whether a dispatcher holds the lock.", found["led"])


def stages(measured: list[dict[str, Any]]) -> Iterator[Metric]:
    """The histograms, and the retries that are counted beside them."""
    by_name = {name: list(rows) for name, rows in groupby(measured, itemgetter("name"))}
    retries = sum(row["count"] for row in by_name.pop(measures.RETRIES, []))
    yield CounterMetricFamily("orders_retries", "Attempts after the first.", value=retries)
    times = HistogramMetricFamily(
        "orders_stage_seconds",
        "Time in each stage that orders have gone through; total is of confirmed ones.",
        labels=["stage"],
    )
    for stage in (measures.QUEUED, *measures.STAGES.values(), measures.TOTAL):
        rows = by_name.get(stage, [])
        times.add_metric([stage], buckets(rows), sum(row["seconds"] for row in rows))
    yield times


def buckets(rows: list[dict[str, Any]]) -> list[tuple[str, float]]:
    """Each upper bound with the number of all that took no longer, the last one infinite."""
    counts = dict.fromkeys([*measures.BOUNDS, inf], 0) | {row["le"]: row["count"] for row in rows}
    bounds = sorted(counts)
    names = ["+Inf" if bound == inf else str(bound) for bound in bounds]
    return list(zip(names, accumulate(counts[bound] for bound in bounds), strict=True))


def process() -> Iterator[Metric]:
    """What only this process knows; and the sockets of all, as Redis has them."""
    bells = CounterMetricFamily(
        "orders_doorbells", "Doorbells of this process by what became of them.", labels=["result"]
    )
    yield by_label(bells, dict(events.rung))
    yield gauge("sockets", "Open WebSockets of this process.", presence.here())
    yield gauge("sockets_of_all", "Open WebSockets of all web processes.", presence.connections())
    if (workers := presence.workers()) is not None:
        yield gauge("workers", "Worker processes of the fleet.", workers)
    try:
        yield gauge("hints_waiting", "Hints in Redis that no worker has taken.", hints.waiting())
    except redis.RedisError:
        return  # the gap says that Redis is away
