"""What every venue promises, asked of every one in the registry, with each kind of its pools.

A live venue is asked the same on a test network, as one more of POOLS with "" for its curve: the
fixture `exchange_with` is to open it (docs/dex.md).
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations

import pytest

from dex.errors import OrderRejected, VenueUnavailable
from dex.tokens import BONK, SOL, TOKENS, USDC
from dex.types import Swap, SwapState, SwapStatus, Token
from dex.venues.registry import SIMULATED
from tests.dex.blocking import Blocking
from tests.dex.routes import only

POOLS = [(name, program.curve) for name, venue in SIMULATED.items() for program in venue.programs]
pytestmark = pytest.mark.parametrize(("name", "curve"), POOLS)


@pytest.fixture
def exchange(exchange_with: Callable[..., Blocking], name: str, curve: str) -> Blocking:
    venues = tuple(dict.fromkeys((*SIMULATED, name)))
    return exchange_with(venues=venues, curves={name: curve} if curve else {})


def decided(exchange: Blocking, swap: Swap) -> SwapState:
    """Final; a simulated one is as soon as it is sent."""
    deadline = time.monotonic() + 60
    while not (state := exchange.status(swap)).is_final:
        assert time.monotonic() < deadline, f"still {state.status}"
        time.sleep(0.4)
    return state


def test_every_pair_is_quoted_both_ways(
    exchange: Blocking, request_for, name: str, curve: str
) -> None:
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
    exchange: Blocking, request_for, name: str, curve: str
) -> None:
    quote = only(exchange.route(request_for(slippage_bps=250)), name).legs[0].quote

    assert quote.min_amount_out == quote.amount_out * 9_750 // 10_000


def test_a_larger_order_has_the_larger_impact(
    exchange: Blocking, request_for, name: str, curve: str
) -> None:
    impacts = [
        round(only(exchange.route(request_for(amount_in=sol * 10**9)), name).price_impact, 7)
        for sol in (1, 10, 100, 1_000)
    ]

    assert impacts == sorted(impacts)
    assert Decimal("0.03") < impacts[-1] < Decimal("0.1")


def test_what_is_built_at_once_is_what_building_answers(
    exchange: Blocking, request_for, name: str, curve: str
) -> None:
    route = only(exchange.route(request_for()), name)

    assert exchange.build_at_once(route) == exchange.build(route) is not None


@pytest.mark.parametrize("wanted", [(1, BONK, SOL), (2**64 - 1, SOL, USDC)])
def test_dust_and_a_drain_are_refused(
    exchange: Blocking, request_for, name: str, curve: str, wanted: tuple[int, Token, Token]
) -> None:
    amount_in, token_in, token_out = wanted
    request = request_for(amount_in=amount_in, token_in=token_in, token_out=token_out)

    with pytest.raises(OrderRejected) as refused:
        exchange.route(request)

    assert refused.value.code == "INSUFFICIENT_LIQUIDITY"
    assert name in refused.value.detail


def test_an_unknown_pair_has_no_route(
    exchange: Blocking, request_for, name: str, curve: str
) -> None:
    unknown = Token(symbol="DOGE", mint="D" * 44, decimals=8)

    with pytest.raises(OrderRejected) as refused:
        exchange.route(request_for(token_out=unknown))

    assert refused.value.code == "NO_ROUTE"
    assert name in refused.value.detail


def test_a_swap_is_known_by_its_signature_before_it_is_sent(
    exchange: Blocking, request_for, name: str, curve: str
) -> None:
    route = only(exchange.route(request_for()), name)

    swap = exchange.build(route)

    assert (swap.venue, swap.request) == (name, route.request)
    assert 86 <= len(swap.signature) <= 88
    assert exchange.status(swap).status is SwapStatus.UNKNOWN


def test_a_swap_that_is_sent_lands_with_its_fill(
    exchange: Blocking, request_for, name: str, curve: str
) -> None:
    route = only(exchange.route(request_for()), name)
    swap = exchange.build(route)

    exchange.send(swap)
    state = decided(exchange, swap)

    assert state.status is SwapStatus.LANDED
    assert state.fill is not None
    assert state.fill.amount_in == route.request.amount_in
    assert state.fill.amount_out >= route.min_amount_out


def test_a_swap_is_not_sent_when_its_moment_has_passed(
    exchange: Blocking, request_for, name: str, curve: str
) -> None:
    swap = exchange.build(only(exchange.route(request_for()), name))
    now = datetime.now(UTC)

    with pytest.raises(VenueUnavailable) as refused:
        exchange.send(swap, before=now)
    unsent = exchange.status(swap).status
    exchange.send(swap, before=now + timedelta(hours=1))

    assert (refused.value.code, unsent) == ("DEADLINE_EXCEEDED", SwapStatus.UNKNOWN)
    assert decided(exchange, swap).status is SwapStatus.LANDED


def test_what_was_paid_is_never_got_back(
    exchange: Blocking, request_for, name: str, curve: str
) -> None:
    there = only(exchange.route(request_for()), name).legs[0].quote
    back = request_for(token_in=USDC, token_out=SOL, amount_in=there.amount_out)

    assert only(exchange.route(back), name).legs[0].quote.amount_out < there.amount_in
