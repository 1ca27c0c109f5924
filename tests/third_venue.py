"""A pytest plugin: with `-p tests.third_venue` the registry has one venue more than the product.

It is read before all that makes lists of the venues there are.
"""

from dex.instructions import SwapLayout, anchor_discriminator
from dex.pools import constant_product
from dex.simulation.program import Program
from dex.simulation.venue import SimulatedVenue
from dex.venues import registry


class OrcaWhirlpool(SimulatedVenue):
    name = "orca_whirlpool"
    programs = (
        Program(
            venue=name,
            curve="whirlpool",
            program_id="whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc",
            layout=SwapLayout(prefix=anchor_discriminator("swap")),
            pool=constant_product.cpmm,
        ),
    )


registry.VENUES.update(registry.by_name(OrcaWhirlpool))
registry.SIMULATED.update(registry.simulated(registry.VENUES))
