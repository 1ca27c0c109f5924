"""Which quote to take, and the sentence that says why."""

from dex.errors import OrderRejected, VenueUnavailable
from dex.pricing import advantage_bps, fee_fraction
from dex.tokens import format_fixed
from dex.types import Leg, Quote, QuoteFailure, Reason, Route, SwapRequest

_FINAL_CODES = ("INSUFFICIENT_LIQUIDITY", "NO_ROUTE")


def decide(
    request: SwapRequest, *, quotes: tuple[Quote, ...], failures: tuple[QuoteFailure, ...]
) -> Route:
    """The most output wins, the lower fee where outputs are equal.

    Without a quote: VenueUnavailable if any failure may pass, else OrderRejected.
    """
    if not quotes:
        raise _no_quote(failures)
    ranked = sorted(quotes, key=lambda quote: _rank(quote, request))
    best, *others = ranked
    if others:
        tie = others[0].amount_out == best.amount_out
        reason = Reason.TIE_LOWER_FEE if tie else Reason.BEST_PRICE
        explanation = _comparison(ranked, request)
    else:
        late = any(failure.code == "QUOTE_UNAVAILABLE" for failure in failures)
        reason = Reason.OTHER_TIMED_OUT if late else Reason.ONLY_VENUE
        explanation = _alone(best, failures, request)
    return Route(
        request=request,
        legs=(Leg(venue=best.venue, quote=best),),
        quotes=quotes,
        failures=failures,
        reason=reason,
        explanation=explanation,
    )


def _rank(quote: Quote, request: SwapRequest) -> tuple[int, object, str]:
    return -quote.amount_out, fee_fraction(quote, request.token_in), quote.venue


def _no_quote(failures: tuple[QuoteFailure, ...]) -> VenueUnavailable | OrderRejected:
    details = "; ".join(failure.detail for failure in failures) or "no venue was asked"
    codes = {failure.code for failure in failures}
    final = next((code for code in _FINAL_CODES if code in codes), None)
    if final is None or not codes <= set(_FINAL_CODES):
        return VenueUnavailable("QUOTE_UNAVAILABLE", details)
    return OrderRejected(final, details)


def _comparison(ranked: list[Quote], request: SwapRequest) -> str:
    """Raydium returns 142.310000 USDC, Meteora 138.900000: Raydium by 245 bps"""
    token = request.token_out
    best, second = ranked[:2]
    amounts = [f"{_label(quote)} {format_fixed(token, quote.amount_out)}" for quote in ranked[1:]]
    opening = f"{_label(best)} returns {format_fixed(token, best.amount_out)} {token.symbol}"
    if best.amount_out == second.amount_out:
        verdict = f"{_label(best)} for the lower fee"
    else:
        verdict = f"{_label(best)} by {advantage_bps(best.amount_out, second.amount_out)} bps"
    return f"{opening}, {', '.join(amounts)}: {verdict}"


def _alone(best: Quote, failures: tuple[QuoteFailure, ...], request: SwapRequest) -> str:
    token = request.token_out
    opening = f"{_label(best)} returns {format_fixed(token, best.amount_out)} {token.symbol}"
    others = (
        f"{failure.venue.capitalize()}: {failure.code}, {failure.detail}" for failure in failures
    )
    return "; ".join((opening, *others))


def _label(quote: Quote) -> str:
    return quote.venue.capitalize()
