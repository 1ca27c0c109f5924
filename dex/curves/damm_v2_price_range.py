"""One liquidity position in a price range: modes 0 and 1 of a Meteora DAMM v2 pool.

Formulas from the npm package `@meteora-ag/cp-amm-sdk` (MIT),
`src/math/liquidity/concentratedLiquidity.ts`. Sqrt prices are Q64.64 of B per A, liquidity is
Q128. Every function answers (amount of the other token, next sqrt price), rounded for the pool,
and raises ValueError where the price would leave the range.
"""

from typing import NamedTuple

from dex.curves.integers import ceil_div


class Position(NamedTuple):
    liquidity: int
    sqrt_price: int
    sqrt_min_price: int
    sqrt_max_price: int


def sell_a(position: Position, amount_a: int) -> tuple[int, int]:
    """B out for `amount_a` in."""
    liquidity, price, *_ = position
    reached = ceil_div(liquidity * price, liquidity + amount_a * price)
    _require_in_range(position, reached)
    return liquidity * (price - reached) >> 128, reached


def sell_b(position: Position, amount_b: int) -> tuple[int, int]:
    """A out for `amount_b` in."""
    liquidity, price, *_ = position
    reached = price + (amount_b << 128) // liquidity
    _require_in_range(position, reached)
    return liquidity * (reached - price) // (price * reached), reached


def buy_b(position: Position, amount_b: int) -> tuple[int, int]:
    """A in for `amount_b` out."""
    liquidity, price, *_ = position
    reached = price - ceil_div(amount_b << 128, liquidity)
    _require_in_range(position, reached)
    return ceil_div(liquidity * (price - reached), reached * price), reached


def buy_a(position: Position, amount_a: int) -> tuple[int, int]:
    """B in for `amount_a` out."""
    liquidity, price, *_ = position
    left = liquidity - amount_a * price
    if left <= 0:
        raise ValueError(f"the position cannot give {amount_a}")
    reached = ceil_div(liquidity * price, left)
    _require_in_range(position, reached)
    return ceil_div(liquidity * (reached - price), 1 << 128), reached


def _require_in_range(position: Position, sqrt_price: int) -> None:
    if not 0 < position.sqrt_min_price <= sqrt_price <= position.sqrt_max_price:
        raise ValueError(f"sqrt price {sqrt_price} is outside the range of the pool")
