"""A Raydium CLMM swap on its way from one initialized tick to the next.

The loop of raydium-io/raydium-clmm (Apache-2.0), `programs/amm/src/instructions/swap.rs`
(`swap_internal`), with the fee on the input. A swap that pushes the price to its end, short of
tick ±443,636, is called filled by raydium-io/raydium-sdk-V2
(`src/raydium/clmm/libraries/swapSimulator.ts`); here, as in the program, the rest remains.
"""

from dataclasses import dataclass
from typing import TypedDict

from dex.curves import clmm_step
from dex.curves.clmm_step import Span
from dex.curves.clmm_ticks import MAX_SQRT_PRICE, MIN_SQRT_PRICE, sqrt_price_at, tick_at
from dex.curves.integers import U64_MAX

U128_MAX = 2**128 - 1


class Swap(TypedDict):
    """Base units. `filled` is false where the ticks ended first, `remaining` is what they left.

    `amount_in` is what is paid, `net_in` the same less `fee`; `calculated` is the side that was
    not given: `amount_out` for an exact input, `amount_in` for an exact output.
    """

    filled: bool
    remaining: int
    calculated: int
    net_in: int
    fee: int
    amount_in: int
    amount_out: int
    end_sqrt_price: int
    end_liquidity: int
    end_tick: int


@dataclass(slots=True, kw_only=True)
class Walk:
    """Where a swap stands; the fields without a default are those of the pool and the order.

    ValueError where an amount would pass 2^64 - 1, and for ticks that contradict the pool.
    """

    fee_rate: int
    zero_for_one: bool
    exact_in: bool
    tick: int
    sqrt_price: int
    liquidity: int
    remaining: int
    net_in: int = 0
    fee: int = 0
    amount_out: int = 0

    def go_to(self, next_tick: int, liquidity_net: int) -> None:
        """Towards `next_tick`, and across it where its price is reached."""
        started, boundary = self.sqrt_price, sqrt_price_at(next_tick)
        if started != boundary:
            self._trade(_within_limits(boundary))
        if self.sqrt_price == boundary:
            self._cross(next_tick, liquidity_net)
        elif self.sqrt_price != started:
            # Not where the price stayed: it may be that of a tick already crossed downwards.
            self.tick = tick_at(self.sqrt_price)

    def swap(self) -> Swap:
        amount_in = self.net_in + self.fee
        if max(amount_in, self.amount_out) > U64_MAX:
            raise ValueError(f"the swap moves {amount_in} for {self.amount_out}, above 2^64 - 1")
        return {
            "filled": self.remaining == 0,
            "remaining": self.remaining,
            "calculated": self.amount_out if self.exact_in else amount_in,
            "net_in": self.net_in,
            "fee": self.fee,
            "amount_in": amount_in,
            "amount_out": self.amount_out,
            "end_sqrt_price": self.sqrt_price,
            "end_liquidity": self.liquidity,
            "end_tick": self.tick,
        }

    def _trade(self, target: int) -> None:
        ahead = self.sqrt_price - target if self.zero_for_one else target - self.sqrt_price
        if ahead < 0:
            raise ValueError(f"tick {self.tick} does not belong to sqrt price {self.sqrt_price}")
        go = clmm_step.exact_in if self.exact_in else clmm_step.exact_out
        span = Span(self.sqrt_price, target, self.liquidity, self.zero_for_one)
        part = go(span, self.remaining, self.fee_rate, fee_on_input=True)
        self.sqrt_price = part["next_sqrt_price"]
        self.net_in += part["amount_in"]
        self.fee += part["fee"]
        self.amount_out += part["amount_out"]
        paid = part["amount_in"] + part["fee"]
        self.remaining -= paid if self.exact_in else part["amount_out"]

    def _cross(self, next_tick: int, liquidity_net: int) -> None:
        self.liquidity += -liquidity_net if self.zero_for_one else liquidity_net
        if not 0 <= self.liquidity <= U128_MAX:
            raise ValueError(f"crossing tick {next_tick} leaves liquidity {self.liquidity}")
        self.tick = next_tick - 1 if self.zero_for_one else next_tick


def _within_limits(sqrt_price: int) -> int:
    """The program stops a swap without a price limit one unit short of the outermost ticks."""
    return min(max(sqrt_price, MIN_SQRT_PRICE + 1), MAX_SQRT_PRICE - 1)
