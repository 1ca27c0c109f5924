"""The one object orders are executed with."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from dex.errors import VenueUnavailable
from dex.router import Router
from dex.signer import open_signer
from dex.simulation.chain import SimulatedChain
from dex.simulation.faults import Faults
from dex.simulation.market import Market
from dex.simulation.program import Program
from dex.simulation.settlement import Settlement
from dex.simulation.venue import Simulation
from dex.types import Route, Strategy, Swap, SwapRequest, SwapState
from dex.venues.base import Tools, Venue, answered, in_time
from dex.venues.registry import SIMULATED, VENUES, program_of
from dex.watch import Watch, Watcher


@dataclass(frozen=True, kw_only=True, slots=True)
class ExchangeConfig:
    """Milliseconds throughout; `swap_latency_ms` is the least and the most.

    `venues` are those that are asked, each with its quote timeout. A simulated venue left out of
    `curves` has its default. ValueError for a latency that is none, and for a venue or curve that
    is not there.
    """

    dsn: str = field(repr=False)  # may have a password
    seed: str
    quote_latency_ms: int
    swap_latency_ms: tuple[int, int]
    faults: Faults
    quote_timeouts_ms: Mapping[str, int]
    venues: tuple[str, ...] = tuple(SIMULATED)
    curves: Mapping[str, str] = field(default_factory=dict)
    strategy: Strategy = Strategy.AUTO
    keypair_file: Path | None = None

    def __post_init__(self) -> None:
        low, high = self.swap_latency_ms
        if self.quote_latency_ms < 0 or not 0 <= low <= high:
            raise ValueError("latencies are not negative, and a range has its least first")
        if missing := set(self.venues) - self.quote_timeouts_ms.keys():
            raise ValueError(f"no quote timeout for {', '.join(sorted(missing))}")
        if min(self.quote_timeouts_ms.values()) <= 0:
            raise ValueError("a quote timeout must be more than 0 ms")
        if unknown := {*self.venues, *self.faults.venues, *self.curves} - VENUES.keys():
            raise ValueError(f"no such venue: {', '.join(sorted(unknown))}")
        self.programs()

    def programs(self) -> dict[str, Program]:
        """What the pools of each simulated venue are."""
        return {
            name: program_of(name, self.curves.get(name, venue.programs[0].curve))
            for name, venue in SIMULATED.items()
        }


class Exchange:
    """Quotes, builds, sends and looks up; keeps nothing of an order between two calls.

    Its coroutines are awaited on one event loop.
    `venues` are all there are: one that is asked no longer may still have a swap in flight.
    """

    def __init__(
        self,
        venues: Mapping[str, Venue],
        router: Router,
        *,
        prepare: Callable[[], object] = lambda: None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._venues = venues
        self._router = router
        self._prepare = prepare
        self._on_close = on_close
        self._watchers = {
            venue.name: Watcher(venue.statuses, venue.status_pause) for venue in venues.values()
        }

    def prepare(self) -> None:
        """Load the key now, and not with the first order. Raises KeypairFileError."""
        self._prepare()

    async def route(self, request: SwapRequest) -> Route:
        """Raises VenueUnavailable, or OrderRejected (INSUFFICIENT_LIQUIDITY, NO_ROUTE)."""
        return await self._router.route(request)

    async def build(self, route: Route) -> Swap:
        """The signed transaction of the route, not sent.

        Raises VenueUnavailable, also for whatever a venue raises that is no DexError: the next
        attempts prefer the other venues.
        """
        venue = route.legs[0].venue
        try:
            return await answered(self._venues[venue].build(route.request, route.legs), venue)
        except VenueUnavailable:
            self._router.rest(venue)
            raise

    def build_at_once(self, route: Route) -> Swap | None:
        """What `build` would answer, where the venue has nothing to wait for; else None."""
        return self._venues[route.legs[0].venue].build_at_once(route.request, route.legs)

    async def send(self, swap: Swap, *, before: datetime | None) -> SwapState:
        """What is known of it already. Harmless to repeat. Raises VenueUnavailable when the outcome
        is not known or `before` has come, and OrderRejected(TX_REJECTED) for bytes no chain takes.
        """
        venue = self._venue_of(swap)
        return await in_time(venue.send(swap, before=before), venue.name)

    def watch(self, swap: Swap) -> Watch:
        """Wait for what becomes of it; all that wait for a venue are one question."""
        return self._watchers[self._venue_of(swap).name].watch(swap)

    def _venue_of(self, swap: Swap) -> Venue:
        """The one that has built it: that of the first leg."""
        return self._venues[swap.venue.partition("+")[0]]

    def close(self) -> None:
        """Let go of the connections."""
        self._on_close()


def open_exchange(
    config: ExchangeConfig, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> Exchange:
    """Connections and the key come with the first use."""
    chain = SimulatedChain(dsn=config.dsn, rules=open_rules(config))
    signer = open_signer(config.keypair_file)
    simulation = Simulation(
        seed=config.seed,
        market=open_market(config),
        chain=chain,
        programs=config.programs(),
        faults=config.faults,
        quote_latency_ms=config.quote_latency_ms,
        sleep=sleep,
    )
    tools = Tools(signer=signer, simulation=simulation)
    venues = {name: venue(tools) for name, venue in VENUES.items()}
    router = Router(
        {name: venues[name] for name in config.venues},
        timeouts_ms=config.quote_timeouts_ms,
        strategy=config.strategy,
    )
    return Exchange(
        venues,
        router,
        prepare=lambda: signer.public_key,
        on_close=chain.close,
    )


def open_market(config: ExchangeConfig) -> Market:
    return Market(config.seed, tuple(SIMULATED))


def open_rules(config: ExchangeConfig) -> Settlement:
    """With every program of every venue: what a switched curve has in flight still lands."""
    programs = [program for venue in SIMULATED.values() for program in venue.programs]
    return Settlement(
        seed=config.seed,
        market=open_market(config),
        programs={program.program_id: program for program in programs},
        latency_ms=config.swap_latency_ms,
        faults=config.faults,
    )
