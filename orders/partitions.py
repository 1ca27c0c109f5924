"""Events in a table for each day, so that old ones can be dropped: `manage.py partitions`.

Off until it is enabled; nothing that reads or writes events knows of it. An order's id begins with
the milliseconds of its creation, so a range of ids is a range of time: the key (order_id, seq)
stays, and whoever reads the events of one order reads one table. All events of an order are where
it was placed, however long it runs.

Every function takes a connection in autocommit mode, without a statement timeout.
"""

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from orders.models import IN_EXECUTION, listed

Connection = psycopg.Connection[Any]

DAY = timedelta(days=1)
TABLE = "orders_orderevent"
FIRST, REST = f"{TABLE}_first", f"{TABLE}_rest"
# Without it PostgreSQL would read the whole table, under the lock, to see where its orders belong.
ONLY_BEFORE = "only_before_partitions"
# The oldest orders whose events are kept, as the beginning of an id; '' for all.
KEPT_FROM = rf"""(
    SELECT coalesce(min(coalesce(
        substring(pg_get_expr(relpartbound, oid) FROM $$FROM \('(ord_\d+)'\)$$), '')), '')
    FROM pg_inherits JOIN pg_class ON oid = inhrelid
    WHERE inhparent = '{TABLE}'::regclass AND pg_get_expr(relpartbound, oid) <> 'DEFAULT'
)"""

# Who waits for a lock makes everybody wait who comes after, and a request gives up after 2 s.
LOCK_SECONDS = 1.0
TRIES = 20
# In the order in which every statement of the engine takes them.
LOCKS = (
    "LOCK TABLE orders_order IN SHARE ROW EXCLUSIVE MODE",
    f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE",
)
PARTITIONS = f"""
SELECT relname AS name, pg_get_expr(relpartbound, oid) AS bound, pg_total_relation_size(oid) AS size
FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = '{TABLE}'::regclass
"""
BOUND = re.compile(r"FOR VALUES FROM \((?:MINVALUE|'(ord_\d{13})')\) TO \('(ord_\d{13})'\)")
# Of the table of events: its primary key and what refers to orders.
KEYS = f"""
SELECT contype, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = '{TABLE}'::regclass AND contype IN ('p', 'f')
"""
UNFINISHED = f"""
SELECT count(*) AS count, min(id) AS first FROM (
    SELECT id FROM orders_order WHERE status = 'pending' AND id >= %(lower)s AND id < %(upper)s
    UNION ALL
    SELECT id FROM orders_order
    WHERE status IN ({listed(IN_EXECUTION)})
      AND id >= %(lower)s AND id < %(upper)s
) found
"""


class NotPartitioned(Exception):
    """The events are in one table: enable partitions first."""


@dataclass(frozen=True, slots=True)
class Partition:
    """The events of the orders whose ids are from `lower`, '' for the first, to below `upper`.

    `rest` takes what has no other partition; its bounds are empty. `size` in bytes, with indexes.
    """

    name: str
    lower: str
    upper: str
    size: int

    @property
    def rest(self) -> bool:
        return not self.upper


def first_id(moment: datetime) -> str:
    """No id of an order that is placed at this moment or later is less."""
    return f"ord_{moment.timestamp() * 1000:013.0f}"


def moment_of(first: str) -> datetime:
    """The reverse of `first_id`."""
    return datetime.fromtimestamp(int(first[4:]) / 1000, UTC)


def enabled(conn: Connection) -> bool:
    found = conn.execute("SELECT relkind FROM pg_class WHERE oid = %s::regclass", [TABLE])
    return found.fetchone() == ("p",)


def partitions(conn: Connection) -> list[Partition]:
    """By time, the rest last. Raises NotPartitioned."""
    if not enabled(conn):
        raise NotPartitioned
    found = []
    for name, bound, size in conn.execute(PARTITIONS):
        match = BOUND.fullmatch(bound)
        lower, upper = match.groups("") if match else ("", "")
        found.append(Partition(name, lower, upper, size))
    return sorted(found, key=lambda one: (one.rest, one.upper))


def enable(conn: Connection, until: datetime) -> None:
    """Make the table the first partition, that of all orders placed before `until`, in the future.

    Orders run on meanwhile: the table is read without a lock that they notice, and then locked for
    a moment. Should this process die between the two, orders are refused from `until` on unless it
    is run again before; whatever else goes wrong is undone.
    """
    if enabled(conn):
        return
    bound = first_id(until)
    forget_check(conn)
    locked(
        conn,
        f"ALTER TABLE {TABLE} ADD CONSTRAINT {ONLY_BEFORE} CHECK (order_id < '{bound}') NOT VALID",
    )
    try:
        conn.execute(f"ALTER TABLE {TABLE} VALIDATE CONSTRAINT {ONLY_BEFORE}")
        locked(conn, *conversion(conn, bound))
    except BaseException:
        forget_check(conn)
        raise


def forget_check(conn: Connection) -> None:
    locked(conn, f"ALTER TABLE {TABLE} DROP CONSTRAINT IF EXISTS {ONLY_BEFORE}")


def conversion(conn: Connection, bound: str) -> list[str]:
    """The statements that put a partitioned table in the place of the one there is."""
    renamed, added = [], []
    for kind, name, definition in conn.execute(KEYS):
        if kind == "p":
            renamed.append(f'ALTER INDEX "{name}" RENAME TO "{FIRST}_pkey"')
        added.append(f'ALTER TABLE {TABLE} ADD CONSTRAINT "{name}" {definition}')
    return [
        f"ALTER TABLE {TABLE} RENAME TO {FIRST}",
        *renamed,
        f"CREATE TABLE {TABLE} (LIKE {FIRST} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
        " PARTITION BY RANGE (order_id)",
        f"ALTER TABLE {TABLE} DROP CONSTRAINT {ONLY_BEFORE}",
        *added,
        f"ALTER TABLE {TABLE} ATTACH PARTITION {FIRST} FOR VALUES FROM (MINVALUE) TO ('{bound}')",
        f"ALTER TABLE {FIRST} DROP CONSTRAINT {ONLY_BEFORE}",
        f"CREATE TABLE {REST} PARTITION OF {TABLE} DEFAULT",
    ]


def ensure(conn: Connection, until: datetime) -> list[Partition]:
    """Partitions for the orders that are placed before `until`, one a day; returns the new ones.

    Events that came to the rest, because this was not done in time, get a partition of their own.
    """
    known = partitions(conn)
    if conn.execute(f"SELECT 1 FROM {REST} LIMIT 1").fetchone():
        place_rest(conn, last_bound(known))
    begin = moment_of(last_bound(partitions(conn)))
    while begin < until:
        end = midnight_after(begin)
        create(conn, begin, end)
        begin = end
    return [one for one in partitions(conn) if one.name not in {old.name for old in known}]


def last_bound(known: list[Partition]) -> str:
    return max(one.upper for one in known)


def midnight_after(moment: datetime) -> datetime:
    """The first of UTC after it."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day + DAY


def name_of(begin: datetime) -> str:
    """The day's, with the time where a partition does not begin at midnight."""
    return f"{TABLE}_{begin:%Y%m%d}{begin:_%H%M%S}".removesuffix("_000000")


def values(lower: str, upper: str) -> str:
    return f"FOR VALUES FROM ('{lower}') TO ('{upper}')"


def create(conn: Connection, begin: datetime, end: datetime) -> None:
    where = values(first_id(begin), first_id(end))
    locked(conn, f"CREATE TABLE {name_of(begin)} PARTITION OF {TABLE} {where}")


def place_rest(conn: Connection, lower: str) -> None:
    """Make the rest the partition from `lower` to the midnight after its newest order.

    It is read under the lock: it holds what was placed since somebody forgot `ensure`.
    """
    [[newest]] = conn.execute(f"SELECT max(order_id) FROM {REST}")
    [[now]] = conn.execute("SELECT clock_timestamp()")
    upper = first_id(midnight_after(max(now, moment_of(newest[:17]))))
    name = f"{name_of(moment_of(lower))}_late"
    locked(
        conn,
        f"ALTER TABLE {TABLE} DETACH PARTITION {REST}",
        f"ALTER TABLE {REST} RENAME TO {name}",
        f'ALTER INDEX "{REST}_pkey" RENAME TO "{name}_pkey"',
        f"ALTER TABLE {TABLE} ATTACH PARTITION {name} {values(lower, upper)}",
        f"CREATE TABLE {REST} PARTITION OF {TABLE} DEFAULT",
    )


def droppable(conn: Connection, before: datetime) -> list[Partition]:
    """Those whose orders were all placed before this moment, the oldest first; never the newest
    that is dated, where the next one begins."""
    bound = first_id(before)
    dated = [one for one in partitions(conn) if not one.rest]
    return [one for one in dated[:-1] if one.upper <= bound]


def unfinished(conn: Connection, partition: Partition) -> tuple[int, str]:
    """How many of its orders have not ended, and the first of them. None is ever added."""
    bounds = {"lower": partition.lower, "upper": partition.upper}
    [[count, first]] = conn.execute(UNFINISHED, bounds)
    return count, first or ""


def drop(conn: Connection, partition: Partition) -> None:
    """For ever. The orders stay, with what became of them."""
    locked(conn, f"DROP TABLE {partition.name}")


def locked(conn: Connection, *statements: str) -> None:
    """Run them in one transaction under LOCKS, for which nobody is made to wait long.

    Raises psycopg.errors.LockNotAvailable when the tables are never free for a moment.
    """
    for left in reversed(range(TRIES)):
        try:
            with conn.transaction():
                conn.execute(f"SET LOCAL lock_timeout = {LOCK_SECONDS * 1000:.0f}")
                for statement in (*LOCKS, *statements):
                    conn.execute(statement)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if not left:
                raise
            time.sleep(LOCK_SECONDS / 5)
        else:
            return
