"""The pools that are x·y = k with a fee: Raydium AMM v4 and CPMM, Meteora DAMM v2 compounding."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from dex.curves import damm_v2_pool, meteora_damm_v2, raydium_amm_v4, raydium_cpmm
from dex.pools.base import PARTS, ConstantProduct, CurveSwap, Depth

AMM_V4_FEE = Fraction(raydium_amm_v4.FEE_NUMERATOR, raydium_amm_v4.FEE_DENOMINATOR)
CPMM_TRADE_FEE_RATE = 3_000  # of 1,000,000
DAMM_V2_FEE_NUMERATOR = 2_000_000  # of 1,000,000,000


@dataclass(frozen=True, kw_only=True, slots=True)
class ConstantProductPool:
    """`curve` is the exact mathematics, `fee` the fraction that it takes."""

    depth: Depth
    curve: Callable[[Depth, int], CurveSwap]
    fee: Fraction
    fee_on_input: bool

    @property
    def mid(self) -> Fraction:
        return Fraction(self.depth.reserve_out, self.depth.reserve_in)

    @property
    def reserve_out(self) -> int:
        return self.depth.reserve_out

    @property
    def constant_product(self) -> ConstantProduct:
        return ConstantProduct(
            reserve_in=self.depth.reserve_in,
            reserve_out=self.depth.reserve_out,
            kept=1 - self.fee,
            fee_on_input=self.fee_on_input,
        )

    def swap(self, amount_in: int) -> CurveSwap:
        return self.curve(self.depth, amount_in)

    def drifted(self, drift: int) -> "ConstantProductPool":
        moved = self.depth.reserve_out * (PARTS + drift) // PARTS
        return replace(self, depth=replace(self.depth, reserve_out=moved))


def amm_v4(depth: Depth) -> ConstantProductPool:
    """Raydium AMM v4 at 0.25 %, the fee on the input."""
    return ConstantProductPool(depth=depth, curve=_amm_v4, fee=AMM_V4_FEE, fee_on_input=True)


def cpmm(depth: Depth) -> ConstantProductPool:
    """Raydium CPMM at 0.3 %, the fee on the input."""
    fee = Fraction(CPMM_TRADE_FEE_RATE, raydium_cpmm.FEE_DENOMINATOR)
    return ConstantProductPool(depth=depth, curve=_cpmm, fee=fee, fee_on_input=True)


def damm_v2(depth: Depth) -> ConstantProductPool:
    """Meteora DAMM v2 in compounding mode at 0.2 %, the fee always in token B."""
    fee = Fraction(DAMM_V2_FEE_NUMERATOR, damm_v2_pool.FEE_DENOMINATOR)
    return ConstantProductPool(depth=depth, curve=_damm_v2, fee=fee, fee_on_input=not depth.a_to_b)


def _amm_v4(depth: Depth, amount_in: int) -> CurveSwap:
    answer = raydium_amm_v4.exact_in(
        reserve_in=depth.reserve_in, reserve_out=depth.reserve_out, amount_in=amount_in
    )
    return _fee_on_input(amount_in, answer["amount_out"], answer["fee"])


def _cpmm(depth: Depth, amount_in: int) -> CurveSwap:
    answer = raydium_cpmm.exact_in(
        reserve_in=depth.reserve_in,
        reserve_out=depth.reserve_out,
        amount_in=amount_in,
        trade_fee_rate=CPMM_TRADE_FEE_RATE,
    )
    return _fee_on_input(amount_in, answer["amount_out"], answer["trade_fee"])


def _fee_on_input(amount_in: int, amount_out: int, fee: int) -> CurveSwap:
    return CurveSwap(
        amount_in=amount_in,
        net_in=amount_in - fee,
        gross_out=amount_out,
        amount_out=amount_out,
        fee=fee,
        fee_on_input=True,
    )


def _damm_v2(depth: Depth, amount_in: int) -> CurveSwap:
    sides = (depth.reserve_in, depth.reserve_out)
    reserve_a, reserve_b = sides if depth.a_to_b else sides[::-1]
    answer = meteora_damm_v2.exact_in(
        collect_fee_mode=damm_v2_pool.COMPOUNDING,
        base_fee_numerator=DAMM_V2_FEE_NUMERATOR,
        compounding_fee_bps=10_000,
        reserve_a=reserve_a,
        reserve_b=reserve_b,
        a_to_b=depth.a_to_b,
        amount_in=amount_in,
    )
    fee = answer["claiming_fee"] + answer["compounding_fee"]
    return CurveSwap(
        amount_in=amount_in,
        net_in=answer["net_in"],
        gross_out=answer["amount_out"] + (fee if depth.a_to_b else 0),
        amount_out=answer["amount_out"],
        fee=fee,
        fee_on_input=not depth.a_to_b,
    )
