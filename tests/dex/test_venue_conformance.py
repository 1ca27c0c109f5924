"""What every venue promises, asked of every one in the registry, with each kind of its pools.

A live venue passes the same: it takes the place of `exchange_with` (docs/dex.md).
"""

from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from itertools import count, permutations

import pytest

from dex.errors import OrderRejected, VenueUnavailable
from dex.exchange import Exchange
from dex.signer import Signer
from dex.simulation.faults import Faults
from dex.simulation.market import Market
from dex.simulation.settlement import DRIFT
from dex.simulation.venue import Simulation
from dex.tokens import BONK, SOL, TOKENS, USDC
from dex.types import Leg, Route, SwapRequest, SwapStatus, Token
from dex.venues.registry import VENUES, program_of

POOLS = [(name, program.curve) for name, venue in VENUES.items() for program in venue.programs]
pytestmark = pytest.mark.parametrize(("name", "curve"), POOLS)


def only(route: Route, name: str) -> Route:
    """The same route through this venue, whichever was best."""
    quote = next(quote for quote in route.quotes if quote.venue == name)
    return replace(route, legs=(Leg(venue=name, quote=quote),), price_impact=quote.price_impact)


def drifts(exchange: Exchange, request: SwapRequest, name: str) -> list[Fraction]:
    """What the pool pays after its price has moved, over what it was to pay."""
    quote = only(exchange.route(request), name).legs[0].quote
    moved = (quote.pool.drifted(parts) for parts in (-DRIFT, -DRIFT // 2, 0, DRIFT // 2, DRIFT))
    return [Fraction(pool.swap(request.amount_in).amount_out, quote.amount_out) for pool in moved]


def test_every_pair_is_quoted_both_ways(exchange_with, request_for, name: str, curve: str) -> None:
    exchange = exchange_with(curves={name: curve})

    for token_in, token_out in permutations(TOKENS, 2):
        amount_in = 10**token_in.decimals * (10**6 if token_in is BONK else 10)
        request = request_for(token_in=token_in, token_out=token_out, amount_in=amount_in)
        quote = only(exchange.route(request), name).legs[0].quote

        assert quote.amount_in == amount_in
        assert 0 < quote.min_amount_out < quote.amount_out
        assert quote.fee > 0
        assert quote.fee_token in {token_in, token_out}
        assert (quote.venue, quote.curve) == (name, curve)
        assert 0 <= quote.price_impact < Decimal("0.01")
        assert quote.effective_price < quote.mid_price


def test_the_minimum_follows_the_slippage(
    exchange_with, request_for, name: str, curve: str
) -> None:
    quote = (
        only(exchange_with(curves={name: curve}).route(request_for(slippage_bps=250)), name)
        .legs[0]
        .quote
    )

    assert quote.min_amount_out == quote.amount_out * 9_750 // 10_000


def test_a_larger_order_has_the_larger_impact(
    exchange_with, request_for, name: str, curve: str
) -> None:
    exchange = exchange_with(curves={name: curve})

    impacts = [
        round(only(exchange.route(request_for(amount_in=sol * 10**9)), name).price_impact, 7)
        for sol in (1, 10, 100, 1_000)
    ]

    assert impacts == sorted(impacts)
    assert Decimal("0.03") < impacts[-1] < Decimal("0.1")


@pytest.mark.parametrize("wanted", [(1, BONK, SOL), (2**64 - 1, SOL, USDC)])
def test_dust_and_a_drain_are_refused(
    exchange_with, request_for, name: str, curve: str, wanted: tuple[int, Token, Token]
) -> None:
    amount_in, token_in, token_out = wanted
    request = request_for(amount_in=amount_in, token_in=token_in, token_out=token_out)

    with pytest.raises(OrderRejected) as refused:
        exchange_with(curves={name: curve}).route(request)

    assert refused.value.code == "INSUFFICIENT_LIQUIDITY"
    assert name in refused.value.detail


def test_an_unknown_pair_has_no_route(exchange_with, request_for, name: str, curve: str) -> None:
    unknown = Token(symbol="DOGE", mint="D" * 44, decimals=8)

    with pytest.raises(OrderRejected) as refused:
        exchange_with(curves={name: curve}).route(request_for(token_out=unknown))

    assert refused.value.code == "NO_ROUTE"
    assert name in refused.value.detail


def test_a_swap_is_known_by_its_signature_before_it_is_sent(
    exchange_with, request_for, name: str, curve: str
) -> None:
    exchange = exchange_with(curves={name: curve})
    route = only(exchange.route(request_for()), name)

    swap = exchange.build(route)

    assert swap == exchange.build(route)
    assert swap.venue == name
    assert 86 <= len(swap.signature) <= 88
    assert exchange.status(swap).status is SwapStatus.UNKNOWN


def test_a_swap_at_zero_latency_has_landed_when_it_is_sent(
    exchange_with, request_for, name: str, curve: str
) -> None:
    exchange = exchange_with(curves={name: curve})
    route = only(exchange.route(request_for()), name)
    swap = exchange.build(route)

    exchange.send(swap)
    state = exchange.status(swap)

    assert state.status is SwapStatus.LANDED
    assert state.fill is not None
    assert state.fill.amount_in == route.request.amount_in
    assert state.fill.amount_out >= route.min_amount_out
    assert state.fill.landed_at.tzinfo is not None


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


def test_what_was_paid_is_never_got_back(exchange_with, request_for, name: str, curve: str) -> None:
    exchange = exchange_with(curves={name: curve})
    there = only(exchange.route(request_for()), name).legs[0].quote
    back = request_for(token_in=USDC, token_out=SOL, amount_in=there.amount_out)

    assert only(exchange.route(back), name).legs[0].quote.amount_out < there.amount_in


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
    exchange = exchange_with(curves={name: curve}, quote_latency_ms=200, sleep=slept.append)

    only(exchange.route(request_for()), name)

    assert slept == [0.2] * len(VENUES)


def test_faults_of_a_bare_quote_change_with_the_block(request_for, name: str, curve: str) -> None:
    class Blocks:
        def __init__(self) -> None:
            self.height = count(4_400_000_000).__next__

    venue = VENUES[name](
        Simulation(
            seed="tests",
            market=Market("tests", tuple(VENUES)),
            chain=Blocks(),
            programs={name: program_of(name, curve)},
            signer=Signer(),
            faults=Faults.parse("quote_unavailable=0.5"),
            quote_latency_ms=0,
            sleep=lambda _: None,
        )
    )

    def answers(order_id: str) -> int:
        answered = 0
        for _ in range(200):
            with suppress(VenueUnavailable):
                answered += venue.quote(request_for(order_id=order_id)).amount_out > 0
        return answered

    assert 60 < answers("") < 140
    assert answers("ord_1") in {0, 200}
