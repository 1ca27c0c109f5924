"""A venue's program on the simulated chain: what a venue states of itself."""

from collections.abc import Callable
from dataclasses import dataclass

from solders.pubkey import Pubkey

from dex.pricing import CurveSwap
from dex.simulation.market import PoolState


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """`swap` is the exact-in curve; it raises ValueError for an amount the curve refuses."""

    venue: str
    program_id: Pubkey
    discriminator: bytes
    swap: Callable[[PoolState, int], CurveSwap]
