"""The venues orders are routed to. A new one is a file beside this one and a line here."""

from solders.pubkey import Pubkey

from dex.simulation.program import Program
from dex.simulation.venue import SimulatedVenue
from dex.venues.base import Venue
from dex.venues.meteora import Meteora
from dex.venues.raydium import Raydium

VENUES: dict[str, type[Venue]] = {
    Raydium.name: Raydium,
    Meteora.name: Meteora,
}
SIMULATED: dict[str, type[SimulatedVenue]] = {
    name: venue for name, venue in VENUES.items() if issubclass(venue, SimulatedVenue)
}


def label_of(program_id: Pubkey) -> str:
    """The venue and the kind of pool of a program: "raydium clmm"."""
    return next(
        f"{program.venue} {program.curve}"
        for venue in SIMULATED.values()
        for program in venue.programs
        if program.program_id == program_id
    )


def program_of(venue: str, curve: str) -> Program:
    """ValueError naming the curves there are."""
    programs = {program.curve: program for program in SIMULATED[venue].programs}
    if curve not in programs:
        raise ValueError(f"{venue} has no curve {curve!r}, only {', '.join(programs)}")
    return programs[curve]
