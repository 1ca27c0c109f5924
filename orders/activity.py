"""What became of an owner's orders in the last minutes, in buckets of a few seconds: for a chart.

The orders of a window are read from the index `completed` only, the newest first. Beyond
MOST_ORDERS the window is cut, and begins with the first bucket that was read whole.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from orders import database
from orders.events import iso
from orders.models import TERMINAL

BUCKET = timedelta(seconds=5)
MOST_ORDERS = 50_000

# The order asked for is that of one index only, so that no other is read; NULL compares with none.
ACTIVITY = """
WITH found AS MATERIALIZED (
    SELECT created_at, completed_at, status FROM orders_order
    WHERE {owner} AND completed_at >= %(since)s
    ORDER BY owner_id DESC, completed_at DESC LIMIT %(most)s
)
SELECT date_bin(%(bucket)s, completed_at, 'epoch') AS at,
    count(*) AS ended,
    count(*) FILTER (WHERE status = 'confirmed') AS confirmed,
    count(*) FILTER (WHERE status = 'failed') AS failed,
    count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
    count(*) FILTER (WHERE status = 'expired') AS expired,
    percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY completed_at - created_at)
        FILTER (WHERE status = 'confirmed') AS took
FROM found GROUP BY at ORDER BY at
"""


def activity(owner_id: int | None, minutes: int) -> dict[str, Any]:
    """The owner's orders that ended in the last minutes. Raises psycopg.OperationalError."""
    now = database.now()
    since = bucket_of(now - timedelta(minutes=minutes))
    found = database.rows(*query(owner_id, since))
    if sum(row["ended"] for row in found) >= MOST_ORDERS:
        since = found.pop(0)["at"] + BUCKET  # it may have more orders than were read
    return {
        "bucketSeconds": int(BUCKET.total_seconds()),
        "from": iso(since),
        "to": iso(now),
        "results": [shown(row) for row in found],
    }


def query(owner_id: int | None, since: datetime) -> tuple[str, dict[str, Any]]:
    """The statement and its parameters."""
    owner = "owner_id IS NULL" if owner_id is None else "owner_id = %(owner_id)s"
    params = {"owner_id": owner_id, "since": since, "bucket": BUCKET, "most": MOST_ORDERS}
    return ACTIVITY.format(owner=owner), params


def bucket_of(moment: datetime) -> datetime:
    """When its bucket begins."""
    return moment - (moment - datetime.fromtimestamp(0, UTC)) % BUCKET


def shown(row: dict[str, Any]) -> dict[str, Any]:
    p50, p95 = (took and took // timedelta(milliseconds=1) for took in row["took"] or (None, None))
    return {
        "at": iso(row["at"]),
        **{outcome.value: row[outcome.value] for outcome in TERMINAL},
        "p50Ms": p50,
        "p95Ms": p95,
    }
