"""What a quote says of a price, derived in one place for every curve."""

from decimal import Context, Decimal
from fractions import Fraction

from dex.errors import OrderRejected, PoolTooSmall
from dex.pools.base import CurveSwap, Pool
from dex.types import Offer, Quote, SwapRequest, Token

BASIS_POINTS = 10_000

_PRICE = Context(prec=18)
_IMPACT_EXPONENT = Decimal("1e-9")


def quote(request: SwapRequest, offer: Offer, amount_in: int | None = None) -> Quote:
    """What the pool returns for the request, or for the part `amount_in` of it.

    Raises PoolTooSmall, or OrderRejected where nothing comes out; both INSUFFICIENT_LIQUIDITY.
    """
    token_in, token_out, pool = request.token_in, request.token_out, offer.pool
    try:
        swap = undrained(pool, request.amount_in if amount_in is None else amount_in, offer.venue)
    except OrderRejected as error:
        raise PoolTooSmall(error.code, error.detail, offer) from error
    if swap.amount_out < 1:
        raise OrderRejected("INSUFFICIENT_LIQUIDITY", f"{offer.venue}: too little to swap")
    return Quote(
        venue=offer.venue,
        curve=offer.curve,
        amount_in=swap.amount_in,
        amount_out=swap.amount_out,
        min_amount_out=min_amount_out(swap.amount_out, request.slippage_bps),
        fee=swap.fee,
        fee_token=token_in if swap.fee_on_input else token_out,
        mid_price=mid_price(pool.mid, token_in, token_out),
        effective_price=effective_price(swap.amount_in, swap.amount_out, token_in, token_out),
        price_impact=price_impact(swap, pool.mid),
        block_height=offer.block_height,
        pool=pool,
    )


def undrained(pool: Pool, amount_in: int, venue: str) -> CurveSwap:
    """Even if nothing comes out. Raises OrderRejected(INSUFFICIENT_LIQUIDITY)."""
    try:
        swap = pool.swap(amount_in)
    except ValueError as error:
        detail = f"{venue}: the pool cannot take all of it"  # the error has base units
        raise OrderRejected("INSUFFICIENT_LIQUIDITY", detail) from error
    if swap.gross_out * 100 > pool.reserve_out * 99:
        raise OrderRejected("INSUFFICIENT_LIQUIDITY", f"{venue}: the pool would be drained")
    return swap


def mid_price(mid: Fraction, token_in: Token, token_out: Token) -> Decimal:
    """token_out per token_in in whole tokens, 18 significant digits. `mid` is in base units."""
    return _whole(mid.numerator, mid.denominator, token_in, token_out)


def effective_price(amount_in: int, amount_out: int, token_in: Token, token_out: Token) -> Decimal:
    """token_out per token_in in whole tokens with the fee, 18 significant digits."""
    return _whole(amount_out, amount_in, token_in, token_out)


def price_impact(swap: CurveSwap, mid: Fraction) -> Decimal:
    """Fraction by which the curve alone, without the fee, is worse than the mid price."""
    if swap.net_in == 0:
        return Decimal(0)
    worth = swap.net_in * mid.numerator
    lost = worth - swap.gross_out * mid.denominator
    return (Decimal(lost) / worth).quantize(_IMPACT_EXPONENT)


def combined_impact(quotes: tuple[Quote, ...]) -> Decimal:
    """The legs' impacts, each weighted by what its part is worth at its own mid price."""
    weights = [quote.amount_in * quote.mid_price for quote in quotes]
    impacts = zip(quotes, weights, strict=True)
    total = sum((quote.price_impact * weight for quote, weight in impacts), Decimal(0))
    return (total / sum(weights)).quantize(_IMPACT_EXPONENT)


def combined_fee(quotes: tuple[Quote, ...], request: SwapRequest) -> tuple[int, Token]:
    """(base units, token): the sum, or where the legs pay in two tokens all of it in the output.

    A fee on the input is worth what it would have bought at the leg's mid price, rounded up.
    """
    tokens = {quote.fee_token for quote in quotes}
    if len(tokens) == 1:
        return sum(quote.fee for quote in quotes), tokens.pop()
    return sum(_fee_in_output(quote, request) for quote in quotes), request.token_out


def min_amount_out(amount_out: int, slippage_bps: int) -> int:
    return amount_out * (BASIS_POINTS - slippage_bps) // BASIS_POINTS


def fee_fraction(quote: Quote, token_in: Token) -> Fraction:
    """The fee as a part of what it was taken from, so that fees in either token compare."""
    whole = quote.amount_in if quote.fee_token == token_in else quote.amount_out + quote.fee
    return Fraction(quote.fee, whole)


def advantage_bps(amount: int, other: int) -> int:
    """By how many basis points of `other` `amount` is more, rounded down."""
    return (amount - other) * BASIS_POINTS // other


def _fee_in_output(quote: Quote, request: SwapRequest) -> int:
    if quote.fee_token == request.token_out:
        return quote.fee
    decimals = request.token_out.decimals - request.token_in.decimals
    worth = Fraction(quote.mid_price) * quote.fee * Fraction(10) ** decimals
    return -(-worth.numerator // worth.denominator)


def _whole(amount_out: int, amount_in: int, token_in: Token, token_out: Token) -> Decimal:
    return _PRICE.divide(
        Decimal(amount_out * 10**token_in.decimals), Decimal(amount_in * 10**token_out.decimals)
    )
