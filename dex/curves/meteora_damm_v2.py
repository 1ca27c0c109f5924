"""Meteora DAMM v2: one position in a price range, or plain constant product (compounding).

Formulas from the npm package `@meteora-ag/cp-amm-sdk` (MIT), `src/math/feeMath.ts`,
`swapQuote.ts`, `poolFees/dynamicFee.ts`, `liquidity/concentratedLiquidity.ts` and
`liquidity/compoundingLiquidity.ts`. Fee numerators are over 1,000,000,000; sqrt prices are
Q64.64 of B per A; liquidity is Q128. The fee is on the output, except that modes 1 and 2 take it
from the input when B is sold.
"""

from dataclasses import dataclass
from typing import Any, TypedDict

from dex.curves import compounding, price_range
from dex.curves.integers import ceil_div, require_amount

FEE_DENOMINATOR = 1_000_000_000
MAX_FEE_NUMERATOR = {0: 500_000_000, 1: 990_000_000}

BOTH_TOKENS = 0
ONLY_B = 1
COMPOUNDING = 2


class _Fees(TypedDict):
    claiming_fee: int
    compounding_fee: int
    protocol_fee: int
    referral_fee: int


class ExactIn(_Fees):
    """Base units. `net_in` is what reaches the curve; the four fees add up to the whole fee."""

    net_in: int
    amount_out: int
    next_sqrt_price: int


class ExactOut(_Fees):
    """Base units. `net_in` is what reaches the curve; the four fees add up to the whole fee."""

    amount_in: int
    net_in: int
    next_sqrt_price: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """State of a pool. `fee_version` decides the cap of the total fee: 0 50 %, 1 99 %.

    Mode 2 reads only the reserves; modes 0 and 1 only liquidity and sqrt prices. `dynamic`
    switches the variable fee, taken on the stored accumulator.
    """

    collect_fee_mode: int
    base_fee_numerator: int
    reserve_a: int = 0
    reserve_b: int = 0
    liquidity: int = 0
    sqrt_price: int = 0
    sqrt_min_price: int = 0
    sqrt_max_price: int = 0
    protocol_fee_percent: int = 0
    referral_fee_percent: int = 0
    compounding_fee_bps: int = 0
    dynamic: bool = False
    volatility_accumulator: int = 0
    variable_fee_control: int = 0
    bin_step: int = 0
    fee_version: int = 1

    def fee_numerator(self) -> int:
        total = self.base_fee_numerator
        if self.dynamic:
            square = (self.volatility_accumulator * self.bin_step) ** 2
            total += ceil_div(self.variable_fee_control * square, 100_000_000_000)
        return min(total, MAX_FEE_NUMERATOR[self.fee_version])

    def fee_on_input(self, *, a_to_b: bool) -> bool:
        return self.collect_fee_mode != BOTH_TOKENS and not a_to_b

    def reserves(self, *, a_to_b: bool) -> tuple[int, int]:
        """(reserve of the token sold, reserve of the token bought)"""
        pair = (self.reserve_a, self.reserve_b)
        return pair if a_to_b else pair[::-1]

    @property
    def position(self) -> price_range.Position:
        return price_range.Position(
            self.liquidity, self.sqrt_price, self.sqrt_min_price, self.sqrt_max_price
        )

    def sqrt_price_after(
        self, net_in: int, gross_out: int, compounding_fee: int, *, a_to_b: bool
    ) -> int:
        """Compounding mode only: the compounding fee, always in B, stays in the reserves."""
        if a_to_b:
            after_a, after_b = self.reserve_a + net_in, self.reserve_b - gross_out
        else:
            after_a, after_b = self.reserve_a - gross_out, self.reserve_b + net_in
        return compounding.sqrt_price(after_a, after_b + compounding_fee)

    def split_fee(self, fee: int, *, has_referral: bool) -> _Fees:
        protocol = fee * self.protocol_fee_percent // 100
        referral = protocol * self.referral_fee_percent // 100 if has_referral else 0
        kept = 0
        if self.collect_fee_mode == COMPOUNDING:
            kept = (fee - protocol) * self.compounding_fee_bps // 10_000
        return {
            "claiming_fee": fee - protocol - kept,
            "compounding_fee": kept,
            "protocol_fee": protocol - referral,
            "referral_fee": referral,
        }


def exact_in(
    *, amount_in: int, a_to_b: bool, has_referral: bool = False, **pool_state: Any
) -> ExactIn:
    """What `amount_in` returns; `pool_state` are the fields of Pool.

    ValueError for amounts outside 1 … 2^64 - 1 and where the price would leave the range.
    """
    require_amount("amount_in", amount_in)
    pool = Pool(**pool_state)
    numerator = pool.fee_numerator()
    on_input = pool.fee_on_input(a_to_b=a_to_b)
    fee = ceil_div(amount_in * numerator, FEE_DENOMINATOR) if on_input else 0
    net_in = amount_in - fee
    if pool.collect_fee_mode == COMPOUNDING:
        gross_out, next_sqrt_price = compounding.given_in(*pool.reserves(a_to_b=a_to_b), net_in), 0
    elif a_to_b:
        gross_out, next_sqrt_price = price_range.sell_a(pool.position, net_in)
    else:
        gross_out, next_sqrt_price = price_range.sell_b(pool.position, net_in)
    if not on_input:
        fee = ceil_div(gross_out * numerator, FEE_DENOMINATOR)
    fees = pool.split_fee(fee, has_referral=has_referral)
    if pool.collect_fee_mode == COMPOUNDING:
        next_sqrt_price = pool.sqrt_price_after(
            net_in, gross_out, fees["compounding_fee"], a_to_b=a_to_b
        )
    return {
        "net_in": net_in,
        "amount_out": gross_out if on_input else gross_out - fee,
        "next_sqrt_price": next_sqrt_price,
        **fees,
    }


def exact_out(
    *, amount_out: int, a_to_b: bool, has_referral: bool = False, **pool_state: Any
) -> ExactOut:
    """What `amount_out` costs; `pool_state` are the fields of Pool.

    ValueError for amounts outside 1 … 2^64 - 1 and for an output the pool has not.
    """
    require_amount("amount_out", amount_out)
    pool = Pool(**pool_state)
    numerator = pool.fee_numerator()
    on_input = pool.fee_on_input(a_to_b=a_to_b)
    gross_out = amount_out if on_input else _gross(amount_out, numerator)
    if pool.collect_fee_mode == COMPOUNDING:
        net_in, next_sqrt_price = compounding.given_out(*pool.reserves(a_to_b=a_to_b), gross_out), 0
    elif a_to_b:
        net_in, next_sqrt_price = price_range.buy_b(pool.position, gross_out)
    else:
        net_in, next_sqrt_price = price_range.buy_a(pool.position, gross_out)
    amount_in = _gross(net_in, numerator) if on_input else net_in
    require_amount("amount_in", amount_in)
    fee = amount_in - net_in if on_input else gross_out - amount_out
    fees = pool.split_fee(fee, has_referral=has_referral)
    if pool.collect_fee_mode == COMPOUNDING:
        next_sqrt_price = pool.sqrt_price_after(
            net_in, gross_out, fees["compounding_fee"], a_to_b=a_to_b
        )
    return {
        "amount_in": amount_in,
        "net_in": net_in,
        "next_sqrt_price": next_sqrt_price,
        **fees,
    }


def _gross(net: int, numerator: int) -> int:
    return ceil_div(net * FEE_DENOMINATOR, FEE_DENOMINATOR - numerator)
