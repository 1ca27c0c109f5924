"""Raydium CLMM: concentrated liquidity, a swap crosses the initialized ticks one by one.

From raydium-io/raydium-clmm (Apache-2.0), `programs/amm/src/instructions/swap.rs` and
`programs/amm/src/libraries/`. Sqrt prices are Q64.64 of token 1 per token 0, fee rates over
1,000,000. `zero_for_one` sells token 0: the price falls. Left out: dynamic fee, limit orders.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import TypedDict

from dex.curves import clmm_step
from dex.curves.clmm_step import FEE_DENOMINATOR, Span, Step
from dex.curves.clmm_ticks import MAX_SQRT_PRICE, MIN_SQRT_PRICE, sqrt_price_at, tick_at
from dex.curves.clmm_walk import U128_MAX, Swap, Walk
from dex.curves.integers import require_amount


class Tick(TypedDict):
    sqrt_price_x64: int
    probe_tick: int


def tick(*, tick: int, probe: int) -> Tick:
    """The sqrt price of `tick`, and the tick the sqrt price `probe` lies in.

    ValueError for ticks outside ±443,636 and prices outside theirs.
    """
    return {"sqrt_price_x64": sqrt_price_at(tick), "probe_tick": tick_at(probe)}


def step(
    *,
    sqrt_price: int,
    sqrt_target: int,
    liquidity: int,
    amount: int,
    fee_rate: int,
    exact_in: bool,
    zero_for_one: bool,
    fee_on_input: bool = True,
) -> Step:
    """How far `amount` (input, or output wanted) goes towards `sqrt_target`.

    ValueError for an amount on any side outside u64, for a target on the wrong side of the
    price, and for prices, liquidity or rates no pool can have.
    """
    require_amount("amount", amount)
    _require_pool(sqrt_price, liquidity, fee_rate)
    lower, upper = sorted((sqrt_price, sqrt_target))
    if not MIN_SQRT_PRICE <= lower <= upper <= MAX_SQRT_PRICE:
        raise ValueError(f"sqrt_target {sqrt_target} is no price of a tick")
    if sqrt_target != (lower if zero_for_one else upper):
        raise ValueError(f"sqrt_target {sqrt_target} is on the wrong side of {sqrt_price}")
    go = clmm_step.exact_in if exact_in else clmm_step.exact_out
    span = Span(sqrt_price, sqrt_target, liquidity, zero_for_one)
    return go(span, amount, fee_rate, fee_on_input=fee_on_input)


def swap(
    *,
    tick: int,
    sqrt_price: int,
    liquidity: int,
    tick_spacing: int,
    fee_rate: int,
    ticks: Iterable[Sequence[int | str]],
    zero_for_one: bool,
    exact_in: bool,
    amount: int,
) -> Swap:
    """What `amount` (input, or output wanted) exchanges; the fee is on the input.

    `ticks` are the initialized ones as (tick, net liquidity); the net may be a decimal string.
    ValueError for an amount on any side outside u64, and for a state no pool can have.
    """
    require_amount("amount", amount)
    _require_pool(sqrt_price, liquidity, fee_rate)
    walk = Walk(
        fee_rate=fee_rate,
        zero_for_one=zero_for_one,
        exact_in=exact_in,
        tick=tick,
        sqrt_price=sqrt_price,
        liquidity=liquidity,
        remaining=amount,
    )
    for next_tick, liquidity_net in _ahead(ticks, tick, zero_for_one=zero_for_one):
        if walk.remaining == 0:
            break
        if next_tick % tick_spacing:
            raise ValueError(f"tick {next_tick} is no multiple of the spacing {tick_spacing}")
        walk.go_to(next_tick, liquidity_net)
    return walk.swap()


def _ahead(
    ticks: Iterable[Sequence[int | str]], tick: int, *, zero_for_one: bool
) -> Iterable[tuple[int, int]]:
    """The ticks in the order a swap meets them; the one the price is in only downwards."""
    by_tick = itemgetter(0)
    ordered = sorted(ticks, key=by_tick)
    split = bisect_right(ordered, tick, key=by_tick)
    met = reversed(ordered[:split]) if zero_for_one else ordered[split:]
    return ((int(next_tick), int(liquidity_net)) for next_tick, liquidity_net in met)


def _require_pool(sqrt_price: int, liquidity: int, fee_rate: int) -> None:
    if not MIN_SQRT_PRICE <= sqrt_price <= MAX_SQRT_PRICE:
        raise ValueError(f"sqrt_price {sqrt_price} is no price of a tick")
    if not 0 <= liquidity <= U128_MAX:
        raise ValueError(f"liquidity must be between 0 and 2^128 - 1, not {liquidity}")
    if not 0 <= fee_rate < FEE_DENOMINATOR:
        raise ValueError(f"fee_rate must be below {FEE_DENOMINATOR}, not {fee_rate}")
