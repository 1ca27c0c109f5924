from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace

import pytest

from dex import pricing
from dex.errors import OrderRejected, PoolTooSmall
from dex.pools import clmm, constant_product
from dex.pools.base import CurveSwap, Depth, MakePool
from dex.tokens import BONK, SOL, USDC
from dex.types import Offer, Quote, SwapRequest

DEPTH = Depth(reserve_in=10_000 * 10**9, reserve_out=1_500_000 * 10**6, a_to_b=True)
REQUEST = SwapRequest(token_in=SOL, token_out=USDC, amount_in=10**9, slippage_bps=100)
MAKERS = [constant_product.cpmm, constant_product.amm_v4, constant_product.damm_v2]


def quote(make: MakePool, amount_in: int = 10**9, *, a_to_b: bool = True) -> Quote:
    pool = make(replace(DEPTH, a_to_b=a_to_b))
    request = replace(REQUEST, amount_in=amount_in)
    return pricing.quote(request, Offer(venue="one", curve="of it", pool=pool, block_height=1))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("a_to_b", [True, False])
def test_price_impact_leaves_the_fee_out(make: MakePool, *, a_to_b: bool) -> None:
    tiny = quote(make, 10**7, a_to_b=a_to_b)
    tenth = quote(make, 1_000 * 10**9, a_to_b=a_to_b)

    assert tiny.fee > 0
    assert tiny.price_impact < Decimal("0.000002")
    assert abs(tenth.price_impact - Decimal(1) / 11) < Decimal("0.0004")


@pytest.mark.parametrize(
    ("make", "fee"), list(zip(MAKERS, [(3, 1_000), (25, 10_000), (2, 1_000)], strict=True))
)
@pytest.mark.parametrize("a_to_b", [True, False])
def test_the_fee_is_the_venues_rate(make: MakePool, fee: tuple[int, int], *, a_to_b: bool) -> None:
    pool = make(replace(DEPTH, a_to_b=a_to_b))

    swap = pool.swap(10**9)

    charged = swap.amount_in if swap.fee_on_input else swap.gross_out
    assert swap.fee == -(-charged * fee[0] // fee[1])
    assert swap.net_in == swap.amount_in - (swap.fee if swap.fee_on_input else 0)
    assert swap.amount_out == swap.gross_out - (0 if swap.fee_on_input else swap.fee)


def test_a_route_of_two_legs_has_their_impact_by_weight() -> None:
    small, large = quote(constant_product.cpmm, 10**9), quote(constant_product.cpmm, 3 * 10**12)

    impact = pricing.combined_impact((small, large))

    expected = (small.price_impact + large.price_impact * 3_000) / 3_001
    assert abs(impact - expected) < Decimal("1e-8")
    assert pricing.combined_impact((small,)) == small.price_impact


def test_a_leg_weighs_what_its_part_is_worth_at_its_own_mid_price() -> None:
    dear = replace(quote(constant_product.cpmm), mid_price=Decimal(3), price_impact=Decimal("0.1"))
    cheap = replace(dear, mid_price=Decimal(1), price_impact=Decimal("0.5"))

    assert pricing.combined_impact((dear, cheap)) == Decimal("0.2")


@pytest.mark.parametrize(("fee", "worth"), [(10_000, 1_500), (10_001, 1_501), (9_999, 1_500)])
def test_what_a_fee_on_the_input_would_have_bought_is_rounded_up(fee: int, worth: int) -> None:
    in_sol = replace(quote(constant_product.cpmm), fee=fee)  # 150 USDC for a SOL
    in_usdc = replace(quote(constant_product.damm_v2), fee=7)

    assert pricing.combined_fee((in_sol, in_usdc), REQUEST) == (worth + 7, USDC)


def test_fees_in_one_token_are_added_and_in_two_are_worth_the_output() -> None:
    in_sol, in_usdc = quote(constant_product.cpmm), quote(constant_product.damm_v2)

    assert pricing.combined_fee((in_sol, in_sol), REQUEST) == (2 * 3_000_000, SOL)
    assert pricing.combined_fee((in_usdc,), REQUEST) == (in_usdc.fee, USDC)
    assert pricing.combined_fee((in_sol, in_usdc), REQUEST) == (450_000 + in_usdc.fee, USDC)


def test_a_fee_on_the_output_is_a_part_of_what_the_curve_gave() -> None:
    in_usdc = replace(quote(constant_product.damm_v2), amount_out=900, fee=100)

    assert pricing.fee_fraction(in_usdc, SOL) == Fraction(1, 10)


def test_what_returns_nothing_or_drains_the_pool_is_refused() -> None:
    for amount_in, takes_a_part in ((1, False), (10**16, True)):
        with pytest.raises(OrderRejected, match="INSUFFICIENT_LIQUIDITY: one") as refused:
            quote(constant_product.cpmm, amount_in)
        assert isinstance(refused.value, PoolTooSmall) == takes_a_part


def test_what_a_pool_says_of_base_units_is_not_said_to_users() -> None:
    with pytest.raises(PoolTooSmall, match="one: the pool cannot take all of it") as refused:
        quote(clmm.pool, 10**15)

    assert "of the input" in str(refused.value.__cause__.__cause__)


def test_a_pool_may_give_99_percent_of_what_it_has() -> None:
    swap = CurveSwap(amount_in=1, net_in=1, gross_out=99, amount_out=99, fee=0, fee_on_input=True)
    pool = SimpleNamespace(reserve_out=100, swap=lambda amount_in: swap)

    assert pricing.undrained(pool, 1, "one") == swap


def test_prices_are_in_whole_tokens() -> None:
    mid = Fraction(DEPTH.reserve_out, DEPTH.reserve_in)
    assert pricing.mid_price(mid, SOL, USDC) == 150
    assert pricing.effective_price(10**9, 149_500_000, SOL, USDC) == Decimal("149.5")
    assert pricing.effective_price(10**5, 20, BONK, USDC) == Decimal("0.00002")


def test_a_swap_the_fee_eats_up_has_no_impact() -> None:
    pool = constant_product.cpmm(DEPTH)

    swap = pool.swap(1)

    assert (swap.net_in, swap.amount_out) == (0, 0)
    assert pricing.price_impact(swap, pool.mid) == 0


@pytest.mark.parametrize(
    ("amount", "bps", "minimum"), [(10_000, 100, 9_900), (9_999, 1, 9_998), (1, 5_000, 0)]
)
def test_the_minimum_is_rounded_down(amount: int, bps: int, minimum: int) -> None:
    assert pricing.min_amount_out(amount, bps) == minimum


def test_advantage_is_in_basis_points_of_the_lesser() -> None:
    assert pricing.advantage_bps(142_310_000, 138_900_000) == 245
    assert pricing.advantage_bps(101, 100) == 100
