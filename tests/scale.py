"""What lists, reads, POST, stats, the admin's pages and the claim take in a table of many orders.

    python -m tests.scale --orders 0,10000,1000000 --samples 30

Starts servers and a web process of its own, and removes them. Exits with 1 when a median in the
largest table is more than twice that in the one before it and 5 ms (a page of the admin: more than
300 ms), or when a statement of the lists uses an index that is not meant for it. In an empty table
most pages are empty as well.
"""

import tests.faults  # noqa: F401 sets Django up

# isort: split
import os
import statistics
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import psycopg
from django.contrib.auth.hashers import make_password
from psycopg.rows import dict_row
from rich.console import Console
from rich.table import Table

from orderengine.management.commands.up import interrupt_on_signals
from orders import activity, claims, database, pages, queries
from orders.models import Order
from orders.pages import Filter
from tests.faults.backlog import BUFFERS, LIMITS, Row, depths, servers, timed
from tests.stacks import ORDER, engine

MOST_TIMES_SLOWER = 2.0
NOISE_MS = 5.0
# Its pages are emptier in a small table, and may look at paging.WINDOW orders in a large one.
MOST_MS_OF_ADMIN = 300.0
# What filling writes is not measured.
SETTINGS = {**BUFFERS, "max_wal_size": "8GB", "checkpoint_timeout": "30min"}

OWNERS = """
INSERT INTO auth_user (id, username, password, is_superuser, is_staff, is_active, first_name,
                       last_name, email, date_joined)
SELECT n, 'owner-' || n, '', false, false, true, '', '', '', now() FROM generate_series(1, 2) n
"""
OPERATOR = """
INSERT INTO auth_user (id, username, password, is_superuser, is_staff, is_active, first_name,
                       last_name, email, date_joined)
VALUES (3, 'operator', %(password)s, true, true, true, '', '', '', now())
"""
# A second apart, up to a day ago. Six in ten are of nobody, who asks here. One in ten is an order
# of SOL for something else; one in 10,000 each sells BONK, buys JUP, is divided, or expired.
ORDERS = """
INSERT INTO orders_order (
    id, owner_id, client_order_id, order_type, token_in, token_out, amount_in, slippage_bps,
    venue, status, seq, started_at, created_at, updated_at, completed_at)
SELECT 'ord_' || (extract(epoch FROM created_at) * 1000)::bigint || '_' || lpad(n::text, 10, '0'),
       CASE WHEN n %% 10 < 6 THEN NULL WHEN n %% 10 < 9 THEN 1 ELSE 2 END,
       'client-' || n, 'market',
       CASE WHEN n %% 10000 = 5003 THEN 'BONK' ELSE 'SOL' END,
       CASE WHEN n %% 10000 = 7003 THEN 'JUP' WHEN n %% 10 = 2 THEN 'RAY' ELSE 'USDC' END,
       1500000000, 100,
       CASE WHEN status IN ('cancelled', 'expired') THEN ''
            WHEN n %% 10000 = 3003 THEN 'raydium+meteora'
            WHEN n %% 2 = 0 THEN 'raydium' ELSE 'meteora' END,
       status, CASE status WHEN 'confirmed' THEN 5 WHEN 'failed' THEN 4 ELSE 2 END,
       CASE WHEN status IN ('confirmed', 'failed') THEN created_at + interval '1 ms' END,
       created_at, created_at + interval '3 s', created_at + interval '3 s'
FROM (
    SELECT n, date_trunc('second', now()) - interval '1 day' - (%(count)s - n) * interval '1 s'
               AS created_at,
           CASE WHEN n %% 10000 = 1001 THEN 'expired' WHEN n %% 1000 = 1 THEN 'cancelled'
                WHEN n %% 100 = 1 THEN 'failed' ELSE 'confirmed' END AS status
    FROM generate_series(1, %(count)s) n
) made
"""
EVENTS = """
INSERT INTO orders_orderevent
    (order_id, seq, status, previous_status, attempt, created_at, data)
SELECT id, n, path[n], coalesce(path[n - 1], ''), 1,
       o.created_at + (n - 1) * interval '700 ms',
       CASE path[n]
           WHEN 'pending' THEN '{"orderType": "market", "tokenIn": "SOL", "amount": "1.5"}'
           WHEN 'building' THEN '{"venue": "raydium", "quotes": [
               {"venue": "raydium", "curve": "cpmm", "amountOut": "214", "fee": "0.0045"},
               {"venue": "meteora", "curve": "damm_v2", "amountOut": "213", "fee": "0.0045"}]}'
           ELSE '{}' END::jsonb
FROM orders_order o,
    LATERAL (SELECT CASE status
        WHEN 'confirmed' THEN ARRAY['pending', 'routing', 'building', 'submitted', 'confirmed']
        WHEN 'failed' THEN ARRAY['pending', 'routing', 'building', 'failed']
        ELSE ARRAY['pending', status] END AS path) paths,
    generate_series(1, seq) n
"""
TALLY = """
INSERT INTO orders_tally (kind, shard, count)
SELECT status, 0, count(*) FROM orders_order GROUP BY status
UNION ALL SELECT 'placed', 0, count(*) FROM orders_order
"""
MIDDLE = """
SELECT id, client_order_id, created_at FROM orders_order WHERE owner_id IS NULL
ORDER BY id DESC OFFSET (SELECT count(*) FROM orders_order WHERE owner_id IS NULL) / 2 LIMIT 1
"""
FILTERS = {
    "status=confirmed": Filter(status="confirmed"),
    "status=expired (1 in 10,000)": Filter(status="expired"),
    "status=routing (none)": Filter(status="routing"),
    "tokenIn=SOL": Filter(token_in="SOL"),
    "tokenIn=BONK (1 in 10,000)": Filter(token_in="BONK"),
    "tokenOut=JUP (1 in 10,000)": Filter(token_out="JUP"),
    "venue=meteora": Filter(venue="meteora"),
    "venue=split (1 in 10,000)": Filter(venue="split"),
    "orderType=market": Filter(order_type="market"),
    "status=failed&tokenIn=BONK (none)": Filter(status="failed", token_in="BONK"),
}
NEWEST = "SELECT max(id) AS id FROM orders_order WHERE status = 'pending'"

progress = Console(stderr=True, highlight=False)


class Engine:
    """A web process on a table of many orders, and a worker's connection to it."""

    def __init__(
        self, client: httpx.Client, admin: httpx.Client, conn: psycopg.Connection[Row]
    ) -> None:
        self.client = client
        self.admin = admin
        self.conn = conn

    def get(self, path: str) -> Row:
        found: Row = self.client.get(path).raise_for_status().json()
        return found

    def post(self) -> None:
        self.client.post("/api/orders/execute", json=ORDER).raise_for_status()

    def post_ten(self) -> None:
        self.client.post("/api/orders/batch", json={"orders": [ORDER] * 10}).raise_for_status()

    def claim(self, wanted: str) -> float:
        """How long it takes; undone afterwards."""
        with self.conn.transaction(force_rollback=True):
            return timed(lambda: self.conn.execute(claims.CLAIM, {**LIMITS, "wanted": [wanted]}))

    def one(self, statement: str, params: Row | None = None) -> Row:
        found = self.conn.execute(statement, params).fetchone()
        assert found is not None, statement
        return found

    def measure(self, samples: int) -> dict[str, float]:
        """The median of each operation in ms."""

        def median(call: Callable[[], float]) -> float:
            call()
            return statistics.median(call() for _ in range(samples))

        found = {
            f"GET {name}": median(lambda: timed(lambda: self.get(path)))  # noqa: B023 called here
            for name, path in self.paths().items()
        }
        found |= {
            f"admin {name}": median(lambda: timed(lambda: self.page(query)))  # noqa: B023
            for name, query in self.admin_pages().items()
        }
        newest = self.one(NEWEST)["id"]
        found["claim"] = median(lambda: self.claim(newest))
        found["POST execute"] = median(lambda: timed(self.post))
        found["POST batch of 10"] = median(lambda: timed(self.post_ten))
        return found

    def paths(self) -> dict[str, str]:
        middle = self.one(MIDDLE)
        deep = pages.write_cursor("<", Order(id=middle["id"]))
        around = [middle["created_at"] + timedelta(seconds=s) for s in (-100, 100)]
        after, before = (f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z" for at in around)
        return {
            "orders": "/api/orders",
            "orders?limit=200": "/api/orders?limit=200",
            "orders, the page in the middle": f"/api/orders?cursor={deep}",
            **{f"orders?{name}": f"/api/orders?{name.split()[0]}" for name in FILTERS},
            "orders?tokenIn=SOL, in the middle": f"/api/orders?tokenIn=SOL&cursor={deep}",
            "orders?clientOrderId": f"/api/orders?clientOrderId={middle['client_order_id'] or 'a'}",
            "orders?createdAfter&createdBefore": (
                f"/api/orders?createdAfter={after}&createdBefore={before}"
            ),
            "one order": f"/api/orders/{middle['id']}",
            "events of one order": f"/api/orders/{middle['id']}/events",
            "stats": "/api/orders/stats",
            "activity, an hour": "/api/orders/activity?minutes=60",
        }

    def page(self, query: str) -> None:
        self.admin.get(f"/admin/orders/order/{query}").raise_for_status()

    def admin_pages(self) -> dict[str, str]:
        middle = self.one(MIDDLE)
        names = {"middle": middle["id"], "client_order_id": middle["client_order_id"] or "a"}
        return {query: query.format(**names) for query in ADMIN_PAGES}

    def wrong_plans(self) -> list[str]:
        """Lists whose plan, kept for any parameters, reads orders in another way than is meant."""
        self.conn.execute("SET plan_cache_mode = force_generic_plan")
        found = []
        for owner_id in (None, 2):
            for name, wanted in {"all": Filter(), **FILTERS}.items():
                meant = {"by_owner"} if wanted.kinds() is None else {"by_kind"}
                used = self.indexes(owner_id, wanted)
                if used != meant | {"orders_order_pkey"}:
                    found.append(f"{name}, owner {owner_id}: {', '.join(sorted(used))}")
            sql, params = activity.query(owner_id, datetime.now(UTC) - timedelta(hours=1))
            if (used := set(indexes_of(self.plan(sql, params)))) != {"completed"}:
                found.append(f"activity, owner {owner_id}: {', '.join(sorted(used))}")
        sql = queries.CALLED.format(most=queries.MOST_CALLED)
        used = set(indexes_of(self.plan(sql, {"name": "nothing-is-called-so"})))
        if not {"one_order_per_client_order_id", "by_tx_hash"} <= used:
            found.append(f"search of the admin: {', '.join(sorted(used))}")
        self.conn.execute("RESET plan_cache_mode")
        return found

    def plan(self, sql: str, params: Row) -> Row:
        [plan] = self.one(f"EXPLAIN (FORMAT JSON) {sql}", params).values()
        found: Row = plan[0]["Plan"]
        return found

    def indexes(self, owner_id: int | None, wanted: Filter) -> set[str]:
        return set(indexes_of(self.plan(*pages.query(owner_id, wanted, 51))))


# Of the admin's list; what is read in no order ends after paging.WINDOW orders.
ADMIN_PAGES = (
    "",
    "?before={middle}",
    "?after={middle}",
    "?status__exact=pending",
    "?status__exact=confirmed",
    "?status__exact=expired",
    "?venue__exact=raydium",
    "?venue__exact=split",
    "?failure_code__exact=NO_ROUTE",
    "?status__exact=confirmed&failure_code__exact=NO_ROUTE",
    "?created=hour",
    "?q={middle}",
    "?q={client_order_id}",
    "?q=nothing-is-called-so",
)


def indexes_of(node: Row) -> Iterator[str]:
    if "Index Name" in node:
        yield node["Index Name"]
    elif node["Node Type"] == "Seq Scan":
        yield f"all of {node['Relation Name']}"
    for child in node.get("Plans", []):
        yield from indexes_of(child)


def fill(database_url: str, count: int) -> None:
    """With the foreign keys unchecked: the rows are made to fit."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute(OWNERS)
        conn.execute(ORDERS, {"count": count})
        conn.execute(EVENTS)
        conn.execute(TALLY)
        conn.execute("VACUUM ANALYZE")
        conn.execute("CHECKPOINT")


def sign_in(admin: httpx.Client, conn: psycopg.Connection[Row]) -> None:
    """As an operator, with a password."""
    conn.execute(OPERATOR, {"password": make_password("operator")})
    token = admin.get("/admin/login/").cookies["csrftoken"]
    body = {"username": "operator", "password": "operator", "csrfmiddlewaretoken": token}
    answer = admin.post("/admin/login/?next=/health/live", data=body)
    assert answer.status_code == 302, answer.text


@contextmanager
def filled(count: int) -> Iterator[Engine]:
    """A web process with so many orders that have ended and a few that wait."""
    with servers(SETTINGS) as stack:
        database_url, redis_url = stack.env["DATABASE_URL"], stack.env["REDIS_URL"]
        os.environ["REDIS_URL"] = redis_url  # engine() asks for it
        fill(database_url, count)
        with (
            engine(database_url, workers=0, REDIS_URL=redis_url) as running,
            httpx.Client(base_url=running.url, timeout=30, trust_env=False) as client,
            httpx.Client(base_url=running.url, timeout=30, trust_env=False) as admin,
            psycopg.connect(
                database_url,
                autocommit=True,
                prepare_threshold=2,
                row_factory=dict_row,
                options=database.session_options(),
            ) as conn,
        ):
            sign_in(admin, conn)
            found = Engine(client, admin, conn)
            for _ in range(6):
                found.post_ten()
            yield found


def too_slow(name: str, first: float, last: float) -> bool:
    if name.startswith("admin"):
        return last > MOST_MS_OF_ADMIN
    return last > MOST_TIMES_SLOWER * first + NOISE_MS


def table(measured: dict[int, dict[str, float]]) -> Table:
    *_, first, last = measured.values()
    found = Table("medians in ms, orders in the table:", box=None, padding=(0, 2, 0, 0))
    for count in measured:
        found.add_column(f"{count:,}", justify="right")
    found.add_column("", justify="left")
    for name in first:
        verdict = "too slow" if too_slow(name, first[name], last[name]) else ""
        found.add_row(name, *(f"{medians[name]:.2f}" for medians in measured.values()), verdict)
    return found


def run(options: Namespace) -> bool:
    measured: dict[int, dict[str, float]] = {}
    wrong: list[str] = []
    for count in options.orders:
        begun = datetime.now(UTC)
        progress.print(f"{count:,} orders")
        with filled(count) as running:
            measured[count] = running.measure(options.samples)
            wrong += [f"{count:,} orders: {plan}" for plan in running.wrong_plans()]
        progress.print(f"  took {(datetime.now(UTC) - begun).seconds} s")
    console = Console(width=120, highlight=False)
    console.print(table(measured))
    console.print("\n".join(wrong) or "\neach list reads the index that is meant for it")
    *_, first, last = measured.values()
    return not wrong and not any(too_slow(name, first[name], last[name]) for name in first)


def main() -> None:
    parser = ArgumentParser(description="Measures in tables of many orders.")
    parser.add_argument("--orders", type=depths, default="0,10000,1000000", help="in the table")
    parser.add_argument("--samples", type=int, default=30, help="of each operation")
    interrupt_on_signals()
    try:
        passed = run(parser.parse_args())
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(not passed)


if __name__ == "__main__":
    main()
