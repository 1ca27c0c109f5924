"""PostgreSQL connections on which nobody waits for ever."""

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from select import POLLIN, poll
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

T = TypeVar("T")

# A server that is stopped, not gone, keeps its connections open and says nothing: its own
# statement_timeout stands still with it, and its kernel goes on acknowledging what is sent.
ANSWER_SECONDS = 2.5
# One that was used so lately is not looked at: a server takes longer to restart.
IN_USE_SECONDS = 0.5
# For a session, which has few statements. PostgreSQL plans some anew each time, as that seems to
# pay in a large table: 0.3 of the 0.75 ms of a claim at a million orders.
PLANNED_ONCE = "-c plan_cache_mode=force_generic_plan"
# Whatever zone the server, the database or the role has. Python compares times of one zone by its
# wall clock, which goes back once a year; and in a zone to the east the last year ends early.
IN_UTC = "-c timezone=UTC -c datestyle=ISO"

# After a migration PostgreSQL refuses to carry out what was prepared before: it would answer with
# other columns. With this psycopg forgets what it has prepared on the connection; it looks at the
# answer of a statement that it has not seen before only, so each is another one.
_forgotten = itertools.count()


def forget() -> bytes:
    return b"DEALLOCATE ALL -- %d" % next(_forgotten)


def no_answer(seconds: float) -> psycopg.OperationalError:
    return psycopg.OperationalError(f"PostgreSQL gave no answer within {seconds:g} s")


# Answers "on" of a standby, and where writes were switched off.
READ_ONLY = "SELECT current_setting('transaction_read_only') AS read_only"

# How often a server was found to take no writes: then every connection from before is left, for one
# that only reads would go on reading from a server that all others have left.
_times_left = 0


def takes_no_writes(error: psycopg.Error | str) -> psycopg.OperationalError:
    global _times_left  # noqa: PLW0603
    _times_left += 1
    return psycopg.OperationalError(f"PostgreSQL takes no writes: {error}".strip())


def is_dead(conn: "BoundedConnection | BoundedAsyncConnection") -> bool:
    """Whether it is to a server that was left, or the server has said something on it while no
    statement is under way.

    Those are its last words: PostgreSQL may have restarted long ago, and whoever comes next is not
    to learn it from an error. To look lets go of the GIL: not after each statement.
    """
    if conn.closed or conn.opened_before != _times_left:
        return True
    if time.monotonic() - conn.used_at < IN_USE_SECONDS:
        return False
    socket = poll()
    socket.register(conn.fileno(), POLLIN)
    return bool(socket.poll(0))


class BoundedConnection(psycopg.Connection[Any]):
    """Gives up on a server that does not answer within `answer_seconds` (None: never).

    The connection is closed then, and OperationalError raised: whether the statement was carried
    out is not known. The same where the server has become a standby: the next connection may find
    the one that takes writes.
    """

    answer_seconds: float | None = ANSWER_SECONDS
    used_at = 0.0  # of time.monotonic(), as whoever uses it tells

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.opened_before = _times_left

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        if timeout is not None or self.answer_seconds is None:
            return super().wait(gen, interval, timeout)
        deadline = time.monotonic() + self.answer_seconds
        try:
            return super().wait(gen, interval, self.answer_seconds)
        except psycopg.errors.ReadOnlySqlTransaction as error:
            self.close()
            raise takes_no_writes(error) from None
        except psycopg.OperationalError:
            if time.monotonic() < deadline:
                raise  # an answer, if a bad one
            self.close()
            raise no_answer(self.answer_seconds) from None


class BoundedAsyncConnection(psycopg.AsyncConnection[Any]):
    """The same for coroutines."""

    used_at = 0.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.opened_before = _times_left

    async def wait(
        self,
        gen: PQGen[T],
        interval: float = 0.1,
        timeout: float | None = None,  # noqa: ASYNC109 - psycopg's signature
    ) -> T:
        if timeout is not None:
            return await super().wait(gen, interval, timeout)
        deadline = time.monotonic() + ANSWER_SECONDS
        try:
            return await super().wait(gen, interval, ANSWER_SECONDS)
        except psycopg.errors.ReadOnlySqlTransaction as error:
            await self.close()
            raise takes_no_writes(error) from None
        except psycopg.OperationalError:
            if time.monotonic() < deadline:
                raise
            await self.close()
            raise no_answer(ANSWER_SECONDS) from None


class Session:
    """One autocommit connection for the coroutines of one event loop.

    It is opened at the first use, and again by the next one after it broke. Statements asked for at
    the same time are carried out one after the other.
    """

    def __init__(self, conninfo: Callable[[], str], **options: Any) -> None:
        """`options` are those of psycopg.AsyncConnection.connect."""
        self._conninfo = conninfo
        self._options = options
        self._opening = asyncio.Lock()
        self._conn: BoundedAsyncConnection | None = None

    async def rows(self, sql: str, params: Mapping[str, Any]) -> list[Any]:
        """Run one statement in a transaction of its own; committed when this returns.

        Raises psycopg.OperationalError while PostgreSQL is away, or silent for ANSWER_SECONDS.
        """
        conn = self._conn
        if conn is not None and not conn.lock.locked() and is_dead(conn):
            await conn.close()
        if conn is None or conn.closed:
            conn = await self._open()
        try:
            cursor = await conn.execute(sql, params)
        except psycopg.NotSupportedError:  # it did nothing
            await conn.execute(forget(), prepare=False)
            cursor = await conn.execute(sql, params)
        conn.used_at = time.monotonic()
        return await cursor.fetchall()

    async def _open(self) -> BoundedAsyncConnection:
        async with self._opening:
            if self._conn is None or self._conn.closed:
                self._conn = await BoundedAsyncConnection.connect(
                    self._conninfo(), autocommit=True, connect_timeout=2, **self._options
                )
            return self._conn

    def close(self) -> None:
        if self._conn is not None:
            self._conn.pgconn.finish()

    __del__ = close  # a loop that has ended takes its sessions along
