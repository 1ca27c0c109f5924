"""Ticks and sqrt prices of Raydium CLMM: tick t stands for the price 1.0001^t.

Formulas and factors from raydium-io/raydium-clmm (Apache-2.0),
`programs/amm/src/libraries/tick_math.rs`. Sqrt prices are Q64.64 of token 1 per token 0.
"""

from functools import lru_cache
from typing import Final

MIN_TICK: Final = -443_636
MAX_TICK: Final = 443_636
MIN_SQRT_PRICE: Final = 4_295_048_016
MAX_SQRT_PRICE: Final = 79_226_673_521_066_979_257_578_248_091

# 2^64 / 1.0001^(2^(bit - 1)) as the program has them: rounded, so not to be recomputed.
_FACTORS = (
    0xFFFCB933BD6FB800,
    0xFFF97272373D4000,
    0xFFF2E50F5F657000,
    0xFFE5CACA7E10F000,
    0xFFCB9843D60F7000,
    0xFF973B41FA98E800,
    0xFF2EA16466C9B000,
    0xFE5DEE046A9A3800,
    0xFCBE86C7900BB000,
    0xF987A7253AC65800,
    0xF3392B0822BB6000,
    0xE7159475A2CAF000,
    0xD097F3BDFD2F2000,
    0xA9F746462D9F8000,
    0x70D869A156F31C00,
    0x31BE135F97ED3200,
    0x09AA508B5B85A500,
    0x005D6AF8DEDC582C,
    0x00002216E584F5FA,
)

_LOG_BITS = 16
_TICKS_PER_DOUBLING = 59_543_866_431_248  # 2^32 / log2(sqrt(1.0001))
_MARGIN_BELOW = 184_467_440_737_095_516  # 0.01 tick, Q64
_MARGIN_ABOVE = 15_793_534_762_490_258_745  # 0.01 tick and the error of 16 bits, Q64


def sqrt_price_at(tick: int) -> int:
    """ValueError outside ±443,636."""
    if not MIN_TICK <= tick <= MAX_TICK:
        raise ValueError(f"tick must be between {MIN_TICK} and {MAX_TICK}, not {tick}")
    return _sqrt_price(tick)


def tick_at(sqrt_price: int) -> int:
    """The greatest tick whose sqrt price is not above; ValueError outside the ticks' prices."""
    if not MIN_SQRT_PRICE <= sqrt_price <= MAX_SQRT_PRICE:
        raise ValueError(
            f"sqrt price must be between {MIN_SQRT_PRICE} and {MAX_SQRT_PRICE}, not {sqrt_price}"
        )
    ticks_x64 = _log2_x32(sqrt_price) * _TICKS_PER_DOUBLING
    low = (ticks_x64 - _MARGIN_BELOW) >> 64
    high = (ticks_x64 + _MARGIN_ABOVE) >> 64
    return high if low == high or _sqrt_price(high) <= sqrt_price else low


@lru_cache(maxsize=16_384)
def _sqrt_price(tick: int) -> int:
    ratio = 1 << 64
    for bit, factor in enumerate(_FACTORS):
        if abs(tick) >> bit & 1:
            ratio = ratio * factor >> 64
    return (1 << 128) // ratio if tick > 0 else ratio


def _log2_x32(sqrt_price: int) -> int:
    """log2(sqrt_price / 2^64) in Q32, rounded down to 16 bits of fraction."""
    exponent = sqrt_price.bit_length() - 1
    mantissa = sqrt_price << 63 >> exponent
    fraction = 0
    for _ in range(_LOG_BITS):
        mantissa *= mantissa
        carry = mantissa >> 127
        mantissa >>= 63 + carry
        fraction = fraction << 1 | carry
    return (exponent - 64 << 32) + (fraction << 32 - _LOG_BITS)
