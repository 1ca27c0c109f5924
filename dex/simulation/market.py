"""Prices and depths as a pure function of seed, pair, venue and block height.

The price of a pair moves around its reference by ±2 % over an hour and ±0.5 % over a minute.
The venues lie 2 to 5 % apart, the gap moving over 10 s and the better side drawn anew every 30 s.
"""

from dataclasses import dataclass
from typing import NamedTuple

from dex.pools.base import PARTS, Depth
from dex.simulation.blocks import BLOCK_MS
from dex.simulation.draws import draw, draw_between
from dex.tokens import BONK, JUP, RAY, SOL, USDC, USDT
from dex.types import Token


class _Wave(NamedTuple):
    """A smooth draw: a new target between low and high (over PARTS) every period."""

    name: str
    low: int
    high: int
    period_ms: int


SLOW = _Wave("slow", -20_000_000, 20_000_000, 3_600_000)
FAST = _Wave("fast", -5_000_000, 5_000_000, 60_000)
# Kept off 2 and 5 % by more than the 0.1 % the venues' fees differ by, so that quotes lie within.
GAP = _Wave("gap", 22_000_000, 48_000_000, 10_000)
SIDE_MS = 30_000

DEPTH_USD = 1_500_000
_NANO_USD = {
    BONK: 20_000,
    JUP: 900_000_000,
    RAY: 2_500_000_000,
    SOL: 150_000_000_000,
    USDT: 1_000_000_000,
    USDC: 1_000_000_000,
}
_RANK = {token: rank for rank, token in enumerate(_NANO_USD)}


@dataclass(frozen=True, slots=True)
class Market:
    """`venues` in a fixed order; they are spread evenly over the gap."""

    seed: str
    venues: tuple[str, ...]

    def depth(self, *, venue: str, token_in: Token, token_out: Token, height: int) -> Depth | None:
        """Price and depth of the venue's pool during one block; None when it has no such pair."""
        if not _RANK.keys() >= {token_in, token_out} or token_in == token_out:
            return None
        a_to_b = _RANK[token_in] < _RANK[token_out]
        token_a, token_b = (token_in, token_out) if a_to_b else (token_out, token_in)
        pair = f"{token_a.symbol}/{token_b.symbol}"
        unix_ms = height * BLOCK_MS
        level = PARTS + self._wave(SLOW, pair, unix_ms) + self._wave(FAST, pair, unix_ms)
        level *= PARTS + self._offset(pair, venue, unix_ms)
        reserve_a = _depth(token_a)
        reserve_b = _depth(token_b) * level // PARTS**2
        return Depth(
            reserve_in=reserve_a if a_to_b else reserve_b,
            reserve_out=reserve_b if a_to_b else reserve_a,
            a_to_b=a_to_b,
        )

    def _offset(self, pair: str, venue: str, unix_ms: int) -> int:
        gap = self._wave(GAP, pair, unix_ms)
        side = 1 if draw(self.seed, pair, "side", unix_ms // SIDE_MS) % 2 else -1
        steps = max(len(self.venues) - 1, 1)
        return side * gap * (steps - 2 * self.venues.index(venue)) // (2 * steps)

    def _wave(self, wave: _Wave, pair: str, unix_ms: int) -> int:
        index, rest = divmod(unix_ms, wave.period_ms)
        start = draw_between(wave.low, wave.high, self.seed, pair, wave.name, index)
        end = draw_between(wave.low, wave.high, self.seed, pair, wave.name, index + 1)
        way = rest * PARTS // wave.period_ms
        way = way * way * (3 * PARTS - 2 * way) // PARTS**2
        return start + (end - start) * way // PARTS


def _depth(token: Token) -> int:
    """Base units of the token worth DEPTH_USD at the reference price."""
    base_units: int = 10**token.decimals
    return DEPTH_USD * 10**9 * base_units // _NANO_USD[token]
