"""Everything the simulated venues have in common."""

from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from solders.pubkey import Pubkey

from dex import pricing
from dex.errors import OrderRejected, VenueUnavailable
from dex.signer import Signer
from dex.simulation.chain import SimulatedChain
from dex.simulation.faults import Fault, Faults
from dex.simulation.market import Market
from dex.simulation.program import Program
from dex.simulation.settlement import swap_on
from dex.transactions import SwapInstruction, build_transaction
from dex.types import Leg, Quote, Swap, SwapRequest, SwapState
from dex.venues.base import Venue


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulation:
    """What the simulated venues share. `programs` by venue name; `sleep` takes seconds."""

    seed: str
    market: Market
    chain: SimulatedChain
    programs: Mapping[str, Program]
    signer: Signer
    faults: Faults
    quote_latency_ms: int
    sleep: Callable[[float], None]


class SimulatedVenue(Venue, ABC):
    """A venue that trades on the simulated market; a subclass states its name and program."""

    program: ClassVar[Program]

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def quote(self, request: SwapRequest) -> Quote:
        simulation = self._simulation
        if simulation.quote_latency_ms > 0:
            simulation.sleep(simulation.quote_latency_ms / 1000)
        height = simulation.chain.height()
        self._require_up(request, height)
        token_in, token_out = request.token_in, request.token_out
        pool = simulation.market.pool(
            venue=self.name, token_in=token_in, token_out=token_out, height=height
        )
        if pool is None:
            raise OrderRejected(
                "NO_ROUTE", f"{self.name} has no pool of {token_in.symbol}/{token_out.symbol}"
            )
        swap = swap_on(self.program, pool, request.amount_in)
        return Quote(
            venue=self.name,
            amount_in=swap.amount_in,
            amount_out=swap.amount_out,
            min_amount_out=pricing.min_amount_out(swap.amount_out, request.slippage_bps),
            fee=swap.fee,
            fee_token=token_in if swap.fee_on_input else token_out,
            mid_price=pricing.mid_price(pool.reserve_in, pool.reserve_out, token_in, token_out),
            effective_price=pricing.effective_price(
                swap.amount_in, swap.amount_out, token_in, token_out
            ),
            price_impact=pricing.price_impact(swap, pool.reserve_in, pool.reserve_out),
            block_height=height,
        )

    def build(self, request: SwapRequest, legs: tuple[Leg, ...]) -> Swap:
        simulation = self._simulation
        height = max(leg.quote.block_height for leg in legs)
        signature, transaction = build_transaction(
            signer=simulation.signer,
            blockhash=simulation.chain.blockhash(height),
            swaps=tuple(self._instruction(request, leg) for leg in legs),
            order_id=request.order_id,
            attempt=request.attempt,
        )
        return Swap(
            venue=self.name,
            signature=signature,
            transaction=transaction,
            last_valid_block_height=simulation.chain.last_valid_height(height),
        )

    def send(self, swap: Swap) -> None:
        self._simulation.chain.send(swap.transaction)

    def status(self, swap: Swap) -> SwapState:
        return self._simulation.chain.status(swap)

    def _instruction(self, request: SwapRequest, leg: Leg) -> SwapInstruction:
        program = self._simulation.programs[leg.venue]
        return SwapInstruction(
            program_id=program.program_id,
            discriminator=program.discriminator,
            mint_in=Pubkey.from_string(request.token_in.mint),
            mint_out=Pubkey.from_string(request.token_out.mint),
            amount_in=leg.quote.amount_in,
            min_amount_out=leg.quote.min_amount_out,
        )

    def _require_up(self, request: SwapRequest, height: int) -> None:
        """A bare quote belongs to no order, so its fault is drawn per block."""
        if self._simulation.faults.hits(
            Fault.QUOTE_UNAVAILABLE,
            seed=self._simulation.seed,
            venue=self.name,
            order_id=request.order_id or f"block {height}",
            attempt=request.attempt,
        ):
            raise VenueUnavailable("QUOTE_UNAVAILABLE", f"{self.name} gave no answer")
