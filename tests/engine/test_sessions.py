"""A connection of coroutines: opened when it is needed, given up when PostgreSQL says nothing."""

import asyncio
import time
from collections.abc import Iterator

import psycopg
import pytest

from dex import postgres
from dex.postgres import Session
from orders import database

PID = "SELECT pg_backend_pid() AS pid"


@pytest.fixture
def session() -> Iterator[Session]:
    session = database.new_session()
    yield session
    session.close()


async def test_statements_of_one_moment_share_one_connection(session: Session) -> None:
    rows = await asyncio.gather(*(session.rows(PID, {}) for _ in range(5)))

    assert len({row["pid"] for [row] in rows}) == 1


async def test_a_connection_that_broke_costs_one_call_and_is_opened_again(session: Session) -> None:
    [before] = await session.rows(PID, {})
    database.row("SELECT pg_terminate_backend(%(pid)s, 5000)", before)

    with pytest.raises(psycopg.OperationalError):
        await session.rows(PID, {})

    [after] = await session.rows(PID, {})
    assert after["pid"] != before["pid"]


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


@pytest.mark.usefixtures("django_db_setup")
def test_a_table_with_other_columns_costs_the_pool_one_call() -> None:
    """As after a migration, in processes that go on."""
    asked = "SELECT * FROM changing"
    with psycopg.connect(database.conninfo(), autocommit=True) as conn:
        conn.execute("CREATE TABLE changing (name varchar(16))")
        try:
            for _ in range(3 * database.pool().max_size):  # prepared on all of its connections
                database.rows(asked, {})
            conn.execute("ALTER TABLE changing ALTER COLUMN name TYPE varchar(48)")

            with pytest.raises(psycopg.NotSupportedError):
                database.rows(asked, {})

            for _ in range(3 * database.pool().max_size):
                assert database.rows(asked, {}) == []
        finally:
            conn.execute("DROP TABLE changing")
