"""Raydium CLMM: what it refuses, and what must hold for every pool."""

from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dex.curves import raydium_clmm
from dex.curves.clmm_ticks import (
    MAX_SQRT_PRICE,
    MAX_TICK,
    MIN_SQRT_PRICE,
    MIN_TICK,
    sqrt_price_at,
    tick_at,
)

Q64 = 1 << 64
STEP = {
    "sqrt_price": Q64,
    "sqrt_target": sqrt_price_at(-60),
    "liquidity": 10**12,
    "amount": 10**6,
    "fee_rate": 2_500,
    "exact_in": True,
    "zero_for_one": True,
}
# Liquidity 10^12 in ±600, nothing from 600 to 1,200, 10^12 from there to 1,800.
POOL = {
    "tick": 0,
    "sqrt_price": Q64,
    "liquidity": 10**12,
    "tick_spacing": 60,
    "fee_rate": 2_500,
    "ticks": [[-600, 10**12], [600, -(10**12)], [1_200, 10**12], [1_800, -(10**12)]],
}
SELL_0 = {"zero_for_one": True, "exact_in": True}
SELL_1 = {"zero_for_one": False, "exact_in": True}
BUY_0 = {"zero_for_one": False, "exact_in": False}

many = settings(max_examples=40, deadline=None)
rates = st.sampled_from([0, 100, 400, 2_500, 10_000])
amounts = st.integers(1, 1_000) | st.integers(1, 10**9) | st.integers(1, 10**14)


@st.composite
def steps(draw: st.DrawFn) -> dict[str, Any]:
    start = draw(st.integers(-120_000, 120_000))
    width = draw(st.integers(1, 20) | st.integers(1, 5_000))
    zero_for_one = draw(st.booleans())
    return {
        "sqrt_price": draw(st.integers(sqrt_price_at(start), sqrt_price_at(start + 1))),
        "sqrt_target": sqrt_price_at(start - width if zero_for_one else start + 1 + width),
        "liquidity": draw(st.integers(0, 10**6) | st.integers(1, 10**15)),
        "amount": draw(amounts),
        "fee_rate": draw(rates),
        "exact_in": draw(st.booleans()),
        "zero_for_one": zero_for_one,
        "fee_on_input": draw(st.booleans()),
    }


@st.composite
def pools(draw: st.DrawFn) -> dict[str, Any]:
    """Up to four overlapping positions near the price, now and then none around it."""
    spacing = draw(st.sampled_from([1, 10, 60]))
    tick = draw(st.integers(-50_000, 50_000))
    near = tick // spacing
    nets: dict[int, int] = {}
    for _ in range(draw(st.integers(1, 4))):
        lower = near + draw(st.integers(-60, 20))
        upper = lower + draw(st.integers(1, 80))
        liquidity = draw(st.integers(10**6, 10**15))
        nets[lower * spacing] = nets.get(lower * spacing, 0) + liquidity
        nets[upper * spacing] = nets.get(upper * spacing, 0) - liquidity
    return {
        "tick": tick,
        "sqrt_price": draw(st.integers(sqrt_price_at(tick), sqrt_price_at(tick + 1) - 1)),
        "liquidity": sum(net for start, net in nets.items() if start <= tick),
        "tick_spacing": spacing,
        "fee_rate": draw(rates),
        "ticks": [[start, nets[start]] for start in sorted(nets)],
        "zero_for_one": draw(st.booleans()),
    }


def holdings(pool: Mapping[str, Any]) -> Fraction:
    """What the ranges hold of the token a swap buys, not rounded."""
    held, active = Fraction(), 0
    for (start, net), (end, _) in pairwise(pool["ticks"]):
        active += net
        lower, upper = sqrt_price_at(start), sqrt_price_at(end)
        if pool["zero_for_one"]:
            upper = min(max(pool["sqrt_price"], lower), upper)
            held += Fraction(active * (upper - lower), Q64)
        else:
            lower = max(min(pool["sqrt_price"], upper), lower)
            held += Fraction(active * Q64 * (upper - lower), lower * upper)
    return held


def after(pool: Mapping[str, Any], swap: Mapping[str, Any]) -> dict[str, Any]:
    return dict(pool) | {
        "tick": swap["end_tick"],
        "sqrt_price": swap["end_sqrt_price"],
        "liquidity": swap["end_liquidity"],
        "zero_for_one": not pool["zero_for_one"],
    }


def test_net_liquidity_may_be_an_integer_or_its_decimals() -> None:
    decimals = [[tick, str(net)] for tick, net in POOL["ticks"]]

    assert raydium_clmm.swap(
        **POOL | SELL_0 | {"amount": 10**9, "ticks": decimals}
    ) == raydium_clmm.swap(**POOL | SELL_0 | {"amount": 10**9})


@pytest.mark.parametrize("amount", [-1, 0, 2**64])
def test_an_amount_outside_u64_is_refused(amount: int) -> None:
    with pytest.raises(ValueError, match="amount must be between 1 and"):
        raydium_clmm.step(**STEP | {"amount": amount})
    with pytest.raises(ValueError, match="amount must be between 1 and"):
        raydium_clmm.swap(**POOL | SELL_0 | {"amount": amount})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sqrt_target": sqrt_price_at(60)}, "wrong side"),
        ({"sqrt_target": MIN_SQRT_PRICE - 1}, "no price of a tick"),
        ({"sqrt_price": MAX_SQRT_PRICE + 1}, "no price of a tick"),
        ({"liquidity": -1}, "liquidity must be"),
        ({"liquidity": 2**128}, "liquidity must be"),
        ({"fee_rate": 1_000_000}, "fee_rate must be"),
    ],
)
def test_a_step_no_pool_can_make_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        raydium_clmm.step(**STEP | change)


def test_a_step_whose_input_passes_u64_is_refused() -> None:
    to_the_end = {"sqrt_target": MIN_SQRT_PRICE, "liquidity": 2**63, "exact_in": False}

    with pytest.raises(ValueError, match="the step moves"):
        raydium_clmm.step(**STEP | to_the_end | {"amount": 2**64 - 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ticks": [[-601, 10**12]]}, "no multiple of the spacing"),
        ({"ticks": [[-443_640, 10**12]]}, "tick must be between"),
        ({"ticks": [[-600, 10**12 + 1]]}, "leaves liquidity -1"),
        ({"tick": 120, "ticks": [[60, 10**12]]}, "does not belong"),
    ],
)
def test_ticks_that_contradict_the_pool_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        raydium_clmm.swap(**POOL | SELL_0 | {"amount": 10**15} | change)


def test_an_output_whose_cost_passes_u64_in_all_is_refused() -> None:
    liquidity = 5 * 10**18
    ticks = [[0, liquidity], [20_000, 0], [30_000, 0], [34_000, -liquidity]]
    pool = POOL | {"liquidity": liquidity, "ticks": ticks, "tick_spacing": 10}

    with pytest.raises(ValueError, match="the swap moves"):
        raydium_clmm.swap(**pool | BUY_0 | {"amount": 4 * 10**18})


def test_a_swap_runs_out_of_ticks_and_says_what_is_left() -> None:
    answer = raydium_clmm.swap(**POOL | SELL_1 | {"amount": 10**15})

    assert answer["filled"] is False
    assert answer["remaining"] + answer["amount_in"] == 10**15
    assert (answer["end_tick"], answer["end_liquidity"]) == (1_800, 0)
    assert answer["end_sqrt_price"] == sqrt_price_at(1_800)


def test_a_range_without_liquidity_is_crossed_for_nothing() -> None:
    to_the_gap = raydium_clmm.swap(**POOL | SELL_1 | {"amount": 10**15, "ticks": POOL["ticks"][:2]})
    across = [*POOL["ticks"][:2], [1_200, 0]]
    answer = raydium_clmm.swap(**POOL | SELL_1 | {"amount": 10**15, "ticks": across})

    assert answer["end_sqrt_price"] == sqrt_price_at(1_200)
    assert (answer["amount_in"], answer["amount_out"]) == (
        to_the_gap["amount_in"],
        to_the_gap["amount_out"],
    )


def test_a_swap_that_ends_on_a_tick_crosses_it() -> None:
    full = raydium_clmm.swap(**POOL | SELL_1 | {"amount": 10**15, "ticks": POOL["ticks"][:2]})

    answer = raydium_clmm.swap(**POOL | SELL_1 | {"amount": full["amount_in"]})

    assert answer["filled"] is True
    assert (answer["end_tick"], answer["end_liquidity"]) == (600, 0)


def test_an_input_the_fee_eats_moves_neither_price_nor_tick() -> None:
    on_a_crossed_tick = POOL | {"tick": -1, "liquidity": 10**12}

    answer = raydium_clmm.swap(**on_a_crossed_tick | SELL_0 | {"amount": 1})

    assert (answer["amount_out"], answer["net_in"], answer["fee"]) == (0, 0, 1)
    assert (answer["end_sqrt_price"], answer["end_tick"]) == (Q64, -1)


@pytest.mark.parametrize(
    ("direction", "end"), [(SELL_0, MIN_SQRT_PRICE + 1), (SELL_1, MAX_SQRT_PRICE - 1)]
)
def test_at_the_end_of_all_prices_the_rest_remains(direction: dict[str, bool], end: int) -> None:
    pool = POOL | {"liquidity": 10, "tick_spacing": 1, "ticks": [[MIN_TICK, 10], [MAX_TICK, -10]]}

    answer = raydium_clmm.swap(**pool | direction | {"amount": 2**64 - 1})
    again = raydium_clmm.swap(
        **pool | direction | {"amount": 5, "tick": answer["end_tick"], "sqrt_price": end}
    )

    assert (answer["end_sqrt_price"], answer["filled"]) == (end, False)
    assert answer["remaining"] + answer["amount_in"] == 2**64 - 1
    assert (again["filled"], again["remaining"]) == (False, 5)


def test_a_tick_and_its_price_lead_to_each_other() -> None:
    for tick in (*range(MIN_TICK, MAX_TICK, 89), MIN_TICK + 1, MAX_TICK - 1, MAX_TICK):
        price = sqrt_price_at(tick)
        assert tick_at(price) == tick
        assert tick == MIN_TICK or tick_at(price - 1) == tick - 1


def test_the_outermost_prices_are_those_of_the_outermost_ticks() -> None:
    assert (sqrt_price_at(MIN_TICK), sqrt_price_at(MAX_TICK)) == (MIN_SQRT_PRICE, MAX_SQRT_PRICE)


@pytest.mark.parametrize("tick", [MIN_TICK - 1, MAX_TICK + 1])
def test_a_tick_beyond_the_outermost_is_refused(tick: int) -> None:
    with pytest.raises(ValueError, match="tick must be between"):
        raydium_clmm.tick(tick=tick, probe=Q64)


@pytest.mark.parametrize("probe", [0, MIN_SQRT_PRICE - 1, MAX_SQRT_PRICE + 1])
def test_a_price_beyond_the_outermost_is_refused(probe: int) -> None:
    with pytest.raises(ValueError, match="sqrt price must be between"):
        raydium_clmm.tick(tick=0, probe=probe)


@many
@given(step=steps())
def test_a_step_never_lets_value_leave_the_range(step: dict[str, Any]) -> None:
    answer = raydium_clmm.step(**step)

    liquidity, price = step["liquidity"], step["sqrt_price"]
    gross_out = answer["amount_out"] + (0 if step["fee_on_input"] else answer["fee"])
    token_0, token_1 = Fraction(liquidity * Q64, price), Fraction(liquidity * price, Q64)
    held_in, held_out = (token_0, token_1) if step["zero_for_one"] else (token_1, token_0)
    assert (held_in + answer["amount_in"]) * (held_out - gross_out) >= liquidity**2


@many
@given(step=steps())
def test_a_step_takes_what_was_given_or_stops_at_its_target(step: dict[str, Any]) -> None:
    answer = raydium_clmm.step(**step)

    paid = answer["amount_in"] + (answer["fee"] if step["fee_on_input"] else 0)
    used = paid if step["exact_in"] else answer["amount_out"]
    lower, upper = sorted((step["sqrt_price"], step["sqrt_target"]))
    assert lower <= answer["next_sqrt_price"] <= upper
    assert used <= step["amount"]
    assert used == step["amount"] or answer["next_sqrt_price"] == step["sqrt_target"]


@many
@given(step=steps())
def test_the_fee_of_a_step_is_never_below_its_rate(step: dict[str, Any]) -> None:
    answer = raydium_clmm.step(**step)

    charged_on = answer["amount_in"] if step["fee_on_input"] else answer["amount_out"]
    rate = step["fee_rate"]
    short_by_a_cap = not step["fee_on_input"] and not step["exact_in"]
    assert (answer["fee"] + short_by_a_cap) * (1_000_000 - rate) >= charged_on * rate


@many
@given(pool=pools(), amount=amounts)
def test_a_swap_gives_no_more_than_the_ranges_hold(pool: dict[str, Any], amount: int) -> None:
    answer = raydium_clmm.swap(**pool, exact_in=True, amount=amount)

    assert answer["amount_out"] <= holdings(pool)
    assert answer["amount_in"] + answer["remaining"] == amount
    assert answer["net_in"] + answer["fee"] == answer["amount_in"]


@many
@given(pool=pools(), one=amounts, other=amounts)
def test_more_input_never_gives_less_output(pool: dict[str, Any], one: int, other: int) -> None:
    less, more = (
        raydium_clmm.swap(**pool, exact_in=True, amount=amount) for amount in sorted((one, other))
    )

    assert less["amount_out"] <= more["amount_out"]


@many
@given(pool=pools(), amount=amounts)
def test_what_an_output_costs_is_what_an_input_must_be_to_buy_it(
    pool: dict[str, Any], amount: int
) -> None:
    given_in = raydium_clmm.swap(**pool, exact_in=True, amount=amount)
    wanted = given_in["amount_out"]

    if wanted:
        cost = raydium_clmm.swap(**pool, exact_in=False, amount=wanted)
        assert (cost["filled"], cost["amount_out"]) == (True, wanted)
        assert cost["amount_in"] <= given_in["amount_in"]
        bought = raydium_clmm.swap(**pool, exact_in=True, amount=cost["amount_in"])
        assert bought["amount_out"] >= wanted


@many
@given(pool=pools(), amount=amounts)
def test_there_and_back_never_returns_more_than_was_paid(pool: dict[str, Any], amount: int) -> None:
    there = raydium_clmm.swap(**pool, exact_in=True, amount=amount)

    if there["amount_out"]:
        back = raydium_clmm.swap(**after(pool, there), exact_in=True, amount=there["amount_out"])
        assert back["amount_out"] <= there["amount_in"]


@many
@given(pool=pools(), amount=amounts)
def test_the_tick_a_swap_ends_in_holds_its_price(pool: dict[str, Any], amount: int) -> None:
    answer = raydium_clmm.swap(**pool, exact_in=True, amount=amount)

    end, price = answer["end_tick"], answer["end_sqrt_price"]
    assert sqrt_price_at(end) <= price <= sqrt_price_at(end + 1)
    active = sum(net for start, net in pool["ticks"] if start <= end)
    assert answer["end_liquidity"] == active
