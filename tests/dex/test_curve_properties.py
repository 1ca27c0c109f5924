"""What holds for every pool and amount: a curve never gives away more than it must."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt
from types import ModuleType
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dex.curves import meteora_damm_v2, raydium_cpmm
from dex.curves.damm_v2_pool import Pool as DammPool
from dex.curves.integers import U64_MAX

CPMM, COMPOUNDING, PRICE_RANGE = "cpmm", "damm compounding", "damm price range"
CURVES = [CPMM, COMPOUNDING, PRICE_RANGE]
properties = settings(max_examples=40, deadline=None, derandomize=True)


def spread(low: int, high: int) -> st.SearchStrategy[int]:
    """Every magnitude equally often, where a wide st.integers draws mostly near its lower end."""
    return st.integers(0, 250).map(
        lambda step: max(low, min(high, int(low * (high / low) ** (step / 250))))
    )


RESERVES = spread(1, 10**18)


@dataclass(frozen=True, kw_only=True)
class Swap:
    """Base units: what the trader pays and gets, and what of it moves the curve."""

    amount_in: int
    net_in: int
    gross_out: int
    amount_out: int
    fee_parts: tuple[int, ...]
    next_sqrt_price: int


@dataclass(frozen=True, kw_only=True)
class Market:
    """A pool and a direction; the fee rates are over `denominator`.

    `held` is what the pool has of the token bought, `reserve_in` of the token sold (constant
    product only), `most_in` the most that the curve takes without a refusal.
    """

    module: ModuleType
    state: Mapping[str, Any]
    held: int
    reserve_in: int = 0
    most_in: int = U64_MAX
    input_rate: int
    output_rate: int
    denominator: int

    def sell(self, amount_in: int) -> Swap:
        answer = self.module.exact_in(amount_in=amount_in, **self.state)
        return self._swap({"amount_in": amount_in, **answer})

    def buy(self, amount_out: int) -> Swap:
        answer = self.module.exact_out(amount_out=amount_out, **self.state)
        return self._swap({"amount_out": amount_out, **answer})

    def _swap(self, answer: Mapping[str, int]) -> Swap:
        amount_in, amount_out = answer["amount_in"], answer["amount_out"]
        if self.module is meteora_damm_v2:
            parts = tuple(value for name, value in answer.items() if name.endswith("_fee"))
            fee_in, fee_out = (sum(parts), 0) if self.input_rate else (0, sum(parts))
        else:
            parts = (answer["trade_fee"], answer["creator_fee"])
            on_input = self.state["creator_fee_on_input"]
            fee_in, fee_out = (sum(parts), 0) if on_input else parts
        return Swap(
            amount_in=amount_in,
            net_in=answer.get("net_in", amount_in - fee_in),
            gross_out=amount_out + fee_out,
            amount_out=amount_out,
            fee_parts=parts,
            next_sqrt_price=answer.get("next_sqrt_price", 0),
        )


@st.composite
def cpmm_markets(draw: st.DrawFn) -> Market:
    reserve_in, reserve_out = draw(RESERVES), draw(RESERVES)
    trade = draw(st.sampled_from([0, 100, 2_500, 3_000, 10_000, 40_000]))
    creator, on_input = draw(st.sampled_from([0, 500, 2_000, 10_000])), draw(st.booleans())
    return Market(
        module=raydium_cpmm,
        state={
            "reserve_in": reserve_in,
            "reserve_out": reserve_out,
            "trade_fee_rate": trade,
            "creator_fee_rate": creator,
            "creator_fee_on_input": on_input,
        },
        reserve_in=reserve_in,
        held=reserve_out,
        input_rate=trade + (creator if on_input else 0),
        output_rate=0 if on_input else creator,
        denominator=1_000_000,
    )


@st.composite
def damm_markets(draw: st.DrawFn, curve: str) -> Market:
    mode = 2 if curve == COMPOUNDING else draw(st.sampled_from([0, 1]))
    a_to_b = draw(st.booleans())
    state, limits = draw((reserves if mode == 2 else price_ranges)(a_to_b=a_to_b))
    state |= draw(DAMM_FEES) | {"collect_fee_mode": mode}
    rate, on_input = DammPool(**state).fee_numerator(), mode != 0 and not a_to_b
    return Market(
        module=meteora_damm_v2,
        state=state | {"a_to_b": a_to_b, "has_referral": draw(st.booleans())},
        input_rate=rate if on_input else 0,
        output_rate=0 if on_input else rate,
        denominator=1_000_000_000,
        **limits,
    )


@st.composite
def reserves(draw: st.DrawFn, *, a_to_b: bool) -> tuple[dict[str, Any], dict[str, int]]:
    state = {
        "reserve_a": draw(RESERVES),
        "reserve_b": draw(RESERVES),
        "compounding_fee_bps": draw(st.sampled_from([0, 1_000, 5_000, 10_000])),
    }
    sold, bought = ("reserve_a", "reserve_b") if a_to_b else ("reserve_b", "reserve_a")
    return state, {"reserve_in": state[sold], "held": state[bought]}


@st.composite
def price_ranges(draw: st.DrawFn, *, a_to_b: bool) -> tuple[dict[str, Any], dict[str, int]]:
    price = draw(spread(2**56, 2**72))
    low = price * draw(st.integers(10, 990)) // 1_000
    high = price * draw(st.integers(1_010, 10_000)) // 1_000
    liquidity = (draw(spread(10**6, 10**14)) << 128) // (price - low)
    state = {
        "liquidity": liquidity,
        "sqrt_price": price,
        "sqrt_min_price": low,
        "sqrt_max_price": high,
    }
    if a_to_b:
        most_in = liquidity * (price - low) // (price * low)
        held = liquidity * (price - low) >> 128
    else:
        most_in = liquidity * (high - price) >> 128
        held = liquidity * (high - price) // (price * high)
    return state, {"most_in": min(most_in, U64_MAX), "held": held}


DAMM_FEES = st.fixed_dictionaries(
    {
        "bin_step": st.just(1),
        "protocol_fee_percent": st.just(20),
        "referral_fee_percent": st.just(20),
        "base_fee_numerator": st.sampled_from([100_000, 2_000_000, 10_000_000, 250_000_000]),
        "dynamic": st.booleans(),
        "volatility_accumulator": st.integers(0, 14_460_000),
        "variable_fee_control": st.sampled_from([0, 500, 100_000, 2**24 - 1]),
        "fee_version": st.sampled_from([0, 1]),
    }
)


def markets(curve: str) -> st.SearchStrategy[Market]:
    return cpmm_markets() if curve == CPMM else damm_markets(curve)


def a_sale(data: st.DataObject, curve: str) -> tuple[Market, Swap]:
    market = data.draw(markets(curve), label="market")
    return market, market.sell(data.draw(spread(1, market.most_in), label="amount_in"))


def a_purchase(data: st.DataObject, curve: str) -> tuple[Market, Swap, Swap]:
    """Of no more than some large sale returned, so that the pool surely has it."""
    market = data.draw(markets(curve), label="market")
    large = spread(max(1, market.most_in >> 20), market.most_in)
    sale = market.sell(data.draw(large, label="amount_in"))
    assume(sale.amount_out > 0)
    wanted = data.draw(spread(1, sale.amount_out), label="amount_out")
    return market, sale, market.buy(wanted)


def either_way(data: st.DataObject, curve: str) -> tuple[Market, Swap]:
    if data.draw(st.booleans(), label="exact in"):
        return a_sale(data, curve)
    market, _, purchase = a_purchase(data, curve)
    return market, purchase


@pytest.mark.parametrize("curve", [CPMM, COMPOUNDING])
@properties
@given(data=st.data())
def test_a_swap_never_lowers_the_product_of_the_reserves(curve: str, data: st.DataObject) -> None:
    market, swap = either_way(data, curve)

    after = (market.reserve_in + swap.net_in) * (market.held - swap.gross_out)

    assert after >= market.reserve_in * market.held


@properties
@given(data=st.data())
def test_a_swap_leaves_all_that_the_position_needs_at_its_next_price(data: st.DataObject) -> None:
    market, swap = either_way(data, PRICE_RANGE)
    liquidity, price = market.state["liquidity"], market.state["sqrt_price"]
    reached = swap.next_sqrt_price

    added_a, added_b = swap.net_in, -swap.gross_out
    if not market.state["a_to_b"]:
        added_a, added_b = added_b, added_a

    # At price p the position is L·(1/p - 1/max) of A and L·(p - min) / 2^128 of B.
    assert added_a * price * reached >= liquidity * (price - reached)
    assert added_b << 128 >= liquidity * (reached - price)


@pytest.mark.parametrize("curve", CURVES)
@properties
@given(data=st.data())
def test_no_input_takes_more_than_the_pool_holds(curve: str, data: st.DataObject) -> None:
    market = data.draw(markets(curve), label="market")
    amount_in = data.draw(spread(1, U64_MAX), label="amount_in")

    try:
        taken = market.sell(amount_in).gross_out
    except ValueError:
        assert amount_in > market.most_in
    else:
        assert taken <= market.held - (curve != PRICE_RANGE)


@pytest.mark.parametrize("curve", CURVES)
@properties
@given(data=st.data())
def test_an_output_the_pool_does_not_hold_is_refused(curve: str, data: st.DataObject) -> None:
    market = data.draw(markets(curve), label="market")
    least = market.held + (curve == PRICE_RANGE)
    assume(least <= U64_MAX)

    with pytest.raises(ValueError, match=r"the pool|the position"):
        market.buy(data.draw(spread(least, U64_MAX), label="amount_out"))


@pytest.mark.parametrize("curve", CURVES)
@properties
@given(data=st.data())
def test_more_input_never_gives_less_output(curve: str, data: st.DataObject) -> None:
    market, sale = a_sale(data, curve)
    more = data.draw(spread(sale.amount_in, market.most_in), label="more")

    assert market.sell(more).amount_out >= sale.amount_out


@pytest.mark.parametrize("curve", CURVES)
@properties
@given(data=st.data())
def test_the_smallest_input_is_answered_and_never_below_zero(
    curve: str, data: st.DataObject
) -> None:
    market = data.draw(markets(curve), label="market")

    assert market.sell(1).amount_out >= 0


@pytest.mark.parametrize("curve", CURVES)
@properties
@given(data=st.data())
def test_an_output_costs_no_more_than_an_input_that_returned_as_much(
    curve: str, data: st.DataObject
) -> None:
    _, sale, purchase = a_purchase(data, curve)

    assert purchase.amount_in <= sale.amount_in


@pytest.mark.parametrize("curve", CURVES)
@properties
@given(data=st.data())
def test_an_output_costs_the_least_input_that_returns_it(curve: str, data: st.DataObject) -> None:
    market, _, purchase = a_purchase(data, curve)
    cost, wanted = purchase.amount_in, purchase.amount_out

    assert market.sell(cost).amount_out >= wanted
    assert cost == 1 or market.sell(cost - 1).amount_out < wanted


@pytest.mark.parametrize("curve", CURVES)
@properties
@given(data=st.data())
def test_the_parts_of_the_fee_add_up_to_its_rate_rounded_up(
    curve: str, data: st.DataObject
) -> None:
    market, swap = either_way(data, curve)
    fee_in, fee_out = swap.amount_in - swap.net_in, swap.gross_out - swap.amount_out

    assert min(swap.fee_parts) >= 0
    assert sum(swap.fee_parts) == fee_in + fee_out
    for fee, amount, rate in (
        (fee_in, swap.amount_in, market.input_rate),
        (fee_out, swap.gross_out, market.output_rate),
    ):
        assert 0 <= fee * market.denominator - amount * rate < market.denominator


@properties
@given(DAMM_FEES)
def test_the_variable_part_only_adds_to_the_fee_up_to_the_cap(fees: dict[str, Any]) -> None:
    still, moving = (
        DammPool(collect_fee_mode=0, **fees | {"dynamic": dynamic}).fee_numerator()
        for dynamic in (False, True)
    )

    assert fees["base_fee_numerator"] == still <= moving
    assert moving <= (500_000_000 if fees["fee_version"] == 0 else 990_000_000)


@pytest.mark.parametrize("curve", [COMPOUNDING, PRICE_RANGE])
@properties
@given(data=st.data())
def test_selling_a_never_raises_the_price_and_selling_b_never_lowers_it(
    curve: str, data: st.DataObject
) -> None:
    market, swap = either_way(data, curve)
    before = market.state.get("sqrt_price") or isqrt(
        (market.state["reserve_b"] << 128) // market.state["reserve_a"]
    )

    if market.state["a_to_b"]:
        assert swap.next_sqrt_price <= before
    else:
        assert swap.next_sqrt_price >= before


@properties
@given(data=st.data())
def test_a_position_without_liquidity_is_refused(data: st.DataObject) -> None:
    market = data.draw(markets(PRICE_RANGE), label="market")
    empty = replace(market, state={**market.state, "liquidity": 0})
    amount = data.draw(spread(1, U64_MAX), label="amount")

    for swap in (empty.sell, empty.buy):
        with pytest.raises(ValueError, match="no liquidity"):
            swap(amount)
