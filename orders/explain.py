"""A route worked out again from its event, and a transaction read back from its bytes."""

from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings

from dex.errors import DexError
from dex.instructions import DecodedTransaction
from dex.replay import Asked, replay_outcome, replay_route
from dex.simulation.faults import Faults
from dex.types import QuoteFailure, Strategy
from dex.venues.registry import SIMULATED
from orders import database, render
from orders.execution import swap_request
from orders.models import Order

# Only the last route of an attempt was signed: after one that is abandoned unsigned comes another.
ROUTES = """
SELECT attempt, data, seq = max(seq) OVER (PARTITION BY attempt) AS last FROM orders_orderevent
WHERE order_id = %(id)s AND status = 'building' ORDER BY seq
"""
SWAP = """
SELECT signature, transaction FROM orders_swap
WHERE order_id = %(id)s AND attempt = %(attempt)s
"""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One route of an order. `differences` is empty where all of it came out the same again.

    `live` are the venues whose quotes, and transactions, cannot be worked out again. `stored` is
    the data of its `building` event; `transaction` is what the signed bytes say, and `filled` the
    base units that they return on the chain's pools, None where they return none.
    """

    attempt: int
    stored: dict[str, Any]
    transaction: DecodedTransaction | None
    filled: int | None
    differences: list[str]
    live: list[str]


def explain(order: Order) -> list[Explanation]:
    """Every route that was decided for the order, the oldest first."""
    return [_explain(order, row) for row in database.rows(ROUTES, {"id": order.id})]


def _explain(order: Order, row: dict[str, Any]) -> Explanation:
    stored = row["data"]
    live = [quote["venue"] for quote in stored["quotes"] if quote["venue"] not in SIMULATED]
    differences = [] if live else _route_again(order, row)
    transaction, filled = None, None
    swap = database.row(SWAP, {"id": order.id, "attempt": row["attempt"]})
    simulated = not any(leg["venue"] in live for leg in stored["legs"])
    if swap is not None and row["last"] and simulated:
        transaction, filled, found = _transaction_again(order, row, swap)
        differences += found
    return Explanation(
        attempt=row["attempt"],
        stored=stored,
        transaction=transaction,
        filled=filled,
        differences=differences,
        live=live,
    )


def _route_again(order: Order, row: dict[str, Any]) -> list[str]:
    stored = row["data"]
    try:
        again = replay_route(
            settings.DEX,
            swap_request(order),
            answers=map(_answer, stored["quotes"]),
            strategy=Strategy(stored["strategy"]),
        )
    except (DexError, ValueError) as error:
        return [f"the route cannot be worked out again: {error}"]
    return list(_differences("", stored, render.route_json(again)))


def _answer(stored: dict[str, Any]) -> Asked | QuoteFailure:
    """A venue whose pool is known is asked again; of any other the error is all there is."""
    if "blockHeight" not in stored:
        return QuoteFailure(venue=stored["venue"], **stored["error"])
    return Asked(venue=stored["venue"], curve=stored["curve"], block_height=stored["blockHeight"])


def _transaction_again(
    order: Order, row: dict[str, Any], swap: dict[str, Any]
) -> tuple[DecodedTransaction | None, int | None, list[str]]:
    """(what the bytes say, what they return, differences)"""
    try:
        landed = order.amount_out is not None and order.tx_hash == swap["signature"]
        # No fault has hit what has landed, whatever DEX_FAULTS says now.
        config = replace(settings.DEX, faults=Faults()) if landed else settings.DEX
        decoded, outcome = replay_outcome(config, bytes(swap["transaction"]))
    except DexError as error:
        return None, None, [str(error)]
    said = (decoded.signature, decoded.order_id, decoded.attempt, decoded.amount_in)
    wanted = (swap["signature"], order.id, row["attempt"], int(order.amount_in))
    found = [] if said == wanted else [f"transaction: stored for {wanted}, the bytes say {said}"]
    if outcome is None:
        return decoded, None, [*found, "transaction: its blockhash is of another seed"]
    if landed:
        found += _differences("fill", int(order.amount_out), outcome.amount_out)
    return decoded, outcome.amount_out, found


def _differences(place: str, stored: Any, again: Any) -> list[str]:
    """One sentence for each value that is not the same; what is only in `again` is new."""
    if isinstance(stored, dict) and isinstance(again, dict):
        return [
            difference
            for key, value in stored.items()
            for difference in _differences(f"{place}.{key}".lstrip("."), value, again.get(key))
        ]
    if isinstance(stored, list) and isinstance(again, list) and len(stored) == len(again):
        return [
            difference
            for index, (one, other) in enumerate(zip(stored, again, strict=True))
            for difference in _differences(f"{place}[{index}]", one, other)
        ]
    return [] if stored == again else [f"{place}: stored {stored}, now {again}"]
