"""`manage.py partitions enable|ensure|retain|status`: events in a table for each day."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import psycopg
from django.core.management.base import BaseCommand, CommandError

from orders import database, partitions
from orders.management.tables import table
from orders.partitions import Connection, Partition

WORTH_IT = 1_000_000
MOST_DAYS = 3650
HEADINGS = ("partition", "orders from", "to", "MiB")
ESTIMATE = """
SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'orders_order'::regclass
"""


class Command(BaseCommand):
    help = "Keeps events in one table for each day, so that old ones can be dropped at once."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("enable", help="make the table of events the first partition")
        ensure = actions.add_parser("ensure", help="make those of the days to come; run it daily")
        ensure.add_argument("--ahead", type=days, default=7, help="days (default 7)")
        retain = actions.add_parser("retain", help="drop the partitions of older orders")
        retain.add_argument("--days", type=days, required=True, help="of orders to keep")
        actions.add_parser("status", help="which there are, and how large they are")

    def handle(self, *_: Any, action: str, **options: Any) -> None:
        try:
            with connected() as conn:
                getattr(self, action)(conn, **options)
        except psycopg.errors.LockNotAvailable:
            raise CommandError("the tables were in use all the time: try again") from None
        except partitions.NotPartitioned:
            raise CommandError("events are in one table: run manage.py partitions enable") from None

    def enable(self, conn: Connection, **_: Any) -> None:
        """A whole day is left for reading the table, however large it is."""
        if partitions.enabled(conn):
            self.stdout.write("events are in partitions already")
        else:
            tomorrow = partitions.midnight_after(now(conn))
            partitions.enable(conn, until=tomorrow + partitions.DAY)
            self.stdout.write("events are in partitions now; run `partitions ensure` every day")
        self.ensure(conn, ahead=7)

    def ensure(self, conn: Connection, ahead: int, **_: Any) -> None:
        made = partitions.ensure(conn, until=now(conn) + timedelta(days=ahead))
        self.stdout.write("\n".join(f"made {one.name}" for one in made) or "nothing to make")

    def retain(self, conn: Connection, days: int, **_: Any) -> None:
        """Raises CommandError when an old partition has to stay."""
        kept = dropped = 0
        for one in partitions.droppable(conn, before=now(conn) - timedelta(days=days)):
            count, first = partitions.unfinished(conn, one)
            if count:
                kept += 1
                self.stderr.write(f"kept {one.name}: {count} of its orders have not ended, {first}")
            else:
                partitions.drop(conn, one)
                dropped += 1
                self.stdout.write(f"dropped {one.name}, {mebibytes(one)} MiB")
        if kept:
            raise CommandError(f"{kept} partitions were kept")
        if not dropped:
            self.stdout.write("nothing to drop")

    def status(self, conn: Connection, **_: Any) -> None:
        if not partitions.enabled(conn):
            [[orders]] = conn.execute(ESTIMATE)
            advice = "worth it" if orders >= WORTH_IT else f"not worth it below {WORTH_IT:,}"
            self.stdout.write(f"events are in one table; about {orders:,} orders: {advice}")
            return
        rows = [(one.name, *span(one), mebibytes(one)) for one in partitions.partitions(conn)]
        self.stdout.write(table([HEADINGS, *rows]))


def days(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MOST_DAYS:
        raise ArgumentTypeError(f"{number} is not from 1 to {MOST_DAYS}")
    return number


def span(one: Partition) -> tuple[str, str]:
    if one.rest:
        return "any other", ""
    return minute(one.lower), minute(one.upper)


def minute(bound: str) -> str:
    return f"{partitions.moment_of(bound):%Y-%m-%d %H:%M}" if bound else "the first"


def mebibytes(one: Partition) -> str:
    return f"{one.size / 2**20:.1f}"


def now(conn: Connection) -> datetime:
    [[moment]] = conn.execute("SELECT now()")
    return moment  # type: ignore[no-any-return]


@contextmanager
def connected() -> Iterator[Connection]:
    """Without the engine's bounds: a large table takes its time."""
    with psycopg.connect(database.conninfo(), autocommit=True) as conn:
        conn.execute("SET statement_timeout = 0")
        yield conn
