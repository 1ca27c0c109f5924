"""What a quote says of a price, derived in one place for every curve."""

from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction

from dex.types import Quote, Token

BASIS_POINTS = 10_000

_PRICE = Context(prec=18)
_IMPACT_EXPONENT = Decimal("1e-9")


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveSwap:
    """One exact-in swap on a curve, in base units.

    `net_in` is the input after a fee on it, `gross_out` the output before a fee on it; `fee` is
    in the input token when `fee_on_input`, else in the output token.
    """

    amount_in: int
    net_in: int
    gross_out: int
    amount_out: int
    fee: int
    fee_on_input: bool


def mid_price(reserve_in: int, reserve_out: int, token_in: Token, token_out: Token) -> Decimal:
    """token_out per token_in in whole tokens, 18 significant digits."""
    return _ratio(reserve_out, reserve_in, token_in, token_out)


def effective_price(amount_in: int, amount_out: int, token_in: Token, token_out: Token) -> Decimal:
    """token_out per token_in in whole tokens with the fee, 18 significant digits."""
    return _ratio(amount_out, amount_in, token_in, token_out)


def price_impact(swap: CurveSwap, reserve_in: int, reserve_out: int) -> Decimal:
    """Fraction by which the curve alone, without the fee, is worse than the mid price."""
    if swap.net_in == 0:
        return Decimal(0)
    impact = 1 - Fraction(swap.gross_out * reserve_in, swap.net_in * reserve_out)
    return (Decimal(impact.numerator) / impact.denominator).quantize(_IMPACT_EXPONENT)


def min_amount_out(amount_out: int, slippage_bps: int) -> int:
    return amount_out * (BASIS_POINTS - slippage_bps) // BASIS_POINTS


def fee_fraction(quote: Quote, token_in: Token) -> Fraction:
    """The fee as a part of what it was taken from, so that fees in either token compare."""
    whole = quote.amount_in if quote.fee_token == token_in else quote.amount_out + quote.fee
    return Fraction(quote.fee, whole)


def advantage_bps(amount: int, other: int) -> int:
    """By how many basis points of `other` `amount` is more, rounded down."""
    return (amount - other) * BASIS_POINTS // other


def _ratio(amount_out: int, amount_in: int, token_in: Token, token_out: Token) -> Decimal:
    return _PRICE.divide(
        Decimal(amount_out * 10**token_in.decimals), Decimal(amount_in * 10**token_out.decimals)
    )
