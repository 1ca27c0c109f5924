"""Meteora: a DAMM v2 pool by default; `DEX_METEORA_CURVE` switches to DLMM."""

from dex.instructions import SwapLayout, anchor_discriminator
from dex.pools import constant_product, dlmm
from dex.simulation.program import Program
from dex.simulation.venue import SimulatedVenue


class Meteora(SimulatedVenue):
    name = "meteora"
    programs = (
        Program(
            venue=name,
            curve="damm_v2",
            program_id="cpamdpZCGKUy5JxQXB4dcpGPiikHawvSWAd6mEn1sGG",
            layout=SwapLayout(prefix=anchor_discriminator("swap")),
            pool=constant_product.damm_v2,
        ),
        Program(
            venue=name,
            curve="dlmm",
            program_id="LBUZKhRxPF3XUpBCjp4YzTKgLccjZhTSDM9YuVaPwxo",
            layout=SwapLayout(prefix=anchor_discriminator("swap")),
            pool=dlmm.pool,
        ),
    )
