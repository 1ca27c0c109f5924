"""Plain psycopg connections for the statements that decide: one pool in each process.

A Django cursor in a Celery task opens a PostgreSQL backend per task, and cannot prepare.
"""

import atexit
import time
from datetime import datetime
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from dex.postgres import (
    ANSWER_SECONDS,
    PLANNED_ONCE,
    BoundedConnection,
    Session,
    forget,
    is_dead,
)
from orders.once import once

Row = dict[str, Any]
LEAST_SECONDS = 0.4  # for a statement whose connection came late


def conninfo() -> str:
    """libpq's description of the database that Django uses."""
    config = connection.settings_dict
    options = {k: v for k, v in config["OPTIONS"].items() if k != "pool"}
    named = {
        "dbname": config["NAME"],
        "user": config["USER"] or None,
        "password": config["PASSWORD"] or None,
        "host": config["HOST"] or None,
        "port": config["PORT"] or None,
    }
    return make_conninfo("", **{**named, **options})


def how_to_reach() -> str:
    """What to do where PostgreSQL does not answer a command."""
    if settings.EMBEDDED:
        return (
            "start the stack with `make up`, set DATA_DIR to that of a running one, or set "
            "DATABASE_URL"
        )
    return "is DATABASE_URL right? Where PostgreSQL was restarted meanwhile, run it again"


# Each statement of the engine has an index that answers it in order. With statistics from before a
# queue grew, PostgreSQL would rather read, sort or hash all orders there are: 100,000 waiting made
# the end of an order take 7 ms instead of 0.6, and a claim 27.
# Compiling a statement takes longer than any of them.
BY_INDEX = " ".join(
    f"-c {name}=off"
    for name in (
        *("enable_seqscan", "enable_sort", "enable_incremental_sort"),
        *("enable_hashjoin", "enable_mergejoin"),
        "jit",
    )
)


def options() -> str:
    """What libpq tells the server of each connection of the pool."""
    return f"{conninfo_to_dict(conninfo()).get('options', '')} {BY_INDEX}"


# Each statement is planned once.
STATEMENTS: dict[str, Any] = {"prepare_threshold": 2, "row_factory": dict_row}


def require_living(conn: BoundedConnection) -> None:
    """Raises psycopg.OperationalError. The pool would ask the server, and each time."""
    if is_dead(conn):
        conn.close()
        pool().drain()  # or it looks at one after the other, with a pause that grows
        raise psycopg.OperationalError("the server has ended this connection")


@once
def pool() -> ConnectionPool[BoundedConnection]:
    made = ConnectionPool(
        conninfo(),
        connection_class=BoundedConnection,
        kwargs={"autocommit": True, **STATEMENTS, "options": options()},
        min_size=1,
        max_size=16,
        timeout=2,
        reconnect_timeout=5,
        check=require_living,
        open=True,
    )
    # Else it waits for its threads when they can run no more: 20 s, from Python 3.13 on.
    atexit.register(made.close, timeout=1)
    return made


def new_session() -> Session:
    """For coroutines that come together: each kind of statement has a connection of its own.

    None to a standby: one that only reads would never learn that others have left it.
    """
    return Session(
        conninfo,
        **STATEMENTS,
        options=session_options(),
        target_session_attrs="read-write",
    )


def session_options() -> str:
    return f"{options()} {PLANNED_ONCE}"


def rows(sql: str, params: dict[str, Any]) -> list[Row]:
    """Run one statement in a transaction of its own; committed when this returns.

    Raises psycopg.OperationalError while PostgreSQL is away, or silent for ANSWER_SECONDS; the
    time that passed until a connection was free counts.
    """
    asked = time.monotonic()
    with pool().connection() as conn:
        waited = time.monotonic() - asked
        conn.answer_seconds = max(ANSWER_SECONDS - waited, LEAST_SECONDS)
        found = run(conn, sql, params)
        conn.used_at = time.monotonic()
        return found


def run(conn: BoundedConnection, sql: str, params: dict[str, Any]) -> list[Row]:
    try:
        return conn.execute(sql, params).fetchall()
    except psycopg.NotSupportedError:  # it did nothing
        conn.execute(forget(), prepare=False)
        return conn.execute(sql, params).fetchall()


def row(sql: str, params: dict[str, Any]) -> Row | None:
    found = rows(sql, params)
    return found[0] if found else None


def now() -> datetime:
    """The database's clock: the only one that decides anything."""
    moment: datetime = rows("SELECT clock_timestamp() AS now", {})[0]["now"]
    return moment
