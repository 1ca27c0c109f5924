"""What every venue promises, asked of every one in the registry."""

from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from itertools import count, permutations

import pytest

from dex.errors import OrderRejected, VenueUnavailable
from dex.signer import Signer
from dex.simulation.faults import Faults
from dex.simulation.market import Market
from dex.simulation.venue import Simulation
from dex.tokens import BONK, SOL, TOKENS, USDC
from dex.types import Leg, Route, SwapStatus, Token
from dex.venues.registry import VENUES

pytestmark = pytest.mark.parametrize("name", VENUES)


def only(route: Route, name: str) -> Route:
    """The same route through this venue, whichever was best."""
    quote = next(quote for quote in route.quotes if quote.venue == name)
    return replace(route, legs=(Leg(venue=name, quote=quote),))


def test_every_pair_is_quoted_both_ways(exchange_with, request_for, name: str) -> None:
    exchange = exchange_with()

    for token_in, token_out in permutations(TOKENS, 2):
        amount_in = 10**token_in.decimals * (10**6 if token_in is BONK else 10)
        request = request_for(token_in=token_in, token_out=token_out, amount_in=amount_in)
        quote = only(exchange.route(request), name).legs[0].quote

        assert quote.amount_in == amount_in
        assert 0 < quote.min_amount_out < quote.amount_out
        assert quote.fee > 0
        assert quote.fee_token in {token_in, token_out}
        assert 0 <= quote.price_impact < Decimal("0.01")
        assert quote.effective_price < quote.mid_price


def test_the_minimum_follows_the_slippage(exchange_with, request_for, name: str) -> None:
    quote = only(exchange_with().route(request_for(slippage_bps=250)), name).legs[0].quote

    assert quote.min_amount_out == quote.amount_out * 9_750 // 10_000


def test_a_larger_order_has_the_larger_impact(exchange_with, request_for, name: str) -> None:
    exchange = exchange_with()

    impacts = [
        only(exchange.route(request_for(amount_in=sol * 10**9)), name).legs[0].quote.price_impact
        for sol in (1, 10, 100, 1_000)
    ]

    assert impacts == sorted(impacts)
    assert Decimal("0.08") < impacts[-1] < Decimal("0.1")


@pytest.mark.parametrize(("amount_in", "pair"), [(1, (BONK, SOL)), (2**64 - 1, (SOL, USDC))])
def test_dust_and_a_drain_are_refused(
    exchange_with, request_for, name: str, amount_in: int, pair: tuple[Token, Token]
) -> None:
    request = request_for(amount_in=amount_in, token_in=pair[0], token_out=pair[1])

    with pytest.raises(OrderRejected) as refused:
        exchange_with().route(request)

    assert refused.value.code == "INSUFFICIENT_LIQUIDITY"
    assert name in refused.value.detail


def test_an_unknown_pair_has_no_route(exchange_with, request_for, name: str) -> None:
    unknown = Token(symbol="DOGE", mint="D" * 44, decimals=8)

    with pytest.raises(OrderRejected) as refused:
        exchange_with().route(request_for(token_out=unknown))

    assert refused.value.code == "NO_ROUTE"
    assert name in refused.value.detail


def test_a_swap_is_known_by_its_signature_before_it_is_sent(
    exchange_with, request_for, name: str
) -> None:
    exchange = exchange_with()
    route = only(exchange.route(request_for()), name)

    swap = exchange.build(route)

    assert swap == exchange.build(route)
    assert swap.venue == name
    assert 86 <= len(swap.signature) <= 88
    assert exchange.status(swap).status is SwapStatus.UNKNOWN


def test_a_swap_at_zero_latency_has_landed_when_it_is_sent(
    exchange_with, request_for, name: str
) -> None:
    exchange = exchange_with()
    route = only(exchange.route(request_for()), name)
    swap = exchange.build(route)

    exchange.send(swap)
    state = exchange.status(swap)

    assert state.status is SwapStatus.LANDED
    assert state.fill is not None
    assert state.fill.amount_in == route.request.amount_in
    assert state.fill.amount_out >= route.min_amount_out
    assert state.fill.landed_at.tzinfo is not None


def test_a_dead_venue_leaves_the_others(exchange_with, request_for, name: str) -> None:
    exchange = exchange_with(faults=Faults.parse(f"{name}.quote_unavailable=1"))

    for request in (request_for(), request_for(order_id="")):
        route = exchange.route(request)

        assert name not in {quote.venue for quote in route.quotes}
        assert [failure.venue for failure in route.failures] == [name]


def test_the_quote_latency_is_slept_by_the_sleep_that_was_given(
    exchange_with, request_for, name: str
) -> None:
    slept: list[float] = []
    exchange = exchange_with(quote_latency_ms=200, sleep=slept.append)

    only(exchange.route(request_for()), name)

    assert slept == [0.2] * len(VENUES)


def test_faults_of_a_bare_quote_change_with_the_block(request_for, name: str) -> None:
    class Blocks:
        def __init__(self) -> None:
            self.height = count(4_400_000_000).__next__

    venue = VENUES[name](
        Simulation(
            seed="tests",
            market=Market("tests", tuple(VENUES)),
            chain=Blocks(),
            programs={},
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
