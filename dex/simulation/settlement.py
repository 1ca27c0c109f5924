"""What becomes of a transaction, decided from its bytes alone when it is sent."""

from collections.abc import Mapping
from dataclasses import dataclass

from solders.pubkey import Pubkey

from dex import tokens
from dex.errors import DexError, OrderRejected, SlippageExceeded
from dex.pricing import CurveSwap
from dex.simulation.draws import draw_between
from dex.simulation.faults import Fault, Faults
from dex.simulation.market import PARTS, Market, PoolState
from dex.simulation.program import Program
from dex.transactions import DecodedTransaction, SwapInstruction
from dex.types import SwapStatus

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
    """The rules of the chain: the programs it runs, its market, latency and faults."""

    seed: str
    market: Market
    programs: Mapping[Pubkey, Program]
    latency_ms: tuple[int, int]
    faults: Faults

    def venue_of(self, transaction: DecodedTransaction) -> str:
        """Names of the venues, joined by "+". Raises OrderRejected(TX_REJECTED)."""
        return "+".join(self._program(swap).venue for swap in transaction.swaps)

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
        program = self._program(swap)
        pool = pool_of(self.market, program.venue, swap, height)
        drift = draw_between(-DRIFT, DRIFT, self.seed, "drift", signature, leg)
        drifted = PoolState(
            reserve_in=pool.reserve_in,
            reserve_out=pool.reserve_out * (PARTS + drift) // PARTS,
            a_to_b=pool.a_to_b,
        )
        amount_out = swap_on(program, drifted, swap.amount_in).amount_out
        if amount_out < swap.min_amount_out:
            raise SlippageExceeded(
                "SLIPPAGE_EXCEEDED", f"{amount_out} is below the minimum {swap.min_amount_out}"
            )
        return amount_out

    def _program(self, swap: SwapInstruction) -> Program:
        program = self.programs.get(swap.program_id)
        if program is None or program.discriminator != swap.discriminator:
            raise OrderRejected("TX_REJECTED", f"no such instruction of {swap.program_id}")
        return program

    def _hits(self, fault: Fault, transaction: DecodedTransaction) -> bool:
        return any(
            self.faults.hits(
                fault,
                seed=self.seed,
                venue=self._program(swap).venue,
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


def pool_of(market: Market, venue: str, swap: SwapInstruction, height: int) -> PoolState:
    """Raises OrderRejected(NO_ROUTE) for tokens the venue has no pool of."""
    token_in, token_out = tokens.find(str(swap.mint_in)), tokens.find(str(swap.mint_out))
    pool = None
    if token_in is not None and token_out is not None:
        pool = market.pool(venue=venue, token_in=token_in, token_out=token_out, height=height)
    if pool is None:
        raise OrderRejected("NO_ROUTE", f"{venue} has no pool of {swap.mint_in}/{swap.mint_out}")
    return pool


def swap_on(program: Program, pool: PoolState, amount_in: int) -> CurveSwap:
    """Raises OrderRejected(INSUFFICIENT_LIQUIDITY): nothing comes out, or nearly all would."""
    try:
        swap = program.swap(pool, amount_in)
    except ValueError as error:
        raise OrderRejected("INSUFFICIENT_LIQUIDITY", f"{program.venue}: {error}") from error
    if swap.amount_out < 1:
        raise OrderRejected("INSUFFICIENT_LIQUIDITY", f"{program.venue}: too little to swap")
    if swap.gross_out * 100 > pool.reserve_out * 99:
        raise OrderRejected("INSUFFICIENT_LIQUIDITY", f"{program.venue}: the pool would be drained")
    return swap


def _failed(error: DexError) -> Outcome:
    return Outcome(status=SwapStatus.FAILED, error_code=error.code, error=error.detail)
