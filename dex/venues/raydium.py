"""Raydium: a CPMM pool by default; `DEX_RAYDIUM_CURVE` switches to CLMM or AMM v4."""

from dex.instructions import SwapLayout, anchor_discriminator
from dex.pools import clmm, constant_product
from dex.simulation.program import Program
from dex.simulation.venue import SimulatedVenue

NO_PRICE_LIMIT, BASE_INPUT = bytes(16), b"\x01"


class Raydium(SimulatedVenue):
    name = "raydium"
    programs = (
        Program(
            venue=name,
            curve="cpmm",
            program_id="CPMMoo8L3F4NbTegBCKVNunggL7H1ZpdTHKxQB5qKP1C",
            layout=SwapLayout(prefix=anchor_discriminator("swap_base_input")),
            pool=constant_product.cpmm,
        ),
        Program(
            venue=name,
            curve="clmm",
            program_id="CAMMCzo5YL8w4VFF8KVHrK22GGUsp5VTaW7grrKgrWqK",
            layout=SwapLayout(
                prefix=anchor_discriminator("swap_v2"), suffix=NO_PRICE_LIMIT + BASE_INPUT
            ),
            pool=clmm.pool,
        ),
        Program(
            venue=name,
            curve="amm_v4",
            program_id="675kPX9MHTjS2zt1qfr1NYHuzeLXfQM9H24wFSUt1Mp8",
            layout=SwapLayout(prefix=b"\x09"),
            pool=constant_product.amm_v4,
        ),
    )
