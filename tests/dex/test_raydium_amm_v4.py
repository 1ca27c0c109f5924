"""Raydium AMM v4: what it refuses, and what must hold for every pool."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dex.curves.raydium_amm_v4 import exact_in, exact_out

POOL = {"reserve_in": 10**13, "reserve_out": 15 * 10**11}
U64_MAX = 2**64 - 1

reserves = st.integers(1, U64_MAX) | st.integers(10**6, 10**15)
amounts = st.integers(1, 10_000) | st.integers(1, 10**15) | st.integers(1, U64_MAX)
many = settings(max_examples=50, deadline=None)


@pytest.mark.parametrize("amount", [-1, 0, 2**64])
def test_an_amount_or_reserve_outside_u64_is_refused(amount: int) -> None:
    with pytest.raises(ValueError, match="amount_in must be between 1 and"):
        exact_in(amount_in=amount, **POOL)
    with pytest.raises(ValueError, match="amount_out must be between 1 and"):
        exact_out(amount_out=amount, **POOL)
    with pytest.raises(ValueError, match="reserve_in must be between 1 and"):
        exact_in(amount_in=1, **POOL | {"reserve_in": amount})
    with pytest.raises(ValueError, match="reserve_out must be between 1 and"):
        exact_out(amount_out=1, **POOL | {"reserve_out": amount})


def test_no_pool_gives_all_it_has() -> None:
    with pytest.raises(ValueError, match="the pool holds"):
        exact_out(amount_out=POOL["reserve_out"], **POOL)


def test_an_output_whose_price_passes_u64_is_refused() -> None:
    with pytest.raises(ValueError, match="amount_in must be between 1 and"):
        exact_out(reserve_in=2**63, reserve_out=10**6, amount_out=10**6 - 1)


def test_an_input_smaller_than_its_fee_buys_nothing() -> None:
    assert exact_in(amount_in=1, **POOL) == {"amount_out": 0, "net_in": 0, "fee": 1}


def test_an_output_worth_less_than_a_unit_of_input_is_not_given_away() -> None:
    answer = exact_out(reserve_in=5, reserve_out=10**12, amount_out=1)

    assert answer == {"amount_in": 2, "net_in": 1, "fee": 1}


@many
@given(reserve_in=reserves, reserve_out=reserves, amount_in=amounts)
def test_the_output_stays_below_the_reserve_and_the_product_never_falls(
    reserve_in: int, reserve_out: int, amount_in: int
) -> None:
    answer = exact_in(reserve_in=reserve_in, reserve_out=reserve_out, amount_in=amount_in)

    left = reserve_out - answer["amount_out"]
    assert left > 0
    assert (reserve_in + answer["net_in"]) * left >= reserve_in * reserve_out
    assert answer["net_in"] + answer["fee"] == amount_in
    assert answer["fee"] * 10_000 >= amount_in * 25


@many
@given(reserve_in=reserves, reserve_out=reserves, one=amounts, other=amounts)
def test_more_input_never_gives_less_output(
    reserve_in: int, reserve_out: int, one: int, other: int
) -> None:
    less, more = (
        exact_in(reserve_in=reserve_in, reserve_out=reserve_out, amount_in=amount)
        for amount in sorted((one, other))
    )

    assert less["amount_out"] <= more["amount_out"]


@many
@given(reserve_in=st.integers(1, 10**15), reserve_out=st.integers(2, U64_MAX), data=st.data())
def test_what_an_output_costs_buys_at_least_that_output(
    reserve_in: int, reserve_out: int, data: st.DataObject
) -> None:
    most = max(1, reserve_out - 1 - reserve_out // 10_000)
    wanted = data.draw(st.integers(1, most) | st.integers(1, min(most, 1_000)))
    pool = {"reserve_in": reserve_in, "reserve_out": reserve_out}
    cost = exact_out(amount_out=wanted, **pool)

    assert exact_in(amount_in=cost["amount_in"], **pool)["amount_out"] >= wanted
    assert (reserve_in + cost["net_in"]) * (reserve_out - wanted) >= reserve_in * reserve_out


@many
@given(reserve_in=reserves, reserve_out=reserves, amount_in=amounts)
def test_asking_for_what_an_input_returned_never_costs_more_than_that_input(
    reserve_in: int, reserve_out: int, amount_in: int
) -> None:
    pool = {"reserve_in": reserve_in, "reserve_out": reserve_out}
    amount_out = exact_in(amount_in=amount_in, **pool)["amount_out"]

    if amount_out:
        assert exact_out(amount_out=amount_out, **pool)["amount_in"] <= amount_in
