"""`make figures`: what a quote and a route cost in time, and what a split is worth.

The market is simulated and the pools are plain arithmetic, so nothing is started for it.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from statistics import median, quantiles

from dex.decision import decide
from dex.pools import constant_product
from dex.pools.base import Depth
from dex.pricing import advantage_bps, quote
from dex.router import Router
from dex.simulation.market import Market
from dex.simulation.pools import quote_at
from dex.tokens import SOL, USDC, format_fixed
from dex.types import Leg, Offer, Quote, Route, Strategy, Swap, SwapRequest, SwapState
from dex.venues.base import Venue
from dex.venues.registry import SIMULATED, program_of

HEIGHT = 4_475_000_000
ROUNDS, CALLS = 7, 300
POOL = Depth(reserve_in=10_000 * 10**9, reserve_out=1_500_000 * 10**6, a_to_b=True)
SIZES = (1, 100, 250, 500, 1_000)
REQUEST = SwapRequest(token_in=SOL, token_out=USDC, amount_in=10**9, slippage_bps=100)


class Here(Venue):
    """A simulated venue without chain, latency and faults."""

    def __init__(self, name: str, curve: str) -> None:
        self._program = program_of(name, curve)
        self._market = Market("figures", tuple(SIMULATED))

    def quote_here(self, request: SwapRequest) -> Quote:
        return quote_at(self._market, self._program, request, HEIGHT)

    async def quote(self, request: SwapRequest) -> Quote:
        return self.quote_here(request)

    async def build(self, request: SwapRequest, legs: tuple[Leg, ...]) -> Swap:
        raise NotImplementedError

    async def send(self, swap: Swap, *, before: datetime | None) -> None:
        raise NotImplementedError

    async def status(self, swap: Swap) -> SwapState:
        raise NotImplementedError


def microseconds(call: Callable[[], object]) -> float:
    """Median over rounds of the mean of a round."""

    def one_round() -> float:
        started = time.perf_counter()
        for _ in range(CALLS):
            call()
        return (time.perf_counter() - started) / CALLS * 1e6

    return median(one_round() for _ in range(ROUNDS))


def time_per_quote() -> None:
    print(f"time per quote, µs (median of {ROUNDS} rounds of {CALLS})")
    print(f"{'venue':9} {'pool':8} {'1 SOL':>8} {'1,000 SOL':>10}   with market, prices and impact")
    for name, venue in SIMULATED.items():
        for program in venue.programs:
            here = Here(name, program.curve)
            small, large = (
                microseconds(lambda n=n, here=here: here.quote_here(replace(REQUEST, amount_in=n)))
                for n in (10**9, 10**12)
            )
            print(f"{name:9} {program.curve:8} {small:8.0f} {large:10.0f}")


async def time_per_route() -> None:
    print("\ntime per route at zero latency, ms (2,000 routes, tasks of the router included)")
    print(f"{'pools':18} {'size':>9} {'p50':>7} {'p99':>7}")
    for curves in (("cpmm", "damm_v2"), ("clmm", "dlmm")):
        names = zip(SIMULATED, curves, strict=True)
        router = Router(
            {name: Here(name, curve) for name, curve in names},
            timeouts_ms=dict.fromkeys(SIMULATED, 1_000),
        )
        for sol in (1, 1_000):
            took = sorted([await _route_ms(router, sol) for _ in range(2_000)])
            cuts = quantiles(took, n=100)
            print(f"{'+'.join(curves):18} {sol:>5} SOL {cuts[49]:7.2f} {cuts[98]:7.2f}")


async def _route_ms(router: Router, sol: int) -> float:
    started = time.perf_counter()
    await router.route(replace(REQUEST, amount_in=sol * 10**9))
    return (time.perf_counter() - started) * 1000


def route(sol: int, gap_bps: int, strategy: Strategy) -> Route:
    """Raydium's price is `gap_bps` above Meteora's; both pools hold 10,000 SOL."""
    request = replace(REQUEST, amount_in=sol * 10**9)
    dearer = replace(POOL, reserve_out=POOL.reserve_out * (10_000 + gap_bps) // 10_000)
    pools = {"raydium": constant_product.cpmm(dearer), "meteora": constant_product.damm_v2(POOL)}
    quotes = tuple(
        quote(request, Offer(venue=name, curve="", pool=pool, block_height=HEIGHT))
        for name, pool in pools.items()
    )
    return decide(request, quotes=quotes, failures=(), strategy=strategy)


def gains() -> None:
    print("\nwhat a route returns more, bps (CPMM 0.3 % and DAMM v2 0.2 %, 10,000 SOL each)")
    print(f"{'gap':>6} {'size':>9} {'route returns, USDC':>20} {'split':>16}", end="")
    print(f" {'over Raydium':>13} {'over Meteora':>13} {'over the better':>16}")
    for gap_bps in (350, 0):
        for sol in SIZES:
            taken = route(sol, gap_bps, Strategy.AUTO)
            raydium, meteora = (one.amount_out for one in taken.quotes)
            parts = " + ".join(f"{leg.quote.amount_in / 10**9:.0f}" for leg in taken.legs)
            print(
                f"{gap_bps / 100:5.1f}% {sol:5} SOL {format_fixed(USDC, taken.amount_out):>20}"
                f" {parts if len(taken.legs) > 1 else taken.venue:>16}"
                f" {advantage_bps(taken.amount_out, raydium):13}"
                f" {advantage_bps(taken.amount_out, meteora):13}"
                f" {advantage_bps(taken.amount_out, max(raydium, meteora)):16}"
            )


if __name__ == "__main__":
    time_per_quote()
    asyncio.run(time_per_route())
    gains()
