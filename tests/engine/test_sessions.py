"""A connection of coroutines: opened when it is needed, given up when PostgreSQL says nothing."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from select import select
from types import SimpleNamespace

import psycopg
import pytest
from django.db import connection
from psycopg.sql import SQL, Identifier
from pytest_django.plugin import DjangoDbBlocker

from dex import postgres
from dex.postgres import BoundedConnection, Session
from dex.simulation.database import Database
from orders import database

PID = "SELECT pg_backend_pid() AS pid"


@pytest.fixture
def session(django_db_setup: None) -> Iterator[Session]:
    session = database.new_session()
    yield session
    session.close()


async def test_statements_of_one_moment_share_one_connection(session: Session) -> None:
    rows = await asyncio.gather(*(session.rows(PID, {}) for _ in range(5)))

    assert len({row["pid"] for [row] in rows}) == 1


async def test_a_connection_that_broke_while_nobody_asked_is_opened_again(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "IN_USE_SECONDS", 0)
    [before] = await session.rows(PID, {})
    database.row("SELECT pg_terminate_backend(%(pid)s, 5000)", before)

    [after] = await session.rows(PID, {})

    assert after["pid"] != before["pid"]


async def test_an_answer_that_nobody_has_read_yet_is_no_last_word(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "IN_USE_SECONDS", 0)
    [before] = await session.rows(PID, {})
    asking = asyncio.create_task(session.rows(PID, {}))
    await asyncio.sleep(0)  # it is sent
    assert session._conn is not None
    assert select([session._conn], [], [], 5)[0]  # and answered

    rows = await session.rows(PID, {})

    assert [*rows, *await asking] == [before, before]


async def test_a_statement_whose_connection_breaks_is_not_repeated(session: Session) -> None:
    [before] = await session.rows(PID, {})
    asking = asyncio.create_task(session.rows("SELECT pg_sleep(5)", {}))
    await asyncio.sleep(0.05)
    database.row("SELECT pg_terminate_backend(%(pid)s, 5000)", before)

    with pytest.raises(psycopg.OperationalError):
        await asking


def test_connections_of_the_pool_that_broke_are_given_to_nobody() -> None:
    with ExitStack() as lent:
        conns = [lent.enter_context(database.pool().connection()) for _ in range(8)]
        broken = {conn.info.backend_pid for conn in conns}
    with psycopg.connect(database.conninfo(), autocommit=True) as conn:
        for pid in broken:
            conn.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    found = {database.rows(PID, {})[0]["pid"] for _ in range(3)}

    assert not found & broken


def test_nor_are_those_of_djangos_pool(django_db_blocker: DjangoDbBlocker) -> None:
    with django_db_blocker.unblock():
        pool = connection.pool
        pool.open()  # Django does so with its first connection
        lent = [pool.getconn() for _ in range(8)]
        broken = {conn.info.backend_pid for conn in lent}
        for conn in lent:
            pool.putconn(conn)
        with psycopg.connect(database.conninfo(), autocommit=True) as conn:
            for pid in broken:
                conn.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

        begun = time.monotonic()
        conn = pool.getconn()
        found = conn.info.backend_pid
        pool.putconn(conn)

    assert found not in broken
    assert time.monotonic() - begun < 0.9  # the pool's second pause is a second


@pytest.mark.parametrize(("waited", "left"), [(0.0, 2.5), (2.0, 0.5), (2.25, 0.4)])
def test_who_waited_for_a_connection_waits_less_for_the_answer(
    monkeypatch: pytest.MonkeyPatch, waited: float, left: float
) -> None:
    pool, clock, found = database.pool(), count(0.0, waited), []

    @contextmanager
    def lent() -> Iterator[BoundedConnection]:
        with pool.connection() as conn:
            yield conn
            found.append(conn.answer_seconds)

    monkeypatch.setattr(database, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(database, "pool", lambda: SimpleNamespace(connection=lent))
    database.rows(PID, {})

    assert found == [left]


def test_a_connection_whose_server_says_nothing_is_closed(django_db_setup: None) -> None:
    with BoundedConnection.connect(database.conninfo(), autocommit=True) as conn:
        conn.answer_seconds = 0.2

        with pytest.raises(psycopg.OperationalError, match=r"within 0\.2 s"):
            conn.execute("SELECT pg_sleep(5)")

        assert conn.closed


async def test_a_server_that_says_nothing_is_not_waited_for(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    await session.rows(PID, {})
    monkeypatch.setattr(postgres, "ANSWER_SECONDS", 0.2)
    begun = time.monotonic()

    with pytest.raises(psycopg.OperationalError, match=r"within 0\.2 s"):
        await session.rows("SELECT pg_sleep(5)", {})

    assert time.monotonic() - begun < 2
    assert await session.rows(PID, {})


async def test_a_statement_that_is_refused_leaves_the_connection_as_it_is(session: Session) -> None:
    [before] = await session.rows(PID, {})

    with pytest.raises(psycopg.errors.DivisionByZero):
        await session.rows("SELECT 1 / 0", {})

    assert await session.rows(PID, {}) == [before]


@pytest.fixture
def changing(django_db_setup: None) -> Iterator[psycopg.Connection]:
    """To a table that a test changes, as a migration does under processes that go on."""
    with psycopg.connect(database.conninfo(), autocommit=True) as conn:
        conn.execute("CREATE TABLE changing (name varchar(16))")
        yield conn
        conn.execute("DROP TABLE changing")


CHANGES = ["ALTER COLUMN name TYPE varchar(48)", "ADD COLUMN other int"]
ASKED = "SELECT * FROM changing"
NEVER = "SELECT DISTINCT 1 FOR UPDATE"  # PostgreSQL does not support it, whatever is forgotten


@pytest.mark.parametrize("change", CHANGES)
def test_a_table_with_other_columns_costs_the_pool_no_call(
    change: str, changing: psycopg.Connection
) -> None:
    for _ in range(3 * database.pool().max_size):  # prepared on all of its connections
        with pytest.raises(psycopg.NotSupportedError):
            database.rows(NEVER, {})
        database.rows(ASKED, {})
    changing.execute(f"ALTER TABLE changing {change}")

    for _ in range(3 * database.pool().max_size):
        assert database.rows(ASKED, {}) == []


@pytest.mark.parametrize("change", CHANGES)
async def test_a_table_with_other_columns_costs_a_session_no_call(
    change: str, changing: psycopg.Connection, session: Session
) -> None:
    [before] = await session.rows(PID, {})
    with pytest.raises(psycopg.NotSupportedError):
        await session.rows(NEVER, {})
    for _ in range(4):
        await session.rows(ASKED, {})
    changing.execute(f"ALTER TABLE changing {change}")

    answers = await asyncio.gather(*(session.rows(ASKED, {}) for _ in range(5)))

    assert answers == [[]] * 5
    assert await session.rows(PID, {}) == [before]


async def test_what_postgresql_cannot_do_is_raised(session: Session) -> None:
    cannot = "SELECT 1 FROM (VALUES (1)) v (n) GROUP BY n FOR UPDATE"

    with pytest.raises(psycopg.NotSupportedError):
        await session.rows(cannot, {})
    with pytest.raises(psycopg.NotSupportedError):
        await asyncio.to_thread(database.rows, cannot, {})


@pytest.fixture
def elsewhere(django_db_setup: None) -> Iterator[None]:
    """A database whose times are those of another zone, in another form."""
    changes = {"timezone": "Europe/Berlin", "datestyle": "German"}
    with psycopg.connect(database.conninfo(), autocommit=True) as conn:
        named = SQL("ALTER DATABASE {} ").format(Identifier(conn.info.dbname))
        for name, value in changes.items():
            conn.execute(named + SQL("SET {} = {}").format(Identifier(name), value))
        database.pool().drain()
        yield
        for name in changes:
            conn.execute(named + SQL("RESET {}").format(Identifier(name)))
        database.pool().drain()


BEFORE_A_CLOCK_GOES_BACK = """
SELECT timestamptz '2026-10-25 00:50Z' AS first, timestamptz '2026-10-25 01:10Z' AS second,
       timestamptz '9999-12-31 23:59Z' AS last
"""


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("by", ["the pool", "a session", "a connection", "the simulated chain"])
async def test_times_are_those_of_utc_whatever_zone_the_database_has(
    session: Session, by: str
) -> None:
    match by:
        case "the pool":
            [found] = database.rows(BEFORE_A_CLOCK_GOES_BACK, {})
            first, second, last = found.values()
        case "a session":
            [found] = await session.rows(BEFORE_A_CLOCK_GOES_BACK, {})
            first, second, last = found.values()
        case "a connection":
            with psycopg.connect(database.conninfo()) as conn:
                [(first, second, last)] = conn.execute(BEFORE_A_CLOCK_GOES_BACK).fetchall()
        case _:
            chain = Database(database.conninfo(), monotonic_ns=time.monotonic_ns)
            [(first, second, last)] = await chain.ask(BEFORE_A_CLOCK_GOES_BACK, {})
            chain.close()

    assert second - first == timedelta(minutes=20)
    assert last == datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
