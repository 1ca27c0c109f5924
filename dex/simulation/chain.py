"""The simulated chain: a ledger in PostgreSQL that lands what it is sent, by its own clock."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from dex.errors import DexError, OrderRejected, VenueUnavailable
from dex.grouping import Grouped
from dex.instructions import DecodedTransaction
from dex.simulation.blocks import BLOCK_MS, blockhash, height_of
from dex.simulation.database import Database
from dex.simulation.settlement import EXPIRED, Settlement
from dex.simulation.statements import ASK, BURY, RECORD
from dex.types import Fill, Swap, SwapState, SwapStatus

SCHEMA_SQL = Path(__file__).with_name("chain.sql")
MIN_VALIDITY_BLOCKS = 30
# What was not recorded, and why, by the code that RECORD answers.
TOO_LATE = {
    "TX_EXPIRED": "blockhash not found",
    "DEADLINE_EXCEEDED": "not sent: the deadline had passed",
}

_EXPIRED = {"expired_code": EXPIRED.error_code, "expired_error": EXPIRED.error}


class SimulatedChain:
    """Takes signed transactions and answers what became of them.

    Writes `chain.transaction` on its own autocommit connections, opened at the first use; time is
    the database's clock alone. A transaction is settled from `settles_at` on whether or not
    anybody asks. Every coroutine raises VenueUnavailable where PostgreSQL does not answer.
    """

    def __init__(
        self,
        *,
        dsn: str,
        rules: Settlement,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._rules = rules
        self._seed = rules.seed
        self._database = Database(dsn, monotonic_ns=monotonic_ns)
        self._sends = Grouped(self._record)
        self._validity = max(MIN_VALIDITY_BLOCKS, -(-2 * rules.latency_ms[1] // BLOCK_MS))

    async def height(self) -> int:
        return await self._database.height()

    def blockhash(self, height: int) -> bytes:
        return blockhash(self._seed, height)

    def last_valid_height(self, height: int) -> int:
        """Last block that takes a transaction with the blockhash of block `height`."""
        return height + self._validity

    async def send(self, raw: bytes, *, before: datetime | None) -> SwapState:
        """Record a signed transaction, if `before` has not come; the same again changes nothing.

        Those that are sent while others are recorded are recorded together. Answers what became of
        it at once; unknown where it was recorded before.

        Raises OrderRejected(TX_REJECTED) for bytes the chain would never take, and
        VenueUnavailable when it is too late, by `before` (DEADLINE_EXCEEDED) or by its blockhash
        (TX_EXPIRED): it may have been recorded earlier, status() tells.
        """
        return await self._sends((raw, before))

    async def _record(
        self, sent: Sequence[tuple[bytes, datetime | None]]
    ) -> list[SwapState | DexError]:
        read = [self._read(raw) for raw, _ in sent]
        rows = [
            {**self._row(*one), "before": before and before.isoformat()}
            for one, (_, before) in zip(read, sent, strict=True)
            if not isinstance(one, DexError)
        ]
        found = await self._database.send(RECORD, {"sent": Jsonb(rows), **_EXPIRED})
        answers = {signature: answer for signature, *answer in found}
        return [
            one if isinstance(one, DexError) else self._reply(one[0], *answers[one[0].signature])
            for one in read
        ]

    async def statuses(self, swaps: Sequence[Swap]) -> list[SwapState | DexError]:
        """What became of each, and for good once it is landed, failed or expired.

        A signature that is unknown after its last valid block is recorded as expired, so that a
        send still on its way cannot land any more. Where this release cannot read its bytes it is
        answered with OrderRejected(TX_REJECTED), and stays unknown.
        """
        return [
            await self._bury(swap)
            if row[1] is None and row[0] > swap.last_valid_block_height
            else _state_of(row[1:])
            for swap, row in zip(swaps, await self._ask(swaps), strict=True)
        ]

    def close(self) -> None:
        self._database.close()

    async def _ask(self, swaps: Sequence[Swap]) -> list[tuple[Any, ...]]:
        return await self._database.ask(ASK, {"signatures": [swap.signature for swap in swaps]})

    async def _bury(self, swap: Swap) -> SwapState | DexError:
        try:
            transaction = self._decoded(swap.transaction)
        except OrderRejected as refused:
            return refused
        await self._database.ask(BURY, {**self._identity(transaction), **_EXPIRED})
        return _state_of((await self._ask([swap]))[0][1:])

    def _read(self, raw: bytes) -> tuple[DecodedTransaction, int] | OrderRejected:
        """The transaction and the height of its blockhash."""
        try:
            transaction = self._decoded(raw)
        except OrderRejected as refused:
            return refused
        height = height_of(self._seed, transaction.blockhash)
        if height is None:
            return OrderRejected("TX_REJECTED", "the blockhash is not of this chain")
        return transaction, height

    def _decoded(self, raw: bytes) -> DecodedTransaction:
        from dex.decoding import decode_transaction  # noqa: PLC0415  where nothing is sent

        return decode_transaction(raw, self._rules.layouts)

    def _row(self, transaction: DecodedTransaction, height: int) -> dict[str, object]:
        outcome = self._rules.outcome_of(transaction, height)
        return {
            **self._identity(transaction),
            "first_height": height,
            "last_height": self.last_valid_height(height),
            "latency_ms": self._rules.latency_of(transaction),
            "outcome": outcome.status.value,
            "amount_out": outcome.amount_out,
            "error_code": outcome.error_code,
            "error": outcome.error,
        }

    def _reply(
        self, transaction: DecodedTransaction, refusal: str, *state: Any
    ) -> SwapState | VenueUnavailable:
        if refusal == "TX_EXPIRED":
            self._database.forget_clock()  # it may have been set forward
        if refusal:
            return VenueUnavailable(refusal, TOO_LATE[refusal])
        if self._rules.loses_reply(transaction):
            return VenueUnavailable("QUOTE_UNAVAILABLE", "the answer to the transaction was lost")
        return _state_of(state)

    def _identity(self, transaction: DecodedTransaction) -> dict[str, object]:
        return {
            "signature": transaction.signature,
            "order_id": transaction.order_id,
            "attempt": transaction.attempt,
            "venue": self._rules.venue_of(transaction),
            "amount_in": transaction.amount_in,
        }


def _state_of(row: Sequence[Any]) -> SwapState:
    status, amount_in, amount_out, error_code, error = row
    match status:
        case None:
            return SwapState(status=SwapStatus.UNKNOWN)
        case "pending":
            return SwapState(status=SwapStatus.PENDING)
        case "landed":
            fill = Fill(amount_in=int(amount_in), amount_out=int(amount_out))
            return SwapState(status=SwapStatus.LANDED, fill=fill)
        case _:
            return SwapState(status=SwapStatus(status), error_code=error_code, error=error)
