"""The simulated chain's own connections, and its clock."""

import os
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from dex.errors import VenueUnavailable
from dex.postgres import BoundedConnection
from dex.simulation.blocks import height_at

TIMEOUT_SECONDS = 2.0
CLOCK_MAX_AGE_NS = 10_000_000_000

_UNIX_MS = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_NO_ANSWER = "the simulated chain does not answer"


class Database:
    """A pool of autocommit connections, opened at the first use in the process that uses it.

    Raises VenueUnavailable(QUOTE_UNAVAILABLE) where PostgreSQL does not answer.
    """

    def __init__(self, dsn: str, *, pool_size: int, monotonic_ns: Callable[[], int]) -> None:
        self._dsn = dsn
        self._pool_size = pool_size
        self._monotonic_ns = monotonic_ns
        self._lock = Lock()
        self._pool: ConnectionPool[BoundedConnection] | None = None
        self._pid = 0
        self._closed = False
        self._clock: tuple[int, int] | None = None  # (offset, read at), in ns

    def fetch_row(self, sql: str, values: Mapping[str, object]) -> tuple[Any, ...]:
        """The row of a statement that returns exactly one."""
        (row,) = self.fetch_rows(sql, values)
        return row

    def fetch_rows(self, sql: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        pool = self._open_pool()
        try:
            with pool.connection() as connection:
                return connection.execute(sql, values).fetchall()
        except PoolTimeout as error:
            raise VenueUnavailable("QUOTE_UNAVAILABLE", _NO_ANSWER) from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            pool.drain()  # a restart broke every idle connection, not this one alone
            raise VenueUnavailable("QUOTE_UNAVAILABLE", _NO_ANSWER) from error

    def height(self) -> int:
        """Block height by the database's clock, never ahead of it; asks it every 10 s."""
        known = self.known_height()
        if known is None:
            self._read_clock()
            return self.height()
        return known

    def known_height(self) -> int | None:
        """The same; None where the database has to be asked."""
        clock, now_ns = self._clock, self._monotonic_ns()
        if clock is None or now_ns - clock[1] > CLOCK_MAX_AGE_NS:
            return None
        return height_at((clock[0] + now_ns) // 1_000_000)

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
            self._closed = True
        if pool is not None and self._pid == os.getpid():
            pool.close()

    def _read_clock(self) -> None:
        (unix_ms,) = self.fetch_row(_UNIX_MS, {})
        read_at = self._monotonic_ns()
        self._clock = (unix_ms * 1_000_000 - read_at, read_at)

    def _open_pool(self) -> ConnectionPool[BoundedConnection]:
        with self._lock:
            if self._closed:
                raise VenueUnavailable("QUOTE_UNAVAILABLE", _NO_ANSWER)
            if self._pool is None or self._pid != os.getpid():
                self._pool = ConnectionPool(
                    self._dsn,
                    connection_class=BoundedConnection,
                    min_size=0,
                    max_size=self._pool_size,
                    open=True,
                    timeout=TIMEOUT_SECONDS,
                    reconnect_timeout=TIMEOUT_SECONDS,
                    num_workers=1,
                    name="simulated-chain",
                    kwargs={
                        "autocommit": True,
                        "application_name": "simulated-chain",
                        "connect_timeout": int(TIMEOUT_SECONDS),
                        "options": f"-c statement_timeout={int(TIMEOUT_SECONDS * 1000)}",
                    },
                )
                self._pid = os.getpid()
            return self._pool
