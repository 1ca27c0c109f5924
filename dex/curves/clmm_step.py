"""One swap step of Raydium CLMM: liquidity stays the same between two sqrt prices.

Formulas from raydium-io/raydium-clmm (Apache-2.0), `programs/amm/src/libraries/swap_math.rs`,
`sqrt_price_math.rs` and `liquidity_math.rs`; the fee on the output from the facts in
raydium-io/raydium-sdk-V2, `src/raydium/clmm/libraries/swapMath.ts`. Input is rounded up, output
down, and the price moves by no more than the input pays for and no less than the output needs.
"""

from typing import NamedTuple, TypedDict

from dex.curves.integers import U64_MAX, ceil_div

FEE_DENOMINATOR = 1_000_000


class Span(NamedTuple):
    """From the price of the pool to the price the step may not pass. Q64.64."""

    sqrt_price: int
    sqrt_target: int
    liquidity: int
    zero_for_one: bool


class Step(TypedDict):
    """Base units. A fee on the input is not in `amount_in`; one on the output not in `amount_out`.

    An exact input short of the target, with the fee on the output, is all in `amount_in`.
    """

    next_sqrt_price: int
    amount_in: int
    amount_out: int
    fee: int


def exact_in(span: Span, amount: int, fee_rate: int, *, fee_on_input: bool) -> Step:
    """What up to `amount` returns. ValueError where a side would pass 2^64 - 1."""
    usable = amount
    if fee_on_input:
        usable = amount * (FEE_DENOMINATOR - fee_rate) // FEE_DENOMINATOR
    reached = _price_after_in(span, usable)
    hit = reached == span.sqrt_target
    used, bought = _amounts(span, reached)
    if not fee_on_input:
        fee = ceil_div(bought * fee_rate, FEE_DENOMINATOR)
        return _answer(reached, used if hit else amount, bought - fee, fee)
    # Short of the target nothing is handed back: what rounding left over is fee too.
    fee = _fee_on_top(used, fee_rate) if hit else amount - used
    return _answer(reached, used, bought, fee)


def exact_out(span: Span, amount: int, fee_rate: int, *, fee_on_input: bool) -> Step:
    """What up to `amount` costs. ValueError where a side would pass 2^64 - 1."""
    wanted = amount
    if not fee_on_input:
        wanted = ceil_div(amount * FEE_DENOMINATOR, FEE_DENOMINATOR - fee_rate)
    reached = _price_after_out(span, wanted)
    used, bought = _amounts(span, reached)
    if fee_on_input:
        return _answer(reached, used, min(bought, amount), _fee_on_top(used, fee_rate))
    amount_out = min(bought - ceil_div(bought * fee_rate, FEE_DENOMINATOR), amount)
    return _answer(reached, used, amount_out, bought - amount_out)


def _answer(reached: int, amount_in: int, amount_out: int, fee: int) -> Step:
    return {
        "next_sqrt_price": reached,
        "amount_in": amount_in,
        "amount_out": amount_out,
        "fee": fee,
    }


def _price_after_in(span: Span, usable: int) -> int:
    price, target, liquidity, zero_for_one = span
    if usable >= _input_between(span, target):
        return target
    if zero_for_one:
        scaled = liquidity << 64
        return ceil_div(scaled * price, scaled + usable * price)
    return price + (usable << 64) // liquidity


def _price_after_out(span: Span, wanted: int) -> int:
    price, target, liquidity, zero_for_one = span
    if wanted >= _output_between(span, target):
        return target
    if zero_for_one:
        return price - ceil_div(wanted << 64, liquidity)
    scaled = liquidity << 64
    return ceil_div(scaled * price, scaled - wanted * price)


def _amounts(span: Span, reached: int) -> tuple[int, int]:
    amounts = _input_between(span, reached), _output_between(span, reached)
    if max(amounts) > U64_MAX:
        raise ValueError(f"the step moves {max(amounts)}, more than 2^64 - 1")
    return amounts


def _input_between(span: Span, reached: int) -> int:
    price, _, liquidity, zero_for_one = span
    if zero_for_one:
        return ceil_div((liquidity << 64) * (price - reached), price * reached)
    return ceil_div(liquidity * (reached - price), 1 << 64)


def _output_between(span: Span, reached: int) -> int:
    price, _, liquidity, zero_for_one = span
    if zero_for_one:
        return liquidity * (price - reached) >> 64
    return (liquidity << 64) * (reached - price) // (price * reached)


def _fee_on_top(amount_in: int, fee_rate: int) -> int:
    return ceil_div(amount_in * fee_rate, FEE_DENOMINATOR - fee_rate)
