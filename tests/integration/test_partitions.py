"""Events in a table for each day, on a real PostgreSQL."""

import io
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import psycopg
import pytest
from django.core.management import CommandError, call_command
from psycopg.rows import dict_row
from websockets.sync.client import connect

from orders import partitions, queries
from orders.management.commands.partitions import Command
from orders.models import IN_EXECUTION, Status
from orders.partitions import FIRST, REST, TABLE, Connection
from orders.reconcile import examine
from tests.stacks import Running, engine

CONFIRMED = ["pending", "routing", "building", "submitted", "confirmed"]
OLD_ORDER = """
WITH o AS (
    INSERT INTO orders_order (id, order_type, token_in, token_out, amount_in, slippage_bps,
                              status, completed_at)
    VALUES (%(id)s::text, 'market', 'SOL', 'USDC', 1, 100, %(status)s::text,
            CASE WHEN %(status)s::text = 'cancelled' THEN now() END)
)
INSERT INTO orders_orderevent
    (order_id, seq, status, previous_status, attempt, created_at, data)
VALUES (%(id)s::text, 1, 'pending', '', 1, now(), '{}')
"""
CONSTRAINTS = """
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = 'orders_orderevent'::regclass AND contype <> 'n' ORDER BY conname
"""


@pytest.fixture
def conn(new_database: str) -> Iterator[Connection]:
    with psycopg.connect(new_database, autocommit=True) as found:
        yield found


def now(conn: Connection) -> datetime:
    [[moment]] = conn.execute("SELECT clock_timestamp()")
    assert isinstance(moment, datetime)
    return moment


def placed(conn: Connection, moment: datetime, status: str = "cancelled") -> str:
    order_id = f"{partitions.first_id(moment)}_aaaaaaaaaa"
    conn.execute(OLD_ORDER, {"id": order_id, "status": status})
    return order_id


def rows_in(conn: Connection, table: str) -> int:
    [[count]] = conn.execute(f"SELECT count(*) FROM {table}")
    return int(count)


@pytest.mark.fleet
def test_orders_run_while_their_events_are_moved_to_partitions_and_outlive_them(
    conn: Connection, new_database: str
) -> None:
    with engine(new_database, QUEUE_RATE_LIMIT="0", DEX_SWAP_LATENCY_MS="100") as running:
        first = running.place()
        answers: list[int] = []
        enough = threading.Event()
        client = threading.Thread(target=place_until, args=(running, enough, answers))
        client.start()
        try:
            until = now(conn) + timedelta(seconds=1.5)
            partitions.enable(conn, until)
            made = partitions.ensure(conn, until + partitions.DAY)
            time.sleep(2)
        finally:
            enough.set()
            client.join()
        running.wait_for_all()

        assert set(answers) == {201}
        ids = [row["id"] for row in running.sql("SELECT id FROM orders_order")]
        assert all(running.statuses(order_id) == CONFIRMED for order_id in ids)
        assert rows_in(conn, FIRST) > 0
        assert rows_in(conn, made[0].name) > 0
        assert rows_in(conn, REST) == 0
        assert broken(conn) == []

        dropped = partitions.droppable(conn, before=now(conn))
        assert [one.name for one in dropped] == [FIRST]
        partitions.drop(conn, dropped[0])

        assert events_of(running, first) == []
        assert httpx.get(f"{running.url}/api/orders/{first}").json()["status"] == "confirmed"
        assert events_on_socket(running, first) == []
        assert len(events_on_socket(running, max(ids))) == len(CONFIRMED)
        assert broken(conn) == []


def broken(conn: Connection) -> list[str]:
    """What `manage.py reconcile` would report."""
    with conn.cursor(row_factory=dict_row) as cursor:
        found = examine(lambda sql, params: cursor.execute(sql, params).fetchall(),
                        concurrency=10, starts=0)  # fmt: skip
    return [finding.invariant.name for finding in found if finding.violations]


def place_until(running: Running, enough: threading.Event, answers: list[int]) -> None:
    body = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5"}
    with httpx.Client(timeout=10) as client:
        while not enough.wait(0.25):
            answer = client.post(f"{running.url}/api/orders/execute", json=body)
            answers.append(answer.status_code)


def events_of(running: Running, order_id: str) -> list[object]:
    found = httpx.get(f"{running.url}/api/orders/{order_id}/events")
    events: list[object] = found.raise_for_status().json()["results"]
    return events


def events_on_socket(running: Running, order_id: str) -> list[str]:
    """All frames of its events; the server closes after the last."""
    with connect(f"{running.socket_url}?orderId={order_id}", proxy=None) as socket:
        frames = [str(frame) for frame in socket]
        assert socket.close_code == 1000
    return [frame for frame in frames if "order.status" in frame]


def test_the_table_keeps_its_constraints_and_reads_one_partition(conn: Connection) -> None:
    before = conn.execute(CONSTRAINTS).fetchall()
    partitions.enable(conn, now(conn) + partitions.DAY)
    partitions.ensure(conn, now(conn) + timedelta(days=3))

    assert conn.execute(CONSTRAINTS).fetchall() == before
    order_id = placed(conn, now(conn))
    params = {"order_id": order_id, "owner_id": None, "after": 0}
    plan = "\n".join(row[0] for row in conn.execute(f"EXPLAIN {queries.EVENTS}", params))
    assert f"{FIRST}_pkey" in plan
    assert plan.count("Scan") == 2  # of the order and of one partition
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        conn.execute(f"DELETE FROM orders_order WHERE id = '{order_id}'")


def test_the_table_is_not_read_under_the_lock(conn: Connection) -> None:
    said: list[str] = []
    conn.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
    conn.execute("SET client_min_messages = debug1")
    partitions.enable(conn, now(conn) + partitions.DAY)

    implied = f'partition constraint for table "{FIRST}" is implied by existing constraints'
    assert implied in said
    assert not [line for line in said if line.startswith(f'building index "{FIRST}')]
    assert not [line for line in said if line.startswith("validating")]


def test_whoever_reads_the_events_is_waited_for_in_short_turns(
    conn: Connection, new_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[float] = []

    def sleep(seconds: float) -> None:
        turns.append(seconds)
        if len(turns) == 3:
            reader.rollback()

    monkeypatch.setattr(partitions, "LOCK_SECONDS", 0.05)
    monkeypatch.setattr(partitions, "time", SimpleNamespace(sleep=sleep))
    with psycopg.connect(new_database) as reader:
        reader.execute(f"SELECT 1 FROM {TABLE}")
        begun = time.monotonic()
        partitions.enable(conn, now(conn) + partitions.DAY)
        waited = time.monotonic() - begun

    assert len(turns) >= 3
    assert waited < 5  # far more than three turns
    assert partitions.enabled(conn)


def test_nothing_changes_when_an_order_does_not_fit_below_the_bound(conn: Connection) -> None:
    placed(conn, now(conn))
    before = conn.execute(CONSTRAINTS).fetchall()
    with pytest.raises(psycopg.errors.CheckViolation):
        partitions.enable(conn, now(conn) - partitions.DAY)

    assert not partitions.enabled(conn)
    assert conn.execute(CONSTRAINTS).fetchall() == before


def test_one_that_was_interrupted_is_begun_anew(conn: Connection) -> None:
    conn.execute(
        f"ALTER TABLE {TABLE} ADD CONSTRAINT {partitions.ONLY_BEFORE}"
        " CHECK (order_id < 'ord_1') NOT VALID"
    )
    order_id = "ord_0000000000001_aaaaaaaaaa"
    conn.execute(OLD_ORDER, {"id": order_id, "status": "pending"})
    partitions.enable(conn, now(conn) + partitions.DAY)

    assert rows_in(conn, FIRST) == 1
    placed(conn, now(conn))
    assert rows_in(conn, FIRST) == 2


def test_what_came_before_its_partition_gets_one_of_its_own(conn: Connection) -> None:
    long_ago = datetime(2025, 11, 8, 10, 30, tzinfo=UTC)
    partitions.enable(conn, long_ago)
    order_id = placed(conn, now(conn))
    assert rows_in(conn, REST) == 1

    made = [one.name for one in partitions.ensure(conn, now(conn) + timedelta(days=2))]

    assert made[0] == f"{TABLE}_20251108_103000_late"
    assert rows_in(conn, made[0]) == 1
    assert rows_in(conn, REST) == 0
    assert len(made) == 3
    found = partitions.partitions(conn)
    assert [one.lower for one in found[1:-1]] == [one.upper for one in found[:-2]]
    assert partitions.ensure(conn, now(conn) + timedelta(days=2)) == []
    assert conn.execute(f"SELECT order_id FROM {TABLE}").fetchall() == [(order_id,)]


def test_what_is_young_and_the_rest_are_not_dropped(conn: Connection) -> None:
    today = now(conn)
    partitions.enable(conn, today - timedelta(days=3))
    partitions.ensure(conn, today + partitions.DAY)
    day = partitions.partitions(conn)[1]
    ended = partitions.moment_of(day.upper)

    dropped = partitions.droppable(conn, before=ended)
    earlier = partitions.droppable(conn, before=ended - timedelta(milliseconds=1))

    assert [one.name for one in dropped] == [FIRST, day.name]
    assert [one.name for one in earlier] == [FIRST]


def test_the_newest_that_is_dated_is_not_dropped_however_old(conn: Connection) -> None:
    partitions.enable(conn, now(conn) - timedelta(days=45))
    partitions.ensure(conn, now(conn) - timedelta(days=31))  # and then not for a month
    kept = partitions.partitions(conn)[-2]

    out = io.StringIO()
    Command(stdout=out).retain(conn, days=30)

    assert [one.name for one in partitions.partitions(conn)] == [kept.name, REST]
    assert "nothing to drop" not in out.getvalue()
    Command(stdout=out).retain(conn, days=30)
    assert out.getvalue().endswith("nothing to drop\n")
    Command(stdout=io.StringIO()).ensure(conn, ahead=7)
    assert partitions.partitions(conn)[-2].upper > partitions.first_id(now(conn))


def test_what_was_dropped_is_not_missed(conn: Connection) -> None:
    partitions.enable(conn, now(conn) - timedelta(days=2))
    partitions.ensure(conn, now(conn) + partitions.DAY)
    placed(conn, now(conn) - timedelta(days=3))

    [first, *_] = partitions.droppable(conn, before=now(conn) - partitions.DAY)
    partitions.drop(conn, first)

    assert not {"gapless-events", "one-end"} & set(broken(conn))


@pytest.mark.parametrize("status", [Status.PENDING, *IN_EXECUTION])
def test_an_order_in_any_status_but_an_end_is_unfinished(conn: Connection, status: str) -> None:
    partitions.enable(conn, now(conn) + partitions.DAY)
    order_id = placed(conn, now(conn), Status.PENDING)
    if status != Status.PENDING:
        change = "UPDATE orders_order SET status = %s, lease_until = now(), started_at = now()"
        conn.execute(change, [status])

    assert partitions.unfinished(conn, partitions.partitions(conn)[0]) == (1, order_id)


def test_events_of_an_order_that_has_not_ended_are_kept(conn: Connection) -> None:
    partitions.enable(conn, now(conn) - timedelta(days=95))
    partitions.ensure(conn, now(conn) - timedelta(days=91))
    ended = placed(conn, now(conn) - timedelta(days=96))
    running = placed(conn, now(conn) - timedelta(days=94, hours=12), "pending")
    kept = next(one for one in partitions.partitions(conn) if one.lower < running < one.upper)
    out, err = io.StringIO(), io.StringIO()
    command = Command(stdout=out, stderr=err)

    with pytest.raises(CommandError, match="1 partitions were kept"):
        command.retain(conn, days=90)

    assert f"kept {kept.name}: 1 of its orders have not ended, {running}" in err.getvalue()
    assert f"dropped {FIRST}" in out.getvalue()
    assert kept.name in [one.name for one in partitions.partitions(conn)]
    orders = conn.execute("SELECT id FROM orders_order ORDER BY id").fetchall()
    assert orders == [(ended,), (running,)]

    conn.execute("UPDATE orders_order SET status = 'cancelled', completed_at = now()")
    command.retain(conn, days=90)
    assert kept.name not in [one.name for one in partitions.partitions(conn)]


@pytest.mark.parametrize("words", [("retain", "--days"), ("ensure", "--ahead")])
@pytest.mark.parametrize("days", ["0", "3651", "99999999999", "x"])
def test_days_that_no_calendar_has_are_refused(words: tuple[str, ...], days: str) -> None:
    with pytest.raises(CommandError, match=f"argument {words[1]}: .*{days}"):
        call_command("partitions", *words, days)
