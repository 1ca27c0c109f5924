"""Everything the simulated venues have in common."""

from abc import ABC
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from dex.errors import VenueUnavailable
from dex.instructions import SwapInstruction, SwapLayout
from dex.simulation.chain import SimulatedChain
from dex.simulation.faults import Fault, Faults
from dex.simulation.market import Market
from dex.simulation.pools import quote_at
from dex.simulation.program import Program
from dex.types import Leg, Quote, Swap, SwapRequest, SwapState, route_name
from dex.venues.base import Venue


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulation:
    """What the simulated venues share.

    `programs` by venue name: what its pools are at present. `sleep` takes seconds.
    """

    seed: str
    market: Market
    chain: SimulatedChain
    programs: Mapping[str, Program]
    faults: Faults
    quote_latency_ms: int
    sleep: Callable[[float], Awaitable[None]]


class SimulatedVenue(Venue, ABC):
    """A venue that trades on the simulated market.

    A subclass states its name and its programs, the first of them the default.
    """

    programs: ClassVar[tuple[Program, ...]]
    status_pause = 0.02  # the chain is a table beside us

    async def quote(self, request: SwapRequest) -> Quote:
        simulation = self.tools.simulation
        if simulation.quote_latency_ms > 0:
            await simulation.sleep(simulation.quote_latency_ms / 1000)
        height = await simulation.chain.height()
        self._require_up(request, height)
        return quote_at(simulation.market, simulation.programs[self.name], request, height)

    async def build(self, request: SwapRequest, legs: tuple[Leg, ...]) -> Swap:
        return self.build_at_once(request, legs)

    def build_at_once(self, request: SwapRequest, legs: tuple[Leg, ...]) -> Swap:
        from dex.transactions import build_transaction  # noqa: PLC0415  where nothing is signed

        simulation = self.tools.simulation
        height = max(leg.quote.block_height for leg in legs)
        signature, transaction = build_transaction(
            signer=self.tools.signer,
            blockhash=simulation.chain.blockhash(height),
            swaps=tuple(self._instruction(request, leg) for leg in legs),
            order_id=request.order_id,
            attempt=request.attempt,
        )
        return Swap(
            request=request,
            venue=route_name(leg.venue for leg in legs),
            signature=signature,
            transaction=transaction,
            last_valid_block_height=simulation.chain.last_valid_height(height),
        )

    async def send(self, swap: Swap, *, before: datetime | None) -> SwapState:
        return await self.tools.simulation.chain.send(swap.transaction, before=before)

    async def status(self, swap: Swap) -> SwapState:
        [answer] = await self.statuses([swap])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def statuses(self, swaps: Sequence[Swap]) -> Sequence[SwapState | Exception]:
        return await self.tools.simulation.chain.statuses(swaps)

    def _instruction(self, request: SwapRequest, leg: Leg) -> tuple[SwapInstruction, SwapLayout]:
        program = self.tools.simulation.programs[leg.venue]
        instruction = SwapInstruction(
            program_id=program.program_id,
            mint_in=request.token_in.mint,
            mint_out=request.token_out.mint,
            amount_in=leg.quote.amount_in,
            min_amount_out=leg.quote.min_amount_out,
        )
        return instruction, program.layout

    def _require_up(self, request: SwapRequest, height: int) -> None:
        """A bare quote belongs to no order, so its fault is drawn per block."""
        if self.tools.simulation.faults.hits(
            Fault.QUOTE_UNAVAILABLE,
            seed=self.tools.simulation.seed,
            venue=self.name,
            order_id=request.order_id or f"block {height}",
            attempt=request.attempt,
        ):
            raise VenueUnavailable("QUOTE_UNAVAILABLE", f"{self.name} gave no answer")
