"""A venue's program on the simulated chain: what a venue states of itself."""

from dataclasses import dataclass

from dex.instructions import SwapLayout
from dex.pools.base import MakePool


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """One kind of pool of a venue: the program that runs it, and its mathematics."""

    venue: str
    curve: str
    program_id: str
    layout: SwapLayout
    pool: MakePool
