"""The one object orders are executed with."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dex.router import Router
from dex.signer import Signer
from dex.simulation.chain import SimulatedChain
from dex.simulation.faults import Faults
from dex.simulation.market import Market
from dex.simulation.venue import Simulation
from dex.types import Route, Swap, SwapRequest, SwapState
from dex.venues.base import Venue
from dex.venues.registry import VENUES


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationConfig:
    """Milliseconds throughout; `swap_latency_ms` is the least and the most.

    ValueError for a latency that is none and for a fault of a venue that is not there.
    """

    dsn: str
    seed: str
    quote_latency_ms: int
    swap_latency_ms: tuple[int, int]
    faults: Faults
    quote_timeout_ms: int

    def __post_init__(self) -> None:
        low, high = self.swap_latency_ms
        if self.quote_latency_ms < 0 or not 0 <= low <= high:
            raise ValueError("latencies are not negative, and a range has its least first")
        if self.quote_timeout_ms <= 0:
            raise ValueError("the quote timeout must be more than 0 ms")
        if unknown := self.faults.venues - VENUES.keys():
            raise ValueError(f"no such venue in the faults: {', '.join(sorted(unknown))}")


class Exchange:
    """Quotes, builds, sends and looks up; keeps nothing of an order between two calls."""

    def __init__(
        self,
        venues: Mapping[str, Venue],
        *,
        quote_timeout_ms: int,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._venues = venues
        self._router = Router(venues, timeout_ms=quote_timeout_ms)
        self._on_close = on_close

    def route(self, request: SwapRequest) -> Route:
        """Raises VenueUnavailable, or OrderRejected (INSUFFICIENT_LIQUIDITY, NO_ROUTE)."""
        return self._router.route(request)

    def build(self, route: Route) -> Swap:
        """The signed transaction of the route, not sent. Raises VenueUnavailable."""
        return self._venues[route.legs[0].venue].build(route.request, route.legs)

    def send(self, swap: Swap) -> None:
        """Harmless to repeat. Raises VenueUnavailable when the outcome is not known, and
        OrderRejected(TX_REJECTED) for bytes no chain would take.
        """
        self._venues[swap.venue].send(swap)

    def status(self, swap: Swap) -> SwapState:
        """Raises VenueUnavailable."""
        return self._venues[swap.venue].status(swap)

    def close(self) -> None:
        """Let go of threads and connections."""
        self._router.close()
        self._on_close()


def open_exchange(
    config: SimulationConfig, *, sleep: Callable[[float], None] = time.sleep
) -> Exchange:
    """The simulated exchange. Connections, threads and the key come with the first use."""
    market = Market(config.seed, tuple(VENUES))
    programs = {name: venue.program for name, venue in VENUES.items()}
    chain = SimulatedChain(
        dsn=config.dsn,
        seed=config.seed,
        market=market,
        programs=programs.values(),
        latency_ms=config.swap_latency_ms,
        faults=config.faults,
    )
    simulation = Simulation(
        seed=config.seed,
        market=market,
        chain=chain,
        programs=programs,
        signer=Signer(),
        faults=config.faults,
        quote_latency_ms=config.quote_latency_ms,
        sleep=sleep,
    )
    return Exchange(
        {name: venue(simulation) for name, venue in VENUES.items()},
        quote_timeout_ms=config.quote_timeout_ms,
        on_close=chain.close,
    )
