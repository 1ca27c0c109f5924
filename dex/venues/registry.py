"""The venues orders are routed to. A new one is a file beside this one and a line here."""

from dex.simulation.venue import SimulatedVenue
from dex.venues.meteora import Meteora
from dex.venues.raydium import Raydium

VENUES: dict[str, type[SimulatedVenue]] = {
    Raydium.name: Raydium,
    Meteora.name: Meteora,
}
