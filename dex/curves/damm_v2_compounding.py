"""Constant product of a Meteora DAMM v2 pool in compounding mode.

Formulas from the npm package `@meteora-ag/cp-amm-sdk` (MIT),
`src/math/liquidity/compoundingLiquidity.ts`.
"""

from math import isqrt

from dex.curves.integers import ceil_div, require_reserves


def given_in(reserve_in: int, reserve_out: int, amount_in: int) -> int:
    """Output before a fee on it. ValueError for an empty reserve."""
    require_reserves(reserve_in, reserve_out)
    return reserve_out * amount_in // (reserve_in + amount_in)


def given_out(reserve_in: int, reserve_out: int, amount_out: int) -> int:
    """Input before a fee on it. ValueError for an output the pool has not."""
    require_reserves(reserve_in, reserve_out)
    if amount_out >= reserve_out:
        raise ValueError(f"the pool holds {reserve_out}, not more than {amount_out}")
    return ceil_div(reserve_in * amount_out, reserve_out - amount_out)


def sqrt_price(reserve_a: int, reserve_b: int) -> int:
    """Q64.64 of B per A."""
    return isqrt((reserve_b << 128) // reserve_a)
