"""Raydium CPMM: constant product with a trade fee on the input.

Formulas from raydium-io/raydium-cp-swap (Apache-2.0), `programs/cp-swap/src/curve/calculator.rs`,
`constant_product.rs` and `fees.rs`. Fee rates are over 1,000,000; the protocol's and the fund's
fee are parts of the trade fee; the creator's fee is added to it on the input or taken off the
output. On the input the program rounds the sum up once and splits it, where `swapBaseInput` of
raydium-sdk-v2 rounds each of the two up: that can be one unit of input more.
"""

from dataclasses import dataclass
from typing import TypedDict

from dex.curves.integers import ceil_div, require_amount, require_reserves

FEE_DENOMINATOR = 1_000_000


class ExactIn(TypedDict):
    """Base units. `trade_fee` is in the input token and leaves out `creator_fee`."""

    amount_out: int
    trade_fee: int
    protocol_fee: int
    fund_fee: int
    creator_fee: int


class ExactOut(TypedDict):
    """Base units. `trade_fee` is in the input token and leaves out `creator_fee`."""

    amount_in: int
    trade_fee: int
    protocol_fee: int
    fund_fee: int
    creator_fee: int


@dataclass(frozen=True, slots=True)
class _InputFees:
    trade: int
    creator: int


def exact_in(
    *,
    reserve_in: int,
    reserve_out: int,
    amount_in: int,
    trade_fee_rate: int,
    creator_fee_rate: int = 0,
    protocol_fee_rate: int = 0,
    fund_fee_rate: int = 0,
    creator_fee_on_input: bool = False,
) -> ExactIn:
    """What `amount_in` returns. ValueError for amounts or reserves outside 1 … 2^64 - 1."""
    require_reserves(reserve_in, reserve_out)
    require_amount("amount_in", amount_in)
    input_creator_rate = creator_fee_rate if creator_fee_on_input else 0
    fees = _split(
        ceil_div(amount_in * (trade_fee_rate + input_creator_rate), FEE_DENOMINATOR),
        trade_fee_rate,
        input_creator_rate,
    )
    net_in = amount_in - fees.trade - fees.creator
    amount_out = net_in * reserve_out // (reserve_in + net_in)
    creator_fee = fees.creator
    if not creator_fee_on_input:
        creator_fee = ceil_div(amount_out * creator_fee_rate, FEE_DENOMINATOR)
        amount_out -= creator_fee
    return {
        "amount_out": amount_out,
        "trade_fee": fees.trade,
        "protocol_fee": fees.trade * protocol_fee_rate // FEE_DENOMINATOR,
        "fund_fee": fees.trade * fund_fee_rate // FEE_DENOMINATOR,
        "creator_fee": creator_fee,
    }


def exact_out(
    *,
    reserve_in: int,
    reserve_out: int,
    amount_out: int,
    trade_fee_rate: int,
    creator_fee_rate: int = 0,
    protocol_fee_rate: int = 0,
    fund_fee_rate: int = 0,
    creator_fee_on_input: bool = False,
) -> ExactOut:
    """What `amount_out` costs.

    ValueError for amounts or reserves outside 1 … 2^64 - 1, and for an output the pool has not.
    """
    require_reserves(reserve_in, reserve_out)
    require_amount("amount_out", amount_out)
    input_creator_rate = creator_fee_rate if creator_fee_on_input else 0
    output_creator_rate = creator_fee_rate - input_creator_rate
    gross_out = ceil_div(amount_out * FEE_DENOMINATOR, FEE_DENOMINATOR - output_creator_rate)
    if gross_out >= reserve_out:
        raise ValueError(f"the pool holds {reserve_out}, less than {gross_out}")
    net_in = ceil_div(reserve_in * gross_out, reserve_out - gross_out)
    input_rate = trade_fee_rate + input_creator_rate
    amount_in = ceil_div(net_in * FEE_DENOMINATOR, FEE_DENOMINATOR - input_rate)
    require_amount("amount_in", amount_in)
    fees = _split(amount_in - net_in, trade_fee_rate, input_creator_rate)
    return {
        "amount_in": amount_in,
        "trade_fee": fees.trade,
        "protocol_fee": fees.trade * protocol_fee_rate // FEE_DENOMINATOR,
        "fund_fee": fees.trade * fund_fee_rate // FEE_DENOMINATOR,
        "creator_fee": fees.creator if creator_fee_on_input else gross_out - amount_out,
    }


def _split(total: int, trade_fee_rate: int, creator_fee_rate: int) -> _InputFees:
    if creator_fee_rate == 0:
        return _InputFees(total, 0)
    creator = total * creator_fee_rate // (trade_fee_rate + creator_fee_rate)
    return _InputFees(total - creator, creator)
