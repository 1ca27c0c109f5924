"""What becomes of a transaction, decided from its bytes alone when it is sent."""

from collections.abc import Mapping
from dataclasses import dataclass

from dex import tokens
from dex.errors import DexError, OrderRejected, SlippageExceeded
from dex.instructions import DecodedTransaction, SwapInstruction, SwapLayout
from dex.pricing import undrained
from dex.simulation.draws import draw_between
from dex.simulation.faults import Fault, Faults
from dex.simulation.market import Market
from dex.simulation.pools import pool_at
from dex.simulation.program import Program
from dex.types import SwapStatus, Token, route_name

# Off 0.5 % by one part in a million of the output, so that rounding stays within it.
DRIFT = 4_999_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """`status` is landed, failed or expired; `amount_out` is set when landed."""

    status: SwapStatus
    amount_out: int | None = None
    error_code: str = ""
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settlement:
    """The rules of the chain: the programs it runs, its market, faults and latency.

    `latency_ms` is the least and the most from sending to landing.
    """

    seed: str
    market: Market
    programs: Mapping[str, Program]
    latency_ms: tuple[int, int]
    faults: Faults

    @property
    def layouts(self) -> dict[str, SwapLayout]:
        return {program_id: program.layout for program_id, program in self.programs.items()}

    def venue_of(self, transaction: DecodedTransaction) -> str:
        return route_name(self.programs[swap.program_id].venue for swap in transaction.swaps)

    def latency_of(self, transaction: DecodedTransaction) -> int:
        """Milliseconds from sending to settling."""
        return draw_between(*self.latency_ms, self.seed, "latency", transaction.signature)

    def loses_reply(self, transaction: DecodedTransaction) -> bool:
        return self._hits(Fault.REPLY_LOST, transaction)

    def outcome_of(self, transaction: DecodedTransaction, height: int) -> Outcome:
        """All legs or none, on the pools of block `height`, drifted by at most ±0.5 %."""
        if self._hits(Fault.DROPPED, transaction):
            return EXPIRED
        if self._hits(Fault.REJECTED, transaction):
            return _failed(OrderRejected("TX_REJECTED", "refused by the program"))
        try:
            amount_out = sum(
                self._fill(transaction.signature, leg, swap, height)
                for leg, swap in enumerate(transaction.swaps)
            )
        except DexError as error:
            return _failed(error)
        return Outcome(status=SwapStatus.LANDED, amount_out=amount_out)

    def _fill(self, signature: str, leg: int, swap: SwapInstruction, height: int) -> int:
        program = self.programs[swap.program_id]
        token_out = _token(swap.mint_out)
        pool = pool_at(self.market, program, _token(swap.mint_in), token_out, height)
        drift = draw_between(-DRIFT, DRIFT, self.seed, "drift", signature, leg)
        amount_out = undrained(pool.drifted(drift), swap.amount_in, program.venue).amount_out
        minimum = max(1, swap.min_amount_out)  # it was quoted: nothing means that the price moved
        if amount_out < minimum:
            got, wanted = (tokens.format_amount(token_out, n) for n in (amount_out, minimum))
            raise SlippageExceeded(
                "SLIPPAGE_EXCEEDED",
                f"{program.venue} would return {got} {token_out.symbol}, {wanted} are the minimum",
            )
        return amount_out

    def _hits(self, fault: Fault, transaction: DecodedTransaction) -> bool:
        return any(
            self.faults.hits(
                fault,
                seed=self.seed,
                venue=self.programs[swap.program_id].venue,
                order_id=transaction.order_id,
                attempt=transaction.attempt,
            )
            for swap in transaction.swaps
        )


EXPIRED = Outcome(
    status=SwapStatus.EXPIRED,
    error_code="TX_EXPIRED",
    error="the blockhash expired before the transaction landed",
)


def _token(mint: str) -> Token:
    token = tokens.find(mint)
    if token is None:
        raise OrderRejected("NO_ROUTE", f"there is no pool of {mint}")
    return token


def _failed(error: DexError) -> Outcome:
    return Outcome(status=SwapStatus.FAILED, error_code=error.code, error=error.detail)
