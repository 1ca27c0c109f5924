"""Meteora: a DAMM v2 pool by default; `DEX_METEORA_CURVE` switches to DLMM."""

from solders.pubkey import Pubkey

from dex.pools import constant_product, dlmm
from dex.simulation.program import Program
from dex.simulation.venue import SimulatedVenue
from dex.transactions import SwapLayout, anchor_discriminator


class Meteora(SimulatedVenue):
    name = "meteora"
    programs = (
        Program(
            venue=name,
            curve="damm_v2",
            program_id=Pubkey.from_string("cpamdpZCGKUy5JxQXB4dcpGPiikHawvSWAd6mEn1sGG"),
            layout=SwapLayout(prefix=anchor_discriminator("swap")),
            pool=constant_product.damm_v2,
        ),
        Program(
            venue=name,
            curve="dlmm",
            program_id=Pubkey.from_string("LBUZKhRxPF3XUpBCjp4YzTKgLccjZhTSDM9YuVaPwxo"),
            layout=SwapLayout(prefix=anchor_discriminator("swap")),
            pool=dlmm.pool,
        ),
    )
