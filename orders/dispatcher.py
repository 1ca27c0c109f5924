"""Finds orders that may run and hints them: what makes a lost message harmless.

It runs as a process of its own (`manage.py dispatcher`), not as a Celery beat task: beat would need
Redis to say that Redis is gone. Two may run; an advisory lock lets one work. A leader that is
stopped or cut off loses the lock: PostgreSQL ends its session.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import psycopg
import redis
import structlog

from dex.postgres import READ_ONLY, BoundedConnection, takes_no_writes
from orders import claims, database, durability, hints, lifecycle, loop, requestid
from orders.models import FailureCode, Order, Status

log = structlog.get_logger(__name__)

TICK_SECONDS = 1.0
# A worker that frees a place takes the next message within milliseconds; look after that.
SETTLE_SECONDS = 0.05
# A hint that led to nothing is repeated after this long.
REPEAT_SECONDS = 1.5
RECONNECT_SECONDS = 1.0
LEADER_LOCK = 0x0D15
# Of a session that asks every TICK_SECONDS; a process that is stopped asks no more.
LEADER_IDLE = "SET idle_session_timeout = '8s'"


class Dispatcher:
    def __init__(self) -> None:
        self._hinted: dict[str, float] = {}
        self._crowded = False  # more orders are overdue than the last tick has ended
        # No Event: its lock would be taken twice by a signal that comes while another is handled.
        self._stopping = False

    def stop(self) -> None:
        """May be called by a signal handler; it is seen within TICK_SECONDS."""
        self._stopping = True

    def run(self) -> None:
        """Until stop(); survives the loss of PostgreSQL and of Redis."""
        while not self._stopping:
            try:
                self._lead()
            except psycopg.OperationalError as error:
                log.warning("dispatcher.database_away", error=str(error).strip())
                time.sleep(RECONNECT_SECONDS)

    def _lead(self) -> None:
        with BoundedConnection.connect(database.conninfo(), autocommit=True) as conn:
            conn.execute(LEADER_IDLE)
            if not self._is_leader(conn):
                log.info("dispatcher.standing_by")
                while not self._is_leader(conn):
                    if self._stopping:
                        return
                    time.sleep(TICK_SECONDS)
            conn.execute(f"LISTEN {lifecycle.ROOM_CHANNEL}")
            log.info("dispatcher.leading")
            for name in durability.unsafe_settings():
                log.warning(
                    "database.unsafe", setting=name, meaning="a committed order may be lost"
                )
            while not self._stopping:
                self.tick()
                (read_only,) = conn.execute(READ_ONLY).fetchone() or ("",)  # and it is not idle
                if read_only == "on":
                    raise takes_no_writes("it has become a standby")
                if not self._crowded:
                    self._wait_for_room(conn)

    def _is_leader(self, conn: psycopg.Connection[Any]) -> bool:
        found = conn.execute("SELECT pg_try_advisory_lock(%s)", [LEADER_LOCK]).fetchone()
        return bool(found and found[0])

    def _wait_for_room(self, conn: psycopg.Connection[Any]) -> None:
        # psycopg waits for the socket, and libpq may have read a bell with the answer before it.
        if conn.pgconn.notifies() or list(conn.notifies(timeout=TICK_SECONDS, stop_after=1)):
            time.sleep(SETTLE_SECONDS)

    def tick(self) -> int:
        """End what is overdue or hopeless, hint what may run; returns the number of hints sent."""
        overdue = claims.overdue()
        ended = loop.run(all_of([*map(expire, overdue), *map(give_up, claims.given_up())]))
        self._crowded = len(overdue) == claims.MOST_OVERDUE and any(ended)
        now = time.monotonic()
        self._hinted = {k: at for k, at in self._hinted.items() if now - at < REPEAT_SECONDS}
        found = [order_id for order_id in claims.runnable() if order_id not in self._hinted]
        sent = 0
        for order_id in found[: self._hints_wanted(len(found))]:
            if not hints.send(order_id):
                break
            self._hinted[order_id] = now
            sent += 1
        return sent

    def _hints_wanted(self, runnable: int) -> int:
        """As many as Redis does not hold already: each hint lets one order run, whichever it names.

        Without this the hints of a backlog would be repeated faster than workers take them.
        """
        if runnable == 0:
            return 0
        try:
            return max(0, runnable - hints.waiting())
        except redis.RedisError as error:
            log.warning("dispatcher.redis_away", error=str(error))
            return 0


async def all_of(ends: list[Coroutine[Any, Any, bool]]) -> list[bool]:
    """They share transactions."""
    return await asyncio.gather(*ends)


async def expire(order: Order) -> bool:
    return await end(order, Status.EXPIRED, data={})


async def give_up(order: Order) -> bool:
    message = f"{order.takeovers + 1} workers in turn were lost while they executed it"
    return await end(order, Status.FAILED, **lifecycle.failure(FailureCode.INTERNAL, message))


async def end(order: Order, to: Status, **what: Any) -> bool:
    """False where it was not to be; the others are ended. Raises psycopg.OperationalError."""
    with requestid.logged(order.request_id):
        try:
            await lifecycle.advance_with_others(order, to, **what)
        except lifecycle.ClaimLost:
            log.info("dispatcher.end_lost", order_id=order.id)
        except lifecycle.REFUSED:
            log.exception("execution.bug", order_id=order.id, status=order.status)
        else:
            return True
        return False
