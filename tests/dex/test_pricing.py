from decimal import Decimal

import pytest

from dex import pricing
from dex.simulation.market import PoolState
from dex.tokens import BONK, SOL, USDC
from dex.venues.registry import VENUES

POOL = PoolState(reserve_in=10_000 * 10**9, reserve_out=1_500_000 * 10**6, a_to_b=True)


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("a_to_b", [True, False])
def test_price_impact_leaves_the_fee_out(venue: str, *, a_to_b: bool) -> None:
    pool = PoolState(reserve_in=POOL.reserve_in, reserve_out=POOL.reserve_out, a_to_b=a_to_b)

    tiny = VENUES[venue].program.swap(pool, 10**7)
    tenth = VENUES[venue].program.swap(pool, 1_000 * 10**9)

    assert tiny.fee > 0
    assert pricing.price_impact(tiny, pool.reserve_in, pool.reserve_out) < Decimal("0.000002")
    impact = pricing.price_impact(tenth, pool.reserve_in, pool.reserve_out)
    assert abs(impact - Decimal(1) / 11) < Decimal("0.0004")


@pytest.mark.parametrize(("venue", "fee"), [("raydium", (3, 1_000)), ("meteora", (2, 1_000))])
@pytest.mark.parametrize("a_to_b", [True, False])
def test_the_fee_is_the_venues_rate(venue: str, fee: tuple[int, int], *, a_to_b: bool) -> None:
    pool = PoolState(reserve_in=POOL.reserve_in, reserve_out=POOL.reserve_out, a_to_b=a_to_b)

    swap = VENUES[venue].program.swap(pool, 10**9)

    charged = swap.amount_in if swap.fee_on_input else swap.gross_out
    assert swap.fee == -(-charged * fee[0] // fee[1])
    assert swap.net_in == swap.amount_in - (swap.fee if swap.fee_on_input else 0)
    assert swap.amount_out == swap.gross_out - (0 if swap.fee_on_input else swap.fee)


def test_prices_are_in_whole_tokens() -> None:
    assert pricing.mid_price(POOL.reserve_in, POOL.reserve_out, SOL, USDC) == 150
    assert pricing.effective_price(10**9, 149_500_000, SOL, USDC) == Decimal("149.5")
    assert pricing.effective_price(10**5, 20, BONK, USDC) == Decimal("0.00002")


def test_a_swap_the_fee_eats_up_has_no_impact() -> None:
    swap = VENUES["raydium"].program.swap(POOL, 1)

    assert (swap.net_in, swap.amount_out) == (0, 0)
    assert pricing.price_impact(swap, POOL.reserve_in, POOL.reserve_out) == 0


@pytest.mark.parametrize(
    ("amount", "bps", "minimum"), [(10_000, 100, 9_900), (9_999, 1, 9_998), (1, 5_000, 0)]
)
def test_the_minimum_is_rounded_down(amount: int, bps: int, minimum: int) -> None:
    assert pricing.min_amount_out(amount, bps) == minimum


def test_advantage_is_in_basis_points_of_the_lesser() -> None:
    assert pricing.advantage_bps(142_310_000, 138_900_000) == 245
    assert pricing.advantage_bps(101, 100) == 100
