"""Halting and resuming: while trading is halted no order is accepted, and none that waits starts.

What has started goes on, retries and takeovers as well; what waits may be cancelled and expires by
its deadline. The functions that place and claim hold to it (orders/sql).
"""

import structlog

from orders import database
from orders.lifecycle import RING_ROOM
from orders.models import Halt
from orders.parsing import printable

log = structlog.get_logger(__name__)

LONGEST_REASON, LONGEST_NAME = 200, 150

COLUMNS = "id, halted_at, halted_by, reason, resumed_at, resumed_by"
# The lock is taken before the time: whatever was stored or started, was so before it.
HALT = f"""
WITH alone AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtext('orders_halt')))
INSERT INTO orders_halt (halted_at, halted_by, reason)
SELECT clock_timestamp(), %(by)s, %(reason)s FROM alone
ON CONFLICT DO NOTHING
RETURNING {COLUMNS}
"""
RESUME = f"""
WITH h AS (
    UPDATE orders_halt SET resumed_at = clock_timestamp(), resumed_by = %(by)s
    WHERE resumed_at IS NULL
    RETURNING {COLUMNS}
)
SELECT h.*, {RING_ROOM} AS rung FROM h
"""
CURRENT = f"SELECT {COLUMNS} FROM orders_halt WHERE resumed_at IS NULL"


def halt(by: str, reason: str = "") -> Halt | None:
    """Halt trading in the name of `by`; None where it is halted already.

    When this returns no order is accepted any more, by any process. Raises
    psycopg.OperationalError.
    """
    by, reason = printable(by), printable(reason)
    found = database.row(HALT, {"by": by[:LONGEST_NAME], "reason": reason[:LONGEST_REASON]})
    if found is not None:
        log.warning("trading.halted", by=by, reason=reason)
    return None if found is None else Halt(**found)


def resume(by: str) -> Halt | None:
    """Go on, in the name of `by`; None where trading is not halted."""
    by = printable(by)
    found = database.row(RESUME, {"by": by[:LONGEST_NAME]})
    if found is None:
        return None
    log.warning("trading.resumed", by=by)
    del found["rung"]
    return Halt(**found)


def current() -> Halt | None:
    """The halt that has not ended."""
    found = database.row(CURRENT, {})
    return None if found is None else Halt(**found)
