"""The simulated chain's own connections, and its clock."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import psycopg

from dex.errors import VenueUnavailable
from dex.postgres import IN_UTC, PLANNED_ONCE, Session
from dex.simulation.blocks import height_at

TIMEOUT_SECONDS = 2.0
# By index also where a plan was made while the chain was empty.
OPTIONS = (
    f"{PLANNED_ONCE} {IN_UTC} -c enable_seqscan=off"
    f" -c statement_timeout={int(TIMEOUT_SECONDS * 1000)}"
)
CLOCK_MAX_AGE_NS = 10_000_000_000

_UNIX_MS = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_NO_ANSWER = "the simulated chain does not answer"


class Database:
    """One session for what is sent, and one for what is asked.

    Raises VenueUnavailable(QUOTE_UNAVAILABLE) where PostgreSQL does not answer.
    """

    def __init__(self, dsn: str, *, monotonic_ns: Callable[[], int]) -> None:
        self._monotonic_ns = monotonic_ns
        self._sending, self._asking = (
            Session(
                lambda: dsn,
                prepare_threshold=2,
                application_name="simulated-chain",
                options=OPTIONS,
            )
            for _ in range(2)
        )
        self._closed = False
        self._clock: tuple[int, int] | None = None  # (offset, read at), in ns
        self._reading: asyncio.Task[tuple[int, int]] | None = None

    async def send(self, sql: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        return await self._rows(self._sending, sql, values)

    async def ask(self, sql: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        return await self._rows(self._asking, sql, values)

    async def height(self) -> int:
        """Block height by the database's clock, never ahead of it; asks it every 10 s."""
        clock, now_ns = self._clock, self._monotonic_ns()
        if clock is None or now_ns - clock[1] > CLOCK_MAX_AGE_NS:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.get_running_loop().create_task(self._read_clock())
                self._reading.add_done_callback(_look_at)
            # Whoever stops waiting leaves it: psycopg takes 10 s to cancel a statement of a server
            # that says nothing.
            clock = await asyncio.shield(self._reading)
        return height_at((clock[0] + now_ns) // 1_000_000)

    def forget_clock(self) -> None:
        """Ask for it anew: what was sent by it is too late for the database."""
        self._clock = None

    def close(self) -> None:
        self._closed = True
        self._sending.close()
        self._asking.close()

    async def _rows(
        self, session: Session, sql: str, values: Mapping[str, object]
    ) -> list[tuple[Any, ...]]:
        if self._closed:
            raise VenueUnavailable("QUOTE_UNAVAILABLE", _NO_ANSWER)
        try:
            return await session.rows(sql, values)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise VenueUnavailable("QUOTE_UNAVAILABLE", _NO_ANSWER) from error

    async def _read_clock(self) -> tuple[int, int]:
        ((unix_ms,),) = await self.ask(_UNIX_MS, {})
        read_at = self._monotonic_ns()
        self._clock = (unix_ms * 1_000_000 - read_at, read_at)
        return self._clock


def _look_at(reading: asyncio.Task[tuple[int, int]]) -> None:
    """Nobody may be there any more to take its error, and asyncio would log it with its stack."""
    if not reading.cancelled():
        reading.exception()
