"""What must hold in the database: seen to hold, and each promise seen broken."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from psycopg.rows import dict_row

from orders import database, lifecycle, reconcile
from orders.models import IN_EXECUTION, Status
from orders.reconcile import Finding, examine
from tests.factories import claim, end_lease, order_in, place

Ids = dict[str, str]
Connection = psycopg.Connection[dict[str, Any]]

NAMES = [invariant.name for invariant in (*reconcile.CHAIN, *reconcile.ENGINE)]

SENT = """
INSERT INTO chain.transaction
    (signature, order_id, attempt, venue, status, amount_in, settles_at, outcome)
SELECT signature, order_id, attempt, venue, %(status)s, 1500000000,
       clock_timestamp() + make_interval(secs => %(settles_in)s), %(outcome)s
FROM orders_swap WHERE order_id = %(id)s RETURNING signature
"""


@pytest.fixture
def no_chain(no_orders: None) -> Iterator[None]:
    """No orders, and no transactions of the orders of other tests."""
    empty = "DELETE FROM chain.transaction RETURNING signature"
    database.rows(empty, {})
    yield
    database.rows(empty, {})


@pytest.fixture
def healthy(no_chain: None) -> Ids:
    """The id of an order in each status, one of them taken over twice, and of one that is retried.

    Three have been in execution at once, six have started.
    """
    ids = {status.value: order_in(status).id for status in reconcile.TERMINAL}
    retried = order_in(Status.SUBMITTED)
    lifecycle.advance(retried, Status.PENDING, data={}, changes={"tx_hash": ""}, retry_in=0)
    ids |= {status.value: order_in(status).id for status in IN_EXECUTION}
    for _ in range(2):
        end_lease(ids["routing"])
        claim(ids["routing"])
    ids |= {"retried": retried.id, "pending": place(), "nobody": "ord_0000000000000_nosuchordr"}
    sent(ids["confirmed"], "pending", -1, "landed")  # nobody has asked since it landed
    sent(ids["failed"], "failed", -1, "failed")
    sent(ids["retried"], "pending", -1, "expired")
    sent(ids["submitted"], "pending", 60, "landed")
    return ids


def sent(order_id: str, status: str, settles_in: float, outcome: str) -> None:
    """The order's swap, as the chain recorded it."""
    columns = {"id": order_id, "status": status, "settles_in": settles_in, "outcome": outcome}
    assert database.rows(SENT, columns)


@pytest.fixture
def db() -> Iterator[Connection]:
    """A transaction in which a test breaks what it wants; nothing of it stays."""
    with (
        psycopg.connect(database.conninfo(), row_factory=dict_row) as conn,
        conn.transaction(force_rollback=True),
    ):
        yield conn


def look(db: Connection, *, concurrency: int = 0, starts: int = 0) -> list[Finding]:
    def fetch(sql: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        return db.execute(sql, params).fetchall()

    return examine(fetch, concurrency=concurrency, starts=starts)


def broken(db: Connection, **limits: int) -> dict[str, tuple[str, ...]]:
    """The examples of each broken invariant, which are all its violations."""
    found = {f.invariant.name: f for f in look(db, **limits) if f.violations}
    assert all(f.violations == len(f.examples) for f in found.values())
    return {name: f.examples for name, f in found.items()}


def test_all_holds_for_orders_in_every_status(healthy: Ids, db: Connection) -> None:
    findings = look(db, concurrency=3, starts=6)

    assert [(f.invariant.name, f.violations, f.examples) for f in findings] == [
        (name, 0, ()) for name in NAMES
    ]
    statuses = db.execute("SELECT DISTINCT status FROM orders_order").fetchall()
    assert {row["status"] for row in statuses} == set(Status.values)


def test_all_holds_without_orders(no_chain: None, db: Connection) -> None:
    assert broken(db, concurrency=1, starts=1) == {}


def sends(name: str, settles_in: str, outcome: str) -> str:
    """A second transaction of the order, of which nobody has asked the chain."""
    return f"""INSERT INTO chain.transaction
        (signature, order_id, attempt, venue, status, amount_in, settles_at, outcome)
    VALUES ('elsewhere', %({name})s, 2, 'raydium', 'pending', 1,
            clock_timestamp() + interval '{settles_in}', '{outcome}')"""


def settles(name: str, settles_in: str, outcome: str) -> str:
    """Another fate of its first, of which nobody has asked either."""
    return f"""UPDATE chain.transaction SET status = 'pending', outcome = '{outcome}',
        settles_at = clock_timestamp() + interval '{settles_in}' WHERE order_id = %({name})s"""


def filled(name: str, amount_out: int, change: str) -> str:
    """What its first returned, and what is to be known of that."""
    return f"""WITH filled AS (
        UPDATE chain.transaction SET outcome_amount_out = {amount_out} WHERE order_id = %({name})s)
    {order(name, change)}"""


def on_chain(name: str, change: str) -> str:
    return f"UPDATE chain.transaction SET {change} WHERE order_id = %({name})s"


def order(name: str, change: str) -> str:
    return f"UPDATE orders_order SET {change} WHERE id = %({name})s"


def event(name: str, seq: int, change: str) -> str:
    return f"UPDATE orders_orderevent SET {change} WHERE order_id = %({name})s AND seq = {seq}"


def event_lost(name: str, seq: int) -> str:
    return f"DELETE FROM orders_orderevent WHERE order_id = %({name})s AND seq = {seq}"


def event_added(name: str, seq: int, status: str, previous: str) -> str:
    return f"""INSERT INTO orders_orderevent
        (order_id, seq, status, previous_status, attempt, created_at, data)
    VALUES (%({name})s, {seq}, '{status}', '{previous}', 1, clock_timestamp(), '{{}}')"""


def swap(name: str, change: str) -> str:
    return f"UPDATE orders_swap SET {change} WHERE order_id = %({name})s"


def swap_added(name: str, state: str) -> str:
    return f"""INSERT INTO orders_swap
        (signature, order_id, attempt, venue, transaction, last_valid_block_height, state)
    VALUES ('elsewhere', %({name})s, 2, 'raydium', '', 1, '{state}')"""


def tally_added(kind: str) -> str:
    return f"INSERT INTO orders_tally (kind, shard, count) VALUES ('{kind}', 99, 1)"


# Lets in what the database itself refuses.
ANY_MOVE = "ALTER TABLE orders_orderevent DROP CONSTRAINT legal_move"
ANY_SEQ = "ALTER TABLE orders_orderevent DROP CONSTRAINT orders_orderevent_pkey"
ANY_SWAP = "DROP INDEX one_swap_that_can_land"

# For each promise what breaks it: the order ("" is the fleet), what is said of it, and the SQL.
BREAKS = {
    "one-landed": [
        ("confirmed", "2 landed: elsewhere, signature-", sends("confirmed", "-1 s", "landed")),
    ],
    "landed-is-confirmed": [
        ("confirmed", "in the chain unknown", on_chain("confirmed", "signature = 'elsewhere'")),
        ("confirmed", "in the chain failed", settles("confirmed", "-1 s", "failed")),
        ("failed", "landed 1 s ago, order is failed", on_chain("failed", "status = 'landed'")),
        ("retried", "landed 1 s ago, order is pending", settles("retried", "-1 s", "landed")),
        ("submitted", "61 s ago, order is submitted", settles("submitted", "-61 s", "landed")),
        ("submitted", "failed 61 s ago, order is", settles("submitted", "-61 s", "failed")),
        ("submitted", "expired 61 s ago, order is", settles("submitted", "-61 s", "expired")),
        ("confirmed", "landed with other amounts", filled("confirmed", 7, "amount_out = 8")),
        (
            *("confirmed", "landed with other amounts"),
            filled("confirmed", 7, "amount_out = 7, min_amount_out = 8"),
        ),
        ("submitted", "elsewhere landed 1 s ago", sends("submitted", "-1 s", "landed")),
        ("nobody", "landed 1 s ago, no such order", sends("nobody", "-1 s", "landed")),
    ],
    "may-land-is-submitted": [
        ("failed", "may still land, order is failed", settles("failed", "1 min", "expired")),
        ("confirmed", "elsewhere may still land", sends("confirmed", "1 min", "landed")),
        ("retried", "may still land, order is pending", settles("retried", "1 min", "expired")),
        ("submitted", "elsewhere may still land", sends("submitted", "1 min", "landed")),
        ("nobody", "may still land, no such order", sends("nobody", "1 min", "landed")),
    ],
    "sent-in-time": [
        (
            "submitted",
            "was sent 20 ms after the deadline",
            on_chain("submitted", "sent_at = '2026-01-01 00:00:00.020Z'"),
            order("submitted", "deadline_at = '2026-01-01 00:00:00Z'"),
        ),
        (
            "submitted",
            "was sent 0 ms after the deadline",
            on_chain("submitted", "sent_at = '2026-01-01 00:00:00Z'"),
            order("submitted", "deadline_at = '2026-01-01 00:00:00Z'"),
        ),
    ],
    "gapless-events": [
        ("routing", "3 events, 3 seqs from 1 to 4", event_lost("routing", 3)),
        ("routing", "3 events, 3 seqs from 1 to 3", event_lost("routing", 4)),
        ("routing", "4 events, 3 seqs from 1 to 4", ANY_SEQ, event("routing", 3, "seq = 4")),
        ("routing", "4 events, 4 seqs from 0 to 4", ANY_MOVE, event("routing", 1, "seq = 0")),
        (
            "routing",
            "5 events, 4 seqs from 1 to 4",
            ANY_SEQ,
            event_added("routing", 4, "routing", "routing"),
        ),
        ("building", "from 1 to 3; seq of the order is 2", order("building", "seq = 2")),
        ("nobody", "seq of the order is unknown", event_added("nobody", 1, "pending", "")),
    ],
    "legal-moves": [
        (
            "routing",
            "event 3 moves from building to routing after routing",
            event("routing", 3, "previous_status = 'building'"),
        ),
        (
            "building",
            "event 2 moves from pending to building after pending",
            ANY_MOVE,
            event_lost("building", 2),
            event("building", 3, "seq = 2, previous_status = 'pending'"),
            order("building", "seq = 2"),
        ),
        (
            "routing",
            "event 1 moves from new to building after new",
            ANY_MOVE,
            event("routing", 1, "status = 'building'"),
            event("routing", 2, "previous_status = 'building'"),
        ),
    ],
    "one-end": [
        ("building", "routing, last event building", order("building", "status = 'routing'")),
        (
            "cancelled",
            "order is expired, last event cancelled, terminal events 1",
            order("cancelled", "status = 'expired'"),
            "UPDATE orders_tally SET kind = 'expired', shard = shard + 50 WHERE kind = 'cancelled'",
        ),
        (
            "failed",
            "order is building, last event failed, terminal events 1",
            order("failed", "status = 'building', completed_at = NULL, lease_until = now()"),
            "DELETE FROM orders_tally WHERE kind = 'failed'",
        ),
    ],
    "none-left-behind": [
        (
            "submitted",
            "submitted, its lease ended 61 s ago",
            order("submitted", "lease_until = clock_timestamp() - interval '61 s'"),
        ),
        (
            "pending",
            "pending, its deadline ended 61 s ago",
            order("pending", "deadline_at = clock_timestamp() - interval '61 s'"),
        ),
        (
            "pending",
            "pending, due since 90 s; there is room, and nothing starts",
            "WITH old AS (UPDATE orders_orderevent SET created_at = created_at - interval '1 h')"
            + order("pending", "next_attempt_at = clock_timestamp() - interval '90 s'"),
        ),
    ],
    "swaps-agree": [
        ("submitted", "live 0, landed 0, with its hash 0", swap("submitted", "state = 'dead'")),
        ("submitted", "live 0, landed 1, with its hash 1", swap("submitted", "state = 'landed'")),
        ("submitted", "live 1, landed 0, with its hash 0", swap("submitted", "signature = 'x'")),
        ("submitted", "live 2, landed 0", ANY_SWAP, swap_added("submitted", "live")),
        ("confirmed", "live 0, landed 0, with its hash 0", swap("confirmed", "state = 'dead'")),
        ("confirmed", "live 0, landed 1, with its hash 0", swap("confirmed", "signature = 'x'")),
        ("confirmed", "live 1, landed 1", ANY_SWAP, swap_added("confirmed", "live")),
        ("confirmed", "live 0, landed 2", ANY_SWAP, swap_added("confirmed", "landed")),
        ("failed", "live 1, landed 0, with its hash 1", swap("failed", "state = 'live'")),
        ("failed", "live 0, landed 1, with its hash 0", swap_added("failed", "landed")),
        ("retried", "order is pending with no hash, ", swap("retried", "state = 'live'")),
    ],
    "tally-agrees": [
        ("", "placed: tally 10, orders 9", tally_added("placed")),
        ("", "lost: tally 1, orders 0", tally_added("lost")),
        (
            "",
            "confirmed: tally 0, orders 1",
            "DELETE FROM orders_tally WHERE kind = 'confirmed'",
        ),
    ],
}


@pytest.mark.parametrize(
    ("invariant", "case"),
    [
        pytest.param(invariant, case, id=f"{invariant} {case[1]}")
        for invariant, cases in BREAKS.items()
        for case in cases
    ],
)
def test_what_breaks_one_promise_is_found_under_its_name_alone(
    healthy: Ids, db: Connection, invariant: str, case: tuple[str, ...]
) -> None:
    of, what, *statements = case
    for statement in statements:
        db.execute(statement, healthy)

    found = broken(db)

    assert list(found) == [invariant]
    [example] = found[invariant]
    assert example.startswith(healthy[of] if of else what)
    assert what in example


def test_what_a_live_venue_has_filled_is_not_looked_for_in_the_simulated_chain(
    healthy: Ids, db: Connection
) -> None:
    db.execute("DELETE FROM chain.transaction WHERE order_id = %(confirmed)s", healthy)
    assert list(broken(db)) == ["landed-is-confirmed"]

    db.execute(order("confirmed", "venue = 'raydium_api'"), healthy)

    assert broken(db) == {}


def test_each_promise_is_seen_broken() -> None:
    limits = {"starts-a-minute", "in-execution-at-once"}  # in tests of their own below

    assert BREAKS.keys() | limits == set(NAMES)


def test_a_second_terminal_event_breaks_both_promises(healthy: Ids, db: Connection) -> None:
    for statement in (
        ANY_MOVE,
        event_added("confirmed", 6, "confirmed", "confirmed"),
        order("confirmed", "seq = 6"),
    ):
        db.execute(statement, healthy)

    assert broken(db) == {
        "legal-moves": (
            f"{healthy['confirmed']}: event 6 moves from confirmed to confirmed after confirmed",
        ),
        "one-end": (
            f"{healthy['confirmed']}: order is confirmed, last event confirmed, terminal events 2",
        ),
    }


def test_an_order_without_events_breaks_both_promises(healthy: Ids, db: Connection) -> None:
    db.execute(event_lost("pending", 1), healthy)

    assert broken(db) == {
        "gapless-events": (
            f"{healthy['pending']}: 0 events, 0 seqs from 0 to 0; seq of the order is 1",
        ),
        "one-end": (f"{healthy['pending']}: order is pending, last event none, terminal events 0",),
    }


@pytest.mark.parametrize(
    "statement",
    [
        settles("submitted", "-59 s", "landed"),
        settles("submitted", "-59 s", "failed"),
        order("submitted", "lease_until = clock_timestamp() - interval '59 s'"),
        order("pending", "deadline_at = clock_timestamp() - interval '59 s'"),
        order("pending", "next_attempt_at = clock_timestamp() - interval '1 day'"),
        order("cancelled", "deadline_at = clock_timestamp() - interval '1 day'"),
    ],
)
def test_what_the_engine_is_about_to_mend_is_no_violation(
    healthy: Ids, db: Connection, statement: str
) -> None:
    db.execute(statement, healthy)

    assert broken(db) == {}


def test_a_fill_of_just_the_minimum_is_no_violation(healthy: Ids, db: Connection) -> None:
    db.execute(filled("confirmed", 7, "amount_out = 7, min_amount_out = 7"), healthy)

    assert broken(db) == {}


def test_more_first_starts_in_a_minute_than_allowed(healthy: Ids, db: Connection) -> None:
    """The last of six that started; neither a retry nor a takeover is a start."""
    assert broken(db, starts=5) == {
        "starts-a-minute": (
            f"{healthy['submitted']}: 6 first starts in the 60 s up to its own, the limit is 5",
        )
    }


@pytest.mark.parametrize(("apart", "found"), [("60.01 s", []), ("59.99 s", ["starts-a-minute"])])
def test_the_minute_of_starts_slides(
    no_chain: None, db: Connection, apart: str, found: list[str]
) -> None:
    ids = {"first": order_in(Status.ROUTING).id, "second": order_in(Status.ROUTING).id}
    first = "SELECT created_at FROM orders_orderevent WHERE order_id = %(first)s AND seq = 2"
    db.execute(event("second", 2, f"created_at = ({first}) + interval '{apart}'"), ids)

    assert list(broken(db, starts=1)) == found


def test_more_in_execution_at_once_than_allowed(healthy: Ids, db: Connection) -> None:
    assert broken(db, concurrency=2) == {
        "in-execution-at-once": (
            f"{healthy['submitted']}: started as one of 3 in execution, the limit is 2",
        )
    }


@pytest.mark.parametrize(
    ("early", "found"), [("0", []), ("1 microsecond", ["in-execution-at-once"])]
)
@pytest.mark.parametrize("end", [Status.FAILED, Status.PENDING])
def test_a_start_at_the_moment_of_an_end_takes_its_place(
    no_chain: None, db: Connection, end: Status, early: str, found: list[str]
) -> None:
    ended = order_in(Status.ROUTING)
    retry_in = 60 if end is Status.PENDING else None
    lifecycle.advance(ended, end, data={}, retry_in=retry_in)
    ids = {"ended": ended.id, "next": order_in(Status.ROUTING).id}
    freed = "SELECT created_at FROM orders_orderevent WHERE order_id = %(ended)s AND seq = 3"
    db.execute(event("next", 2, f"created_at = ({freed}) - interval '{early}'"), ids)

    assert list(broken(db, concurrency=1)) == found


def test_of_many_violations_the_first_few_are_shown(no_chain: None, db: Connection) -> None:
    order_ids = sorted(place() for _ in range(5))
    db.execute("UPDATE orders_order SET seq = 2")

    [finding] = [finding for finding in look(db) if finding.violations]

    assert finding.violations == 5
    assert [example[:28] for example in finding.examples] == order_ids[:3]


def test_without_a_simulated_chain_its_invariants_are_left_out(
    healthy: Ids, db: Connection
) -> None:
    db.execute("ALTER SCHEMA chain RENAME TO elsewhere")

    assert [finding.invariant for finding in look(db)] == list(reconcile.ENGINE)


# The command ------------------------------------------------------------------------------------


@pytest.fixture
def miscounted(healthy: Ids) -> None:
    database.rows("UPDATE orders_tally SET count = 7 WHERE kind = 'confirmed' RETURNING kind", {})


def output(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    call_command("reconcile", *options)
    return capsys.readouterr().out


def test_the_command_says_what_holds(healthy: Ids, capsys: pytest.CaptureFixture[str]) -> None:
    lines = output(capsys).splitlines()

    assert lines[0].split()[:2] == ["invariant", "violations"]
    assert [line.split()[:2] for line in lines[1:-1]] == [[name, "0"] for name in NAMES]
    assert lines[-1] == "ok: 12 invariants hold for 9 orders"


def test_the_command_shows_what_is_broken_and_exits_with_1(
    miscounted: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        call_command("reconcile")

    lines = capsys.readouterr().out.splitlines()
    column = lines[0].index("promise")
    assert exited.value.code == 1
    assert lines[-3].split()[:2] == ["tally-agrees", "1"]
    assert lines[-2] == " " * column + "confirmed: tally 7, orders 1"
    assert lines[-1] == "broken: tally-agrees (1 of 12 invariants)"


def test_the_command_holds_events_against_the_limits_that_are_set(
    healthy: Ids, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.QUEUE_CONCURRENCY, settings.QUEUE_RATE_LIMIT = 2, 5

    with pytest.raises(SystemExit):
        call_command("reconcile")

    verdict = "broken: starts-a-minute, in-execution-at-once (2 of 12 invariants)"
    assert capsys.readouterr().out.splitlines()[-1] == verdict


def test_the_command_answers_a_program(healthy: Ids, capsys: pytest.CaptureFixture[str]) -> None:
    answer = json.loads(output(capsys, "--json"))

    assert (answer["ok"], answer["orders"], answer["leftOut"]) == (True, 9, [])
    assert [invariant["name"] for invariant in answer["invariants"]] == NAMES


def test_the_command_tells_a_program_what_is_broken(
    miscounted: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        call_command("reconcile", "--json")

    answer = json.loads(capsys.readouterr().out)
    assert (exited.value.code, answer["ok"]) == (1, False)
    assert answer["invariants"][-1] == {
        "name": "tally-agrees",
        "promise": reconcile.TALLY_AGREES.promise,
        "violations": 1,
        "examples": ["confirmed: tally 7, orders 1"],
    }


def test_the_command_says_what_it_left_out(
    healthy: Ids, capsys: pytest.CaptureFixture[str]
) -> None:
    with database.pool().connection() as conn:
        conn.execute("ALTER SCHEMA chain RENAME TO elsewhere")
        try:
            lines = output(capsys).splitlines()
            answer = json.loads(output(capsys, "--json"))
        finally:
            conn.execute("ALTER SCHEMA elsewhere RENAME TO chain")

    chain = [invariant.name for invariant in reconcile.CHAIN]
    assert lines[-2].endswith(f"chain.transaction: {', '.join(chain)}")
    assert lines[-1] == "ok: 8 invariants hold for 9 orders"
    assert answer["leftOut"] == chain


def test_the_command_says_in_one_line_that_the_database_does_not_answer(
    no_orders: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "conninfo", lambda: "host=127.0.0.1 port=1 dbname=orders")

    with pytest.raises(CommandError, match=r"^the database does not answer: .*refused.*$") as error:
        call_command("reconcile")

    assert error.value.returncode == 2


def test_the_command_says_that_the_tables_are_not_there(
    no_orders: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = f"{database.conninfo()} options='-c search_path=chain'"
    monkeypatch.setattr(database, "conninfo", lambda: empty)

    with pytest.raises(CommandError, match=r"^relation .* does not exist: run manage.py migrate$"):
        call_command("reconcile")
