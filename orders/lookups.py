"""Orders by their ids: those that coroutines ask for at the same moment are read together.

Every lookup names the owner: somebody else's order does not exist.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from dex.grouping import Grouped
from orders import database
from orders.once import once_per_loop
from orders.problems import DATABASE_AWAY
from orders.queries import STEPS, Found

ORDER_ID = re.compile(r"ord_\d{13}_[a-z0-9]{10}", re.ASCII)
# LIMIT: planned in an empty database, a join would read all orders there are.
ORDERS = f"""
SELECT wanted.place, o.*, {STEPS}
FROM unnest(%(ids)s::text[], %(owners)s::int[]) WITH ORDINALITY AS wanted(id, owner, place)
CROSS JOIN LATERAL (
    SELECT * FROM orders_order
    WHERE id = wanted.id AND owner_id IS NOT DISTINCT FROM wanted.owner LIMIT 1) o
"""


class Wanted(NamedTuple):
    order_id: str
    owner_id: int | None


async def order(order_id: str, owner_id: int | None) -> Found | None:
    """As one moment has it. Raises psycopg.OperationalError."""
    if not ORDER_ID.fullmatch(order_id):
        return None
    return await _read_together()(Wanted(order_id, owner_id))


async def read(wanted: Sequence[Wanted]) -> list[Found | None]:
    found: list[Found | None] = [None] * len(wanted)
    ids, owners = [one.order_id for one in wanted], [one.owner_id for one in wanted]
    for row in await _session().rows(ORDERS, {"ids": ids, "owners": owners}):
        found[row["place"] - 1] = Found.of_row(row)
    return found


_session = once_per_loop(database.new_session)
_read_together = once_per_loop(lambda: Grouped(read, DATABASE_AWAY))
