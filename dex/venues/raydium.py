"""Raydium: a CPMM pool at 0.3 %, the fee on the input."""

from solders.pubkey import Pubkey

from dex.curves import raydium_cpmm
from dex.pricing import CurveSwap
from dex.simulation.market import PoolState
from dex.simulation.program import Program
from dex.simulation.venue import SimulatedVenue
from dex.transactions import anchor_discriminator

TRADE_FEE_RATE = 3_000  # of 1,000,000


def swap(pool: PoolState, amount_in: int) -> CurveSwap:
    """ValueError for an amount outside 1 … 2^64 - 1."""
    answer = raydium_cpmm.exact_in(
        reserve_in=pool.reserve_in,
        reserve_out=pool.reserve_out,
        amount_in=amount_in,
        trade_fee_rate=TRADE_FEE_RATE,
    )
    return CurveSwap(
        amount_in=amount_in,
        net_in=amount_in - answer["trade_fee"],
        gross_out=answer["amount_out"],
        amount_out=answer["amount_out"],
        fee=answer["trade_fee"],
        fee_on_input=True,
    )


class Raydium(SimulatedVenue):
    name = "raydium"
    program = Program(
        venue=name,
        program_id=Pubkey.from_string("CPMMoo8L3F4NbTegBCKVNunggL7H1ZpdTHKxQB5qKP1C"),
        discriminator=anchor_discriminator("swap_base_input"),
        swap=swap,
    )
