"""Meteora DLMM: bins of constant price, drained one after the other.

Facts from MeteoraAg/dlmm-sdk, `commons/src/` (quote.rs, extensions/bin.rs, extensions/lb_pair.rs),
and the npm package `@meteora-ag/dlmm` 1.9.14 (ISC), `swapQuote` and `swapQuoteExactOut` in
`src/dlmm/index.ts`, which the answers equal to the unit. A part fill is refused, as there.
"""

from typing import Any, TypedDict

from dex.curves.dlmm_bins import NOTHING
from dex.curves.dlmm_pool import Pool
from dex.curves.dlmm_prices import price_of
from dex.curves.integers import require_amount


class Price(TypedDict):
    price_x64: int


class ExactIn(TypedDict):
    """Base units.

    `net_in` is what reaches the bins and `gross_out` what leaves them: a fee on the input is
    `consumed_in - net_in`, one on the output `gross_out - amount_out`. `fee` is the liquidity
    providers' part and leaves out `protocol_fee`; a last unit that only pays its own fee is in
    neither, as in the SDK. `end_id` is the active bin after the swap.
    """

    consumed_in: int
    net_in: int
    gross_out: int
    amount_out: int
    fee: int
    protocol_fee: int
    end_id: int


class ExactOut(TypedDict):
    """Base units, fields as in ExactIn.

    The input is whole units, which may buy more than was asked for; `gross_out` has it all. Where
    that is more than one unit too many, the protocol has them: `protocol_fee` counts them in, in
    units of the output, as in the SDK.
    """

    amount_in: int
    net_in: int
    gross_out: int
    fee: int
    protocol_fee: int
    end_id: int


def exact_in(*, amount_in: int, swap_for_y: bool, **pool_state: Any) -> ExactIn:
    """What `amount_in` of X (`swap_for_y`) or Y returns; `pool_state` are the fields of Pool.

    `amount_out` is 0 where the input buys less than one unit. ValueError for amounts outside
    1 … 2^64 - 1 and where the bins cannot take the whole input.
    """
    require_amount("amount_in", amount_in)
    pool = Pool(**pool_state)
    left, end_id, total = amount_in, pool.active_id, NOTHING
    for bin_ in pool.path(swap_for_y=swap_for_y):
        fill = bin_.exact_in(left)
        left, end_id, total = left - fill.amount_in, bin_.id, total.plus(fill)
        if left == 0:
            break
    if left:
        raise ValueError(f"the bins take {amount_in - left} of amount_in {amount_in}, no more")
    return {
        "consumed_in": total.amount_in,
        "net_in": total.net_in,
        "gross_out": total.gross_out,
        "amount_out": total.amount_out,
        "fee": total.fee,
        "protocol_fee": total.protocol_fee,
        "end_id": end_id,
    }


def exact_out(*, amount_out: int, swap_for_y: bool, **pool_state: Any) -> ExactOut:
    """What `amount_out` of Y (`swap_for_y`) or X costs; `pool_state` are the fields of Pool.

    ValueError for amounts outside 1 … 2^64 - 1, the input it would take included, and where the
    bins hold less.
    """
    require_amount("amount_out", amount_out)
    pool = Pool(**pool_state)
    left, end_id, total = amount_out, pool.active_id, NOTHING
    for bin_ in pool.path(swap_for_y=swap_for_y):
        fill = bin_.exact_out(left)
        if fill.amount_out == 0:
            continue  # its fee would take all it pays, so it is passed over, free of charge
        left, end_id, total = left - fill.amount_out, bin_.id, total.plus(fill)
        if left == 0:
            break
    if left:
        raise ValueError(f"the bins pay {amount_out - left} of amount_out {amount_out}, no more")
    require_amount("amount_in", total.amount_in)
    return {
        "amount_in": total.amount_in,
        "net_in": total.net_in,
        "gross_out": total.gross_out,
        "fee": total.fee,
        "protocol_fee": total.protocol_fee,
        "end_id": end_id,
    }


def price(*, bin_step: int, id: int) -> Price:
    """Price of a bin, (1 + bin_step/10,000)^id of Y per X in base units, as Q64.64.

    ValueError for a bin step outside 1 … 400 and for an id whose price Q64.64 cannot hold.
    """
    return {"price_x64": price_of(bin_step, id)}
