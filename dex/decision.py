"""Which quotes to take, and the sentence that says why."""

from dataclasses import replace
from itertools import combinations

from dex import pricing
from dex.errors import OrderRejected, VenueUnavailable
from dex.pricing import advantage_bps, fee_fraction
from dex.splitting import best_split
from dex.tokens import format_amount, format_fixed
from dex.types import (
    Leg,
    Offer,
    Quote,
    QuoteFailure,
    Reason,
    Route,
    Strategy,
    SwapRequest,
    without_name,
)

# A second leg costs a second swap instruction: a split has to be worth it.
MIN_SPLIT_GAIN_BPS = 5

_FINAL_CODES = ("INSUFFICIENT_LIQUIDITY", "NO_ROUTE")


def decide(
    request: SwapRequest,
    *,
    quotes: tuple[Quote, ...],
    failures: tuple[QuoteFailure, ...],
    strategy: Strategy = Strategy.AUTO,
) -> Route:
    """The most output wins, the lower fee where outputs are equal; see Strategy for splits.

    Without a quote: VenueUnavailable if any failure may pass, else OrderRejected.
    """
    ranked = sorted(quotes, key=lambda quote: _rank(quote, request))
    best = ranked[0] if ranked else None
    parts = _split(request, (*quotes, *failures), best, strategy)
    if parts:
        reason, explanation = Reason.SPLIT_IMPROVES, _gain(parts, best, request)
    elif best is None:
        raise _no_quote(failures)
    elif len(ranked) > 1:
        tie = ranked[1].amount_out == best.amount_out
        reason = Reason.TIE_LOWER_FEE if tie else Reason.BEST_PRICE
        explanation = _comparison(ranked, request)
    else:
        late = any(failure.code == "QUOTE_UNAVAILABLE" for failure in failures)
        reason = Reason.OTHER_TIMED_OUT if late else Reason.ONLY_VENUE
        explanation = _alone(best, failures, request)
    taken = tuple(parts or ranked[:1])
    return Route(
        request=request,
        strategy=strategy,
        legs=tuple(Leg(venue=quote.venue, quote=quote) for quote in taken),
        quotes=quotes,
        failures=failures,
        reason=reason,
        explanation=explanation,
        fee=pricing.combined_fee(taken, request),
        price_impact=pricing.combined_impact(taken),
    )


def _split(
    request: SwapRequest,
    answers: tuple[Quote | QuoteFailure, ...],
    best: Quote | None,
    strategy: Strategy,
) -> tuple[Quote, ...]:
    """Quotes of the parts; empty where no split is worth it."""
    if strategy is Strategy.BEST:
        return ()
    offers = [answer.offer for answer in answers if answer.offer is not None]
    candidates = (_divided(request, *pair) for pair in combinations(offers, 2))
    parts = max(candidates, key=_amount_out, default=())
    if best is None:  # none takes all of it
        return parts
    gained = _amount_out(parts) - best.amount_out
    worth = advantage_bps(_amount_out(parts), best.amount_out) >= MIN_SPLIT_GAIN_BPS
    return parts if (worth if strategy is Strategy.AUTO else gained > 0) else ()


def _divided(request: SwapRequest, first: Offer, second: Offer) -> tuple[Quote, ...]:
    if first.block_height != second.block_height:  # a transaction meets the pools of one block
        return ()
    amounts = best_split(first.pool, second.pool, request.amount_in)
    if 0 in amounts:
        return ()
    one = pricing.quote(request, first, amounts[0])
    other = pricing.quote(request, second, amounts[1])
    # Together they have the minimum of the whole, not that of each rounded down.
    least = pricing.min_amount_out(one.amount_out + other.amount_out, request.slippage_bps)
    return one, replace(other, min_amount_out=least - one.min_amount_out)


def _amount_out(parts: tuple[Quote, ...]) -> int:
    return sum(part.amount_out for part in parts)


def _rank(quote: Quote, request: SwapRequest) -> tuple[int, object, str]:
    return -quote.amount_out, fee_fraction(quote, request.token_in), quote.venue


def _no_quote(failures: tuple[QuoteFailure, ...]) -> VenueUnavailable | OrderRejected:
    sentences = dict.fromkeys(failure.detail for failure in failures)  # venues may share a chain
    details = "; ".join(sentences) or "no venue was asked"
    codes = {failure.code for failure in failures}
    final = next((code for code in _FINAL_CODES if code in codes), None)
    if final is None or not codes <= set(_FINAL_CODES):
        return VenueUnavailable("QUOTE_UNAVAILABLE", details)
    return OrderRejected(final, details)


def _gain(parts: tuple[Quote, ...], best: Quote | None, request: SwapRequest) -> str:
    """300 SOL on Raydium and 200 SOL on Meteora return 70930.1 USDC, Raydium alone 70200.0:
    103 bps more
    """
    token_in, token_out = request.token_in, request.token_out
    legs = " and ".join(
        f"{format_amount(token_in, part.amount_in)} {token_in.symbol} on {_label(part)}"
        for part in parts
    )
    together = f"{format_fixed(token_out, _amount_out(parts))} {token_out.symbol}"
    if best is None:
        return f"{legs} return {together}: none takes all of it alone"
    alone = f"{_label(best)} alone {format_fixed(token_out, best.amount_out)}"
    gained = advantage_bps(_amount_out(parts), best.amount_out)
    return f"{legs} return {together}, {alone}: {gained} bps more"


def _comparison(ranked: list[Quote], request: SwapRequest) -> str:
    """Raydium returns 142.310000 USDC, Meteora 138.900000: Raydium by 245 bps"""
    token = request.token_out
    best, second = ranked[:2]
    amounts = [f"{_label(quote)} {format_fixed(token, quote.amount_out)}" for quote in ranked[1:]]
    opening = f"{_label(best)} returns {format_fixed(token, best.amount_out)} {token.symbol}"
    if best.amount_out == second.amount_out:
        lower = fee_fraction(best, request.token_in) < fee_fraction(second, request.token_in)
        verdict = f"{_label(best)} for the lower fee" if lower else "the same fee, too"
    else:
        verdict = f"{_label(best)} by {advantage_bps(best.amount_out, second.amount_out)} bps"
    return f"{opening}, {', '.join(amounts)}: {verdict}"


def _alone(best: Quote, failures: tuple[QuoteFailure, ...], request: SwapRequest) -> str:
    token = request.token_out
    opening = f"{_label(best)} returns {format_fixed(token, best.amount_out)} {token.symbol}"
    others = (
        f"{failure.venue.capitalize()}: {failure.code}, "
        + without_name(failure.venue, failure.detail)
        for failure in failures
    )
    return "; ".join((opening, *others))


def _label(quote: Quote) -> str:
    return quote.venue.capitalize()
