"""A venue's program on the simulated chain: what a venue states of itself."""

from dataclasses import dataclass

from solders.pubkey import Pubkey

from dex.pools.base import MakePool
from dex.transactions import SwapLayout


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """One kind of pool of a venue: the program that runs it, and its mathematics."""

    venue: str
    curve: str
    program_id: Pubkey
    layout: SwapLayout
    pool: MakePool
