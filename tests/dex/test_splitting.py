"""The best division of an order between two pools, against searching all of them."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dex.decision import decide
from dex.errors import OrderRejected, PoolTooSmall
from dex.pools import clmm, constant_product, dlmm
from dex.pools.base import Depth, MakePool, Pool
from dex.pricing import advantage_bps, min_amount_out, quote
from dex.splitting import best_split
from dex.tokens import SOL, USDC
from dex.types import Offer, Quote, QuoteFailure, Reason, Route, Strategy, SwapRequest
from tests.dex import figures

CONSTANT_PRODUCT = [constant_product.cpmm, constant_product.amm_v4, constant_product.damm_v2]
CONCENTRATED = [clmm.pool, dlmm.pool]
SOL_USDC = Depth(reserve_in=10_000 * 10**9, reserve_out=1_500_000 * 10**6, a_to_b=True)


def output(pool: Pool, part: int) -> int:
    return pool.swap(part).amount_out if part else 0


def together(first: Pool, second: Pool, amounts: tuple[int, int]) -> int:
    return output(first, amounts[0]) + output(second, amounts[1])


def dearer(depth: Depth, bps: int) -> Depth:
    """The same depth at a price that returns `bps` more."""
    return replace(depth, reserve_out=depth.reserve_out * (10_000 + bps) // 10_000)


@given(
    makes=st.tuples(st.sampled_from(CONSTANT_PRODUCT), st.sampled_from(CONSTANT_PRODUCT)),
    reserves=st.tuples(*[st.integers(1_000, 100_000)] * 4),
    amount_in=st.integers(2, 3_000),
    a_to_b=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_closed_form_is_within_the_rounding_of_searching_every_division(
    makes: tuple[MakePool, MakePool],
    reserves: tuple[int, int, int, int],
    amount_in: int,
    *,
    a_to_b: bool,
) -> None:
    x, y, other_x, other_y = reserves
    first = makes[0](Depth(reserve_in=x, reserve_out=y, a_to_b=a_to_b))
    second = makes[1](Depth(reserve_in=other_x, reserve_out=other_y, a_to_b=a_to_b))

    amounts = best_split(first, second, amount_in)

    best = max(together(first, second, (n, amount_in - n)) for n in range(amount_in + 1))
    assert sum(amounts) == amount_in
    # Each leg is rounded down, its fee up: a luckier rounding may lie elsewhere.
    a_unit_in_is_worth = max(y // x, other_y // other_x)
    assert best - together(first, second, amounts) <= 2 + a_unit_in_is_worth


@pytest.mark.parametrize(
    "makes",
    [pair for pair in product(CONSTANT_PRODUCT + CONCENTRATED, repeat=2) if pair[0] is not pair[1]],
)
@pytest.mark.parametrize(("sol", "bps"), [(1, 350), (200, 0), (700, 200), (1_500, 350)])
def test_no_division_on_a_fine_grid_is_worth_a_tenth_of_a_basis_point_more(
    makes: tuple[MakePool, MakePool], sol: int, bps: int
) -> None:
    amount_in = sol * 10**9
    first, second = makes[0](dearer(SOL_USDC, bps)), makes[1](SOL_USDC)

    found = together(first, second, best_split(first, second, amount_in))

    cells = [amount_in * cell // 100 for cell in range(101)]
    best = max(together(first, second, (part, amount_in - part)) for part in cells)
    assert (best - found) * 100_000 <= best


def test_a_part_that_a_pool_refuses_is_never_chosen() -> None:
    small = clmm.pool(replace(SOL_USDC, reserve_in=10 * 10**9, reserve_out=1_500 * 10**6))
    large = constant_product.damm_v2(SOL_USDC)

    amounts = best_split(small, large, 500 * 10**9)

    assert 0 < amounts[0] < 20 * 10**9
    assert together(small, large, amounts) > output(large, 500 * 10**9)


# Routes ------------------------------------------------------------------------------------------


def quotes(sol: int, bps: int) -> tuple[SwapRequest, tuple[Quote, ...]]:
    request = SwapRequest(token_in=SOL, token_out=USDC, amount_in=sol * 10**9, slippage_bps=100)
    pools = {
        "raydium": constant_product.cpmm(dearer(SOL_USDC, bps)),
        "meteora": constant_product.damm_v2(SOL_USDC),
    }
    return request, tuple(
        quote(request, Offer(venue=venue, curve="cp", pool=pool, block_height=7))
        for venue, pool in pools.items()
    )


def route(sol: int, bps: int, strategy: Strategy = Strategy.AUTO) -> Route:
    request, found = quotes(sol, bps)
    return decide(request, quotes=found, failures=(), strategy=strategy)


def gained_bps(taken: Route) -> int:
    return advantage_bps(taken.amount_out, max(quote.amount_out for quote in taken.quotes))


@pytest.mark.parametrize(
    ("sol", "bps", "gain"),
    [
        (1, 350, 0),
        (100, 350, 0),
        (250, 350, 12),
        (500, 350, 103),
        (1000, 350, 317),
        (100, 0, 45),
        (500, 0, 238),
    ],
)
def test_a_split_is_worth_what_the_arithmetic_says(sol: int, bps: int, gain: int) -> None:
    assert abs(gained_bps(route(sol, bps)) - gain) <= 8


def test_a_split_says_what_it_gains_and_has_both_legs() -> None:
    taken = route(500, 350)

    assert taken.reason is Reason.SPLIT_IMPROVES
    assert taken.venue == "raydium+meteora"
    assert sum(leg.quote.amount_in for leg in taken.legs) == 500 * 10**9
    assert taken.min_amount_out == sum(leg.quote.min_amount_out for leg in taken.legs)
    assert {leg.quote.block_height for leg in taken.legs} == {7}
    assert "SOL on Raydium and" in taken.explanation
    assert taken.explanation.endswith(f"{gained_bps(taken)} bps more")
    assert taken.price_impact < min(quote.price_impact for quote in taken.quotes)


@pytest.mark.parametrize("slippage_bps", [0, 1, 100, 5_000])
def test_the_minimum_of_a_split_is_that_of_the_whole(slippage_bps: int) -> None:
    for sol in range(500, 520):
        request, found = quotes(sol, 350)
        request = replace(request, slippage_bps=slippage_bps)
        taken = decide(request, quotes=found, failures=())

        assert len(taken.legs) == 2
        assert taken.min_amount_out == min_amount_out(taken.amount_out, slippage_bps)
        assert all(leg.quote.min_amount_out <= leg.quote.amount_out for leg in taken.legs)


def test_only_quotes_of_one_block_are_divided_between() -> None:
    request, (one, other) = quotes(500, 350)

    taken = decide(request, quotes=(one, replace(other, block_height=8)), failures=())

    assert len(taken.legs) == 1


def test_the_strategies_differ_in_when_they_split() -> None:
    little = next(sol for sol in range(100, 500) if gained_bps(route(sol, 350, Strategy.SPLIT)) > 0)

    assert gained_bps(route(little, 350, Strategy.SPLIT)) < 5
    assert len(route(little, 350, Strategy.SPLIT).legs) == 2
    assert len(route(little, 350, Strategy.AUTO).legs) == 1
    assert len(route(1_000, 350, Strategy.AUTO).legs) == 2
    assert len(route(1_000, 350, Strategy.BEST).legs) == 1


def test_auto_never_splits_for_less_than_5_basis_points() -> None:
    for sol in range(150, 400, 10):
        taken = route(sol, 350)
        assert len(taken.legs) == 1 or gained_bps(taken) >= 5


def test_auto_splits_for_5_basis_points() -> None:
    worth_it = next(
        sol for sol in range(100, 500) if gained_bps(route(sol, 350, Strategy.SPLIT)) == 5
    )

    assert len(route(worth_it, 350).legs) == 2


def test_a_quote_without_its_pool_is_never_divided() -> None:
    request, found = quotes(1_000, 0)
    blind = (found[0], replace(found[1], pool=None))

    taken = decide(request, quotes=blind, failures=(), strategy=Strategy.SPLIT)

    assert len(taken.legs) == 1


def test_of_three_pools_the_two_that_return_the_most_share_an_order() -> None:
    request, (raydium, meteora) = quotes(1_000, 350)
    dear = constant_product.amm_v4(dearer(SOL_USDC, 200))
    orca = quote(request, Offer(venue="orca", curve="cp", pool=dear, block_height=7))

    taken = decide(request, quotes=(raydium, meteora, orca), failures=())

    assert taken.venue == "raydium+orca"


# Beyond a pool -----------------------------------------------------------------------------------


def quoted(
    sol: int, strategy: Strategy = Strategy.AUTO, **pools: tuple[MakePool, int]
) -> tuple[SwapRequest, Route]:
    """A route between pools that may be too small; each with the block of its answer."""
    request = SwapRequest(token_in=SOL, token_out=USDC, amount_in=sol * 10**9, slippage_bps=100)
    found, failures = [], []
    for venue, (make, height) in pools.items():
        offer = Offer(venue=venue, curve="any", block_height=height, pool=make(SOL_USDC))
        try:
            found.append(quote(request, offer))
        except PoolTooSmall as error:
            failures.append(QuoteFailure.of(venue, error))
    taken = decide(request, quotes=tuple(found), failures=tuple(failures), strategy=strategy)
    return request, taken


def test_a_pool_that_is_too_small_for_all_of_an_order_takes_a_part() -> None:
    request, taken = quoted(4_500, raydium=(clmm.pool, 7), meteora=(constant_product.damm_v2, 7))

    assert [failure.venue for failure in taken.failures] == ["raydium"]
    assert (taken.venue, taken.reason) == ("meteora+raydium", Reason.SPLIT_IMPROVES)
    assert sum(leg.quote.amount_in for leg in taken.legs) == request.amount_in
    assert taken.min_amount_out == min_amount_out(taken.amount_out, 100)
    assert gained_bps(taken) > 2_000
    assert taken.explanation.endswith(f"{gained_bps(taken)} bps more")


def test_what_no_pool_takes_alone_two_take_together() -> None:
    request, taken = quoted(5_000, raydium=(clmm.pool, 7), meteora=(dlmm.pool, 7))

    assert taken.quotes == ()
    assert (taken.venue, taken.reason) == ("raydium+meteora", Reason.SPLIT_IMPROVES)
    assert sum(leg.quote.amount_in for leg in taken.legs) == request.amount_in
    assert taken.explanation.endswith("USDC: none takes all of it alone")


@pytest.mark.parametrize(
    ("sol", "blocks", "strategy"),
    [
        (9_000, (7, 7), Strategy.AUTO),
        (5_000, (7, 8), Strategy.AUTO),
        (5_000, (7, 7), Strategy.BEST),
    ],
)
def test_what_two_pools_cannot_or_may_not_take_together_is_refused(
    sol: int, blocks: tuple[int, int], strategy: Strategy
) -> None:
    with pytest.raises(OrderRejected, match="INSUFFICIENT_LIQUIDITY: raydium: the pool cannot"):
        quoted(sol, strategy, raydium=(clmm.pool, blocks[0]), meteora=(dlmm.pool, blocks[1]))


@pytest.mark.parametrize("sol", [5_000, 6_500, 8_000, 20_000])
@pytest.mark.parametrize("makes", [*product(CONCENTRATED, [constant_product.damm_v2, dlmm.pool])])
def test_beyond_a_pool_no_division_on_a_fine_grid_is_better_and_none_drains(
    makes: tuple[MakePool, MakePool], sol: int
) -> None:
    amount_in = sol * 10**9
    first, second = makes[0](SOL_USDC), makes[1](SOL_USDC)

    amounts = best_split(first, second, amount_in)

    cells = [amount_in * cell // 200 for cell in range(201)]
    fit = [part for part in cells if fits(first, part) and fits(second, amount_in - part)]
    if not fit:
        assert 0 in amounts
        return
    assert fits(first, amounts[0])
    assert fits(second, amounts[1])
    best = max(together(first, second, (part, amount_in - part)) for part in fit)
    assert (best - together(first, second, amounts)) * 100_000 <= best


def fits(pool: Pool, part: int) -> bool:
    """A percent less than what would drain the pool."""
    try:
        return output(pool, part) * 100 <= pool.reserve_out * 98
    except ValueError:
        return False


def test_a_search_walks_each_pool_once_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    # 21 points of the grid, 26 turns of the golden section (a tenth to a millionth), a few beside.
    walked: list[int] = []
    swap = dlmm.DlmmPool.swap
    monkeypatch.setattr(
        dlmm.DlmmPool, "swap", lambda pool, part: walked.append(part) or swap(pool, part)
    )
    best_split(clmm.pool(SOL_USDC), dlmm.pool(SOL_USDC), 1_000 * 10**9)
    assert len(walked) <= 21 + 26 + 6


def test_the_figures_of_the_documents_can_be_worked_out(capsys: pytest.CaptureFixture[str]) -> None:
    """`make figures`; its times are left out, which take a minute."""
    figures.gains()

    assert capsys.readouterr().out.count("1000 SOL") == 2
