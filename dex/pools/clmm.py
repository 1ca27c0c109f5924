"""A Raydium CLMM pool of the simulated market: two positions around the price, at 0.25 %."""

from dataclasses import dataclass, replace
from fractions import Fraction
from math import isqrt

from dex.curves import clmm_ticks, raydium_clmm
from dex.pools.base import PARTS, ConstantProduct, CurveSwap, Depth

FEE_RATE = 2_500  # of 1,000,000
TICK_SPACING = 60

# (spacings to either side, liquidity over that of a constant-product pool of this depth)
POSITIONS = ((10, 2), (100, 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class ClmmPool:
    """`ticks` as the curve takes them: (tick, liquidity added going up), in order."""

    tick: int
    sqrt_price: int
    ticks: tuple[tuple[int, int], ...]
    zero_for_one: bool
    tick_spacing: int = TICK_SPACING

    @property
    def liquidity(self) -> int:
        return sum(net for tick, net in self.ticks if tick <= self.tick)

    @property
    def mid(self) -> Fraction:
        price = Fraction(self.sqrt_price**2, 1 << 128)
        return price if self.zero_for_one else 1 / price

    @property
    def reserve_out(self) -> int:
        """What the positions hold between the price and the last tick."""
        liquidity, price, total = self.liquidity, self.sqrt_price, 0
        for tick, net in self._ahead():
            reached = clmm_ticks.sqrt_price_at(tick)
            if self.zero_for_one:
                total += liquidity * (price - reached) >> 64
            else:
                total += (liquidity << 64) * (reached - price) // (reached * price)
            liquidity += -net if self.zero_for_one else net
            price = reached
        return total

    @property
    def constant_product(self) -> ConstantProduct | None:
        return None

    def swap(self, amount_in: int) -> CurveSwap:
        answer = raydium_clmm.swap(
            tick=self.tick,
            sqrt_price=self.sqrt_price,
            liquidity=self.liquidity,
            tick_spacing=self.tick_spacing,
            fee_rate=FEE_RATE,
            ticks=self.ticks,
            zero_for_one=self.zero_for_one,
            exact_in=True,
            amount=amount_in,
        )
        if not answer["filled"]:
            raise ValueError(f"the positions cannot take {answer['remaining']} of the input")
        return CurveSwap(
            amount_in=amount_in,
            net_in=amount_in - answer["fee"],
            gross_out=answer["calculated"],
            amount_out=answer["calculated"],
            fee=answer["fee"],
            fee_on_input=True,
        )

    def drifted(self, drift: int) -> "ClmmPool":
        """Everything moves by whole ticks of 0.01 %, towards less drift."""
        moved = _whole_ticks(PARTS + drift)
        ratio, moved = clmm_ticks.sqrt_price_at(moved), moved if self.zero_for_one else -moved
        return replace(
            self,
            tick=self.tick + moved,
            sqrt_price=self.sqrt_price * clmm_ticks.sqrt_price_at(moved) >> 64,
            tick_spacing=1,
            ticks=tuple((tick + moved, _times(net, ratio)) for tick, net in self.ticks),
        )

    def _ahead(self) -> list[tuple[int, int]]:
        if self.zero_for_one:
            return [entry for entry in reversed(self.ticks) if entry[0] <= self.tick]
        return [entry for entry in self.ticks if entry[0] > self.tick]


def pool(depth: Depth) -> ClmmPool:
    sides = (depth.reserve_in, depth.reserve_out)
    reserve_0, reserve_1 = sides if depth.a_to_b else sides[::-1]
    sqrt_price = isqrt((reserve_1 << 128) // reserve_0)
    tick = clmm_ticks.tick_at(sqrt_price)
    centre = tick // TICK_SPACING * TICK_SPACING
    unit = isqrt(reserve_0 * reserve_1)
    ends = [(spacings * TICK_SPACING, unit * times) for spacings, times in POSITIONS]
    lower = [(centre - distance, liquidity) for distance, liquidity in ends]
    upper = [(centre + distance, -liquidity) for distance, liquidity in ends]
    return ClmmPool(
        tick=tick,
        sqrt_price=sqrt_price,
        ticks=tuple(sorted(lower + upper)),
        zero_for_one=depth.a_to_b,
    )


def _times(net: int, ratio: int) -> int:
    """Rounded towards 0, so that what one tick adds another still takes away."""
    moved = abs(net) * ratio >> 64
    return moved if net > 0 else -moved


def _whole_ticks(ratio: int) -> int:
    """Ticks between 1 and `ratio` over PARTS, rounded towards 1."""
    below = clmm_ticks.tick_at(isqrt((ratio << 128) // PARTS))
    return below if ratio >= PARTS else below + 1
