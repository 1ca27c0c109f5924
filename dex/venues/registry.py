"""The venues orders are routed to. A new one is a file beside this one and a name here."""

import re
from itertools import permutations

from dex.simulation.program import Program
from dex.simulation.venue import SimulatedVenue
from dex.types import route_name
from dex.venues.base import Venue
from dex.venues.meteora import Meteora
from dex.venues.raydium import Raydium

# Two of them and a "+" are at most 47 of the 48 characters that a row has. No other characters
# are read from DEX_FAULTS and the name of DEX_<VENUE>_CURVE.
NAME = re.compile(r"[a-z][a-z0-9_]{0,22}", re.ASCII)
ANY_SPLIT = "split"  # in the filter of the lists; no venue has this name


def by_name(*venues: type[Venue]) -> dict[str, type[Venue]]:
    """Raises ValueError for a name that cannot be stored or asked for, or is another's."""
    found: dict[str, type[Venue]] = {}
    for venue in venues:
        if not NAME.fullmatch(venue.name) or venue.name == ANY_SPLIT:
            raise ValueError(
                f"{venue.__name__}.name is {venue.name!r}: 1 to 23 of the characters a-z 0-9 _ are "
                f"expected, a letter first, and not {ANY_SPLIT!r}"
            )
        if venue.name in found:
            raise ValueError(f"{venue.__name__}.name is {venue.name!r}, as another venue's")
        found[venue.name] = venue
    return found


def simulated(venues: dict[str, type[Venue]]) -> dict[str, type[SimulatedVenue]]:
    return {name: venue for name, venue in venues.items() if issubclass(venue, SimulatedVenue)}


VENUES = by_name(Raydium, Meteora)
SIMULATED = simulated(VENUES)


def route_names() -> list[str]:
    """All that a route may be called: each venue, and each split of two, in either order."""
    return [*VENUES, *map(route_name, permutations(VENUES, 2))]


def label_of(program_id: str) -> str:
    """The venue and the kind of pool of a program: "raydium clmm". ValueError for another's."""
    for venue in SIMULATED.values():
        for program in venue.programs:
            if program.program_id == program_id:
                return f"{program.venue} {program.curve}"
    raise ValueError(f"no simulated venue has a program {program_id}")


def program_of(venue: str, curve: str) -> Program:
    """ValueError naming the venues or the curves there are."""
    if venue not in SIMULATED:
        raise ValueError(f"there is no simulated venue {venue!r}, only {', '.join(SIMULATED)}")
    programs = {program.curve: program for program in SIMULATED[venue].programs}
    if curve not in programs:
        raise ValueError(f"{venue} has no curve {curve!r}, only {', '.join(programs)}")
    return programs[curve]
