"""What the simulated venues promise besides: drift, latency and faults."""

import asyncio
from contextlib import suppress
from fractions import Fraction
from itertools import count

import pytest

from dex.errors import VenueUnavailable
from dex.signer import Signer
from dex.simulation.faults import Faults
from dex.simulation.market import Market
from dex.simulation.settlement import DRIFT
from dex.simulation.venue import Simulation
from dex.tokens import BONK, SOL, USDC
from dex.types import SwapRequest, Token
from dex.venues.base import Tools
from dex.venues.registry import SIMULATED, program_of
from tests.dex.blocking import Blocking
from tests.dex.routes import only

POOLS = [(name, program.curve) for name, venue in SIMULATED.items() for program in venue.programs]
pytestmark = pytest.mark.parametrize(("name", "curve"), POOLS)


def drifts(exchange: Blocking, request: SwapRequest, name: str) -> list[Fraction]:
    """What the pool pays after its price has moved, over what it was to pay."""
    quote = only(exchange.route(request), name).legs[0].quote
    moved = (quote.pool.drifted(parts) for parts in (-DRIFT, -DRIFT // 2, 0, DRIFT // 2, DRIFT))
    return [Fraction(pool.swap(request.amount_in).amount_out, quote.amount_out) for pool in moved]


@pytest.mark.parametrize("pair", [(SOL, USDC), (USDC, SOL), (BONK, SOL), (SOL, BONK)])
def test_a_fill_follows_the_price_and_never_by_more(
    exchange_with, request_for, name: str, curve: str, pair: tuple[Token, Token]
) -> None:
    exchange = exchange_with(curves={name: curve})

    for millions in (1, 1_000):
        amount_in = millions * 10 ** pair[0].decimals * (10**6 if pair[0] is BONK else 1)
        request = request_for(token_in=pair[0], token_out=pair[1], amount_in=amount_in)
        ratios = drifts(exchange, request, name)

        assert ratios == sorted(ratios)
        assert ratios[2] == 1
        assert Fraction(995, 1000) <= ratios[0] < 1 - Fraction(3, 1000)
        assert 1 + Fraction(3, 1000) < ratios[-1] <= Fraction(1005, 1000)


def test_a_dead_venue_leaves_the_others(exchange_with, request_for, name: str, curve: str) -> None:
    exchange = exchange_with(
        curves={name: curve}, faults=Faults.parse(f"{name}.quote_unavailable=1")
    )

    for request in (request_for(), request_for(order_id="")):
        route = exchange.route(request)

        assert name not in {quote.venue for quote in route.quotes}
        assert [failure.venue for failure in route.failures] == [name]


def test_the_quote_latency_is_slept_by_the_sleep_that_was_given(
    exchange_with, request_for, name: str, curve: str
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    exchange = exchange_with(curves={name: curve}, quote_latency_ms=200, sleep=sleep)

    only(exchange.route(request_for()), name)

    assert slept == [0.2] * len(SIMULATED)


async def test_faults_of_a_bare_quote_change_with_the_block(
    request_for, name: str, curve: str
) -> None:
    class Blocks:
        heights = count(4_400_000_000)

        async def height(self) -> int:
            return next(self.heights)

    simulation = Simulation(
        seed="tests",
        market=Market("tests", tuple(SIMULATED)),
        chain=Blocks(),
        programs={name: program_of(name, curve)},
        faults=Faults.parse("quote_unavailable=0.5"),
        quote_latency_ms=0,
        sleep=asyncio.sleep,
    )
    venue = SIMULATED[name](Tools(signer=Signer(), simulation=simulation))

    async def answers(order_id: str) -> int:
        answered = 0
        for _ in range(200):
            with suppress(VenueUnavailable):
                quoted = await venue.quote(request_for(order_id=order_id))
                answered += quoted.amount_out > 0
        return answered

    assert 60 < await answers("") < 140
    assert await answers("ord_1") in {0, 200}
