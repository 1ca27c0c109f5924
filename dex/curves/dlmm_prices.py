"""Prices of the bins of a Meteora DLMM pool: Q64.64 of Y per X, both in base units.

Formulas from MeteoraAg/dlmm-sdk, `commons/src/math/u64x64_math.rs` (the power) and
`price_math.rs`. Every rounding of the power counts: another way to it differs in the last bits.
"""

from bisect import bisect_right
from functools import lru_cache

ONE_X64 = 1 << 64
PRICE_MAX = 2**128 - 1
MAX_BIN_STEP = 400  # of the program, in basis points
EXPONENT_BITS = 19


def price_of(bin_step: int, bin_id: int) -> int:
    """(1 + bin_step/10,000)^bin_id; it never falls where the id rises.

    ValueError for a bin step outside 1 … 400 and for an id whose price Q64.64 cannot hold.
    """
    price_x64 = _price_or_bound(bin_step, bin_id)
    if not 1 <= price_x64 <= PRICE_MAX:
        raise ValueError(f"bin {bin_id} at bin step {bin_step} has no price in Q64.64")
    return price_x64


def bin_at(bin_step: int, price_x64: int) -> int:
    """The greatest id whose price is at most `price_x64`.

    ValueError for a bin step outside 1 … 400 and for a price outside 1 … 2^128 - 1. Each of these
    prices has a bin: at every bin step some id has the price 1.
    """
    if not 1 <= price_x64 <= PRICE_MAX:
        raise ValueError(f"price_x64 must be between 1 and 2^128 - 1, not {price_x64}")
    last = (1 << EXPONENT_BITS) - 1
    ids = range(-last, last + 1)
    dearer = bisect_right(ids, price_x64, key=lambda bin_id: _price_or_bound(bin_step, bin_id))
    return ids[dearer - 1]


@lru_cache(maxsize=16_384)
def _price_or_bound(bin_step: int, bin_id: int) -> int:
    """As `price_of`, but 0 below what Q64.64 holds and 2^128 above."""
    power = _inverse_power(bin_step, abs(bin_id))
    if bin_id <= 0:
        return power
    return PRICE_MAX // power if power else PRICE_MAX + 1


def _inverse_power(bin_step: int, exponent: int) -> int:
    """(1 + bin_step/10,000)^-exponent; 0 where it vanishes."""
    if exponent >> EXPONENT_BITS:
        return 0
    power = ONE_X64
    for bit, square in enumerate(_inverse_squares(bin_step)):
        if exponent >> bit & 1:
            power = power * square >> 64
    return power


@lru_cache
def _inverse_squares(bin_step: int) -> tuple[int, ...]:
    """(1 + bin_step/10,000)^-(2^bit) for every bit of an exponent."""
    if not 1 <= bin_step <= MAX_BIN_STEP:
        raise ValueError(f"bin_step must be between 1 and {MAX_BIN_STEP}, not {bin_step}")
    squares = [PRICE_MAX // (ONE_X64 + (bin_step << 64) // 10_000)]
    while len(squares) < EXPONENT_BITS:
        squares.append(squares[-1] ** 2 >> 64)
    return tuple(squares)
