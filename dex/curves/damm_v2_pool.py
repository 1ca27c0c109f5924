"""State of a Meteora DAMM v2 pool and its fees.

Formulas from the npm package `@meteora-ag/cp-amm-sdk` (MIT), `src/math/feeMath.ts` and
`poolFees/dynamicFee.ts`. Fee numerators are over 1,000,000,000; sqrt prices are Q64.64 of B per
A; liquidity is Q128.
"""

from dataclasses import dataclass
from typing import TypedDict

from dex.curves import damm_v2_compounding as compounding
from dex.curves import damm_v2_price_range as price_range
from dex.curves.integers import ceil_div

FEE_DENOMINATOR = 1_000_000_000
MAX_FEE_NUMERATOR = {0: 500_000_000, 1: 990_000_000}

BOTH_TOKENS, COMPOUNDING = 0, 2  # 1 is: only of token B


class Fees(TypedDict):
    claiming_fee: int
    compounding_fee: int
    protocol_fee: int
    referral_fee: int


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
        if self.liquidity <= 0:
            raise ValueError("the pool has no liquidity")
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

    def split_fee(self, fee: int, *, has_referral: bool) -> Fees:
        protocol = fee * self.protocol_fee_percent // 100
        referral = protocol * self.referral_fee_percent // 100 if has_referral else 0
        kept = (fee - protocol) * self.compounding_fee_bps // 10_000
        return {
            "claiming_fee": fee - protocol - kept,
            "compounding_fee": kept,
            "protocol_fee": protocol - referral,
            "referral_fee": referral,
        }
