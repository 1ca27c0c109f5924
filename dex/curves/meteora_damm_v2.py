"""Meteora DAMM v2: one position in a price range, or plain constant product (compounding).

Formulas from the npm package `@meteora-ag/cp-amm-sdk` (MIT), `src/math/swapQuote.ts`. The fee is
on the output, except that modes 1 and 2 take it from the input when B is sold.
"""

from typing import Any

from dex.curves import damm_v2_compounding as compounding
from dex.curves import damm_v2_price_range as price_range
from dex.curves.damm_v2_pool import COMPOUNDING, FEE_DENOMINATOR, Fees, Pool
from dex.curves.integers import ceil_div, require_amount


class ExactIn(Fees):
    """Base units. `net_in` is what reaches the curve; the four fees add up to the whole fee."""

    net_in: int
    amount_out: int
    next_sqrt_price: int


class ExactOut(Fees):
    """Base units. `net_in` is what reaches the curve; the four fees add up to the whole fee."""

    amount_in: int
    net_in: int
    next_sqrt_price: int


def exact_in(
    *, amount_in: int, a_to_b: bool, has_referral: bool = False, **pool_state: Any
) -> ExactIn:
    """What `amount_in` returns; `pool_state` are the fields of Pool.

    ValueError for amounts outside 1 … 2^64 - 1 and where the price would leave the range.
    """
    require_amount("amount_in", amount_in)
    pool = Pool(**pool_state)
    numerator = pool.fee_numerator()
    on_input = pool.fee_on_input(a_to_b=a_to_b)
    fee = ceil_div(amount_in * numerator, FEE_DENOMINATOR) if on_input else 0
    net_in = amount_in - fee
    if pool.collect_fee_mode == COMPOUNDING:
        gross_out, next_sqrt_price = compounding.given_in(*pool.reserves(a_to_b=a_to_b), net_in), 0
    elif a_to_b:
        gross_out, next_sqrt_price = price_range.sell_a(pool.position, net_in)
    else:
        gross_out, next_sqrt_price = price_range.sell_b(pool.position, net_in)
    if not on_input:
        fee = ceil_div(gross_out * numerator, FEE_DENOMINATOR)
    fees = pool.split_fee(fee, has_referral=has_referral)
    if pool.collect_fee_mode == COMPOUNDING:
        next_sqrt_price = pool.sqrt_price_after(
            net_in, gross_out, fees["compounding_fee"], a_to_b=a_to_b
        )
    return {
        "net_in": net_in,
        "amount_out": gross_out if on_input else gross_out - fee,
        "next_sqrt_price": next_sqrt_price,
        **fees,
    }


def exact_out(
    *, amount_out: int, a_to_b: bool, has_referral: bool = False, **pool_state: Any
) -> ExactOut:
    """What `amount_out` costs; `pool_state` are the fields of Pool.

    ValueError for amounts outside 1 … 2^64 - 1 and for an output the pool has not.
    """
    require_amount("amount_out", amount_out)
    pool = Pool(**pool_state)
    numerator = pool.fee_numerator()
    on_input = pool.fee_on_input(a_to_b=a_to_b)
    gross_out = amount_out if on_input else _gross(amount_out, numerator)
    if pool.collect_fee_mode == COMPOUNDING:
        net_in, next_sqrt_price = compounding.given_out(*pool.reserves(a_to_b=a_to_b), gross_out), 0
    elif a_to_b:
        net_in, next_sqrt_price = price_range.buy_b(pool.position, gross_out)
    else:
        net_in, next_sqrt_price = price_range.buy_a(pool.position, gross_out)
    amount_in = _gross(net_in, numerator) if on_input else net_in
    require_amount("amount_in", amount_in)
    fee = amount_in - net_in if on_input else gross_out - amount_out
    fees = pool.split_fee(fee, has_referral=has_referral)
    if pool.collect_fee_mode == COMPOUNDING:
        next_sqrt_price = pool.sqrt_price_after(
            net_in, gross_out, fees["compounding_fee"], a_to_b=a_to_b
        )
    return {
        "amount_in": amount_in,
        "net_in": net_in,
        "next_sqrt_price": next_sqrt_price,
        **fees,
    }


def _gross(net: int, numerator: int) -> int:
    return ceil_div(net * FEE_DENOMINATOR, FEE_DENOMINATOR - numerator)
