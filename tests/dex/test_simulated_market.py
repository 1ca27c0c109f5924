from itertools import combinations, permutations

import pytest

from dex.pools.base import Depth
from dex.simulation.market import Market
from dex.tokens import SOL, TOKENS, USDC
from dex.types import Token

VENUES = ("raydium", "meteora")
MARKET = Market("tests", VENUES)
START = 4_400_000_000
HEIGHTS = range(START, START + 7_919 * 1_000, 7_919)


def pools(height: int, token_in: Token, token_out: Token) -> list[Depth]:
    found = [
        MARKET.depth(venue=venue, token_in=token_in, token_out=token_out, height=height)
        for venue in VENUES
    ]
    return [pool for pool in found if pool is not None]


def test_the_venues_lie_2_to_5_percent_apart_and_take_turns() -> None:
    samples = [pools(height, *pair) for pair in combinations(TOKENS, 2) for height in HEIGHTS[::5]]

    prices = [[pool.reserve_out / pool.reserve_in for pool in sample] for sample in samples]
    gaps = [max(pair) / min(pair) - 1 for pair in prices]
    first_better = sum(first > second for first, second in prices) / len(prices)

    assert 0.02 <= min(gaps) < 0.025
    assert 0.045 < max(gaps) <= 0.05
    assert 0.4 < first_better < 0.6


@pytest.mark.parametrize("pair", list(combinations(TOKENS, 2)), ids=lambda p: p[0].symbol)
def test_each_venue_is_best_about_half_the_time_on_every_pair(pair: tuple[Token, Token]) -> None:
    first_better = [
        pair_of[0].reserve_out * pair_of[1].reserve_in
        > pair_of[1].reserve_out * pair_of[0].reserve_in
        for pair_of in (pools(height, *pair) for height in HEIGHTS)
    ]

    assert 0.4 < sum(first_better) / len(first_better) < 0.6


def test_prices_stay_around_the_reference() -> None:
    for height in HEIGHTS:
        for pool in pools(height, SOL, USDC):
            assert pool.reserve_in == 10_000 * 10**9
            assert 150 * 0.95 < pool.reserve_out / 10**6 / 10_000 < 150 * 1.05


def test_the_gap_moves_smoothly_between_changes_of_side() -> None:
    jumps = 0
    for height in range(START, START + 1_500):
        before = [pool.reserve_out for pool in pools(height, SOL, USDC)]
        after = [pool.reserve_out for pool in pools(height + 1, SOL, USDC)]
        jumps += any(abs(a - b) > b // 100 for a, b in zip(after, before, strict=True))

    assert jumps <= 1_500 * 400 // 30_000 + 1


def test_both_directions_are_one_pool() -> None:
    for token_in, token_out in permutations(TOKENS, 2):
        there, back = pools(START, token_in, token_out), pools(START, token_out, token_in)
        for one, other in zip(there, back, strict=True):
            assert (one.reserve_in, one.reserve_out) == (other.reserve_out, other.reserve_in)
            assert one.a_to_b is not other.a_to_b


def test_a_pool_depends_on_the_seed_the_height_and_nothing_else() -> None:
    again = Market("tests", VENUES).depth(
        venue="raydium", token_in=SOL, token_out=USDC, height=START
    )
    other = Market("other", VENUES).depth(
        venue="raydium", token_in=SOL, token_out=USDC, height=START
    )

    assert again == pools(START, SOL, USDC)[0]
    assert other != again


def test_a_pair_that_is_not_traded_has_no_pool() -> None:
    unknown = Token(symbol="DOGE", mint="D" * 44, decimals=8)

    assert pools(START, SOL, unknown) == []
    assert pools(START, SOL, SOL) == []
