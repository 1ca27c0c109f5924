"""Raydium AMM v4: constant product with a fee of 25 basis points on the input.

Formulas from raydium-io/raydium-amm (Apache-2.0), `program/src/processor.rs`
(`process_swap_base_in`, `process_swap_base_out`) and `program/src/math.rs`. Reserves are the
vaults less what the pool owes as profit (`need_take_pnl`).
"""

from typing import TypedDict

from dex.curves.integers import ceil_div, require_amount, require_reserves

FEE_NUMERATOR = 25
FEE_DENOMINATOR = 10_000


class ExactIn(TypedDict):
    """Base units. `net_in` is what reaches the curve: the input less `fee`."""

    amount_out: int
    net_in: int
    fee: int


class ExactOut(TypedDict):
    """Base units. `net_in` is what reaches the curve: the input less `fee`."""

    amount_in: int
    net_in: int
    fee: int


def exact_in(*, reserve_in: int, reserve_out: int, amount_in: int) -> ExactIn:
    """What `amount_in` returns. ValueError for amounts or reserves outside 1 … 2^64 - 1.

    An output of 0 is answered as such; the program refuses that swap.
    """
    require_reserves(reserve_in, reserve_out)
    require_amount("amount_in", amount_in)
    fee = ceil_div(amount_in * FEE_NUMERATOR, FEE_DENOMINATOR)
    net_in = amount_in - fee
    amount_out = net_in * reserve_out // (reserve_in + net_in)
    return {"amount_out": amount_out, "net_in": net_in, "fee": fee}


def exact_out(*, reserve_in: int, reserve_out: int, amount_out: int) -> ExactOut:
    """What the program charges for `amount_out`: rounded up before the fee and after it.

    The npm package `@raydium-io/raydium-sdk-v2` asks for less, and such a swap fails.
    ValueError for amounts or reserves outside 1 … 2^64 - 1, and for an output the pool has not.
    """
    require_reserves(reserve_in, reserve_out)
    require_amount("amount_out", amount_out)
    if amount_out >= reserve_out:
        raise ValueError(f"the pool holds {reserve_out}, no more than {amount_out}")
    net_in = ceil_div(reserve_in * amount_out, reserve_out - amount_out)
    amount_in = ceil_div(net_in * FEE_DENOMINATOR, FEE_DENOMINATOR - FEE_NUMERATOR)
    require_amount("amount_in", amount_in)
    return {"amount_in": amount_in, "net_in": net_in, "fee": amount_in - net_in}
