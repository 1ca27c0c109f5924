"""Meteora: a DAMM v2 pool in compounding mode at 0.2 %, the fee always in token B."""

from solders.pubkey import Pubkey

from dex.curves import damm_v2_pool, meteora_damm_v2
from dex.pricing import CurveSwap
from dex.simulation.market import PoolState
from dex.simulation.program import Program
from dex.simulation.venue import SimulatedVenue
from dex.transactions import anchor_discriminator

FEE_NUMERATOR = 2_000_000  # of 1,000,000,000


def swap(pool: PoolState, amount_in: int) -> CurveSwap:
    """ValueError for an amount outside 1 … 2^64 - 1."""
    sides = (pool.reserve_in, pool.reserve_out)
    reserve_a, reserve_b = sides if pool.a_to_b else sides[::-1]
    answer = meteora_damm_v2.exact_in(
        collect_fee_mode=damm_v2_pool.COMPOUNDING,
        base_fee_numerator=FEE_NUMERATOR,
        compounding_fee_bps=10_000,
        reserve_a=reserve_a,
        reserve_b=reserve_b,
        a_to_b=pool.a_to_b,
        amount_in=amount_in,
    )
    fee = answer["claiming_fee"] + answer["compounding_fee"]
    return CurveSwap(
        amount_in=amount_in,
        net_in=answer["net_in"],
        gross_out=answer["amount_out"] + (fee if pool.a_to_b else 0),
        amount_out=answer["amount_out"],
        fee=fee,
        fee_on_input=not pool.a_to_b,
    )


class Meteora(SimulatedVenue):
    name = "meteora"
    program = Program(
        venue=name,
        program_id=Pubkey.from_string("cpamdpZCGKUy5JxQXB4dcpGPiikHawvSWAd6mEn1sGG"),
        discriminator=anchor_discriminator("swap"),
        swap=swap,
    )
