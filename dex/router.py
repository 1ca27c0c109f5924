"""Asks every venue at once and takes what returns the most."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from dex.curves.integers import U64_MAX
from dex.decision import decide
from dex.errors import DexError, OrderRejected
from dex.pricing import min_amount_out
from dex.types import Quote, QuoteFailure, Route, Strategy, SwapRequest
from dex.venues.base import Venue

log = logging.getLogger(__name__)

# Longer than the pauses before an order's second and third attempt.
REST_SECONDS = 10.0


class Router:
    """Routes over `venues`, each given its own milliseconds of `timeouts_ms` to answer."""

    def __init__(
        self,
        venues: Mapping[str, Venue],
        *,
        timeouts_ms: Mapping[str, int],
        strategy: Strategy = Strategy.AUTO,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._venues = venues
        self._timeouts_ms = timeouts_ms
        self._strategy = strategy
        self._monotonic = monotonic
        self._resting: dict[str, float] = {}  # until when

    def rest(self, venue: str) -> None:
        """It could not build: for REST_SECONDS its quotes are taken only where no other one is."""
        self._resting[venue] = self._monotonic() + REST_SECONDS

    async def route(self, request: SwapRequest) -> Route:
        """The best route now, with every quote it was chosen from.

        A venue that fails, whatever it raises, or is late becomes a QuoteFailure. Raises
        VenueUnavailable where none answered and one might later, else OrderRejected
        (INSUFFICIENT_LIQUIDITY, NO_ROUTE).
        """
        answers = await asyncio.gather(*(self._ask(name, request) for name in self._venues))
        if self._resting:
            answers = self._without_resting(answers)
        return decide(
            request,
            quotes=tuple(answer for answer in answers if isinstance(answer, Quote)),
            failures=tuple(answer for answer in answers if isinstance(answer, QuoteFailure)),
            strategy=self._strategy,
        )

    def _without_resting(self, answers: list[Quote | QuoteFailure]) -> list[Quote | QuoteFailure]:
        """A venue that rests has neither quote nor pool, where another venue has a quote."""
        now = self._monotonic()
        self._resting = {name: until for name, until in self._resting.items() if now < until}
        if not any(isinstance(one, Quote) and one.venue not in self._resting for one in answers):
            return answers
        detail = "it could not build a transaction a moment ago"
        return [
            QuoteFailure(venue=one.venue, code="QUOTE_UNAVAILABLE", detail=detail)
            if one.venue in self._resting and (isinstance(one, Quote) or one.offer)
            else one
            for one in answers
        ]

    async def _ask(self, name: str, request: SwapRequest) -> Quote | QuoteFailure:
        timeout_ms = self._timeouts_ms[name]
        patience = asyncio.timeout(timeout_ms / 1000)
        try:
            async with patience:
                return sound(await self._venues[name].quote(request), request, name)
        except DexError as error:
            return QuoteFailure.of(name, error)
        except Exception as error:  # a fault of one venue: the others have quoted
            if patience.expired():
                detail = f"no answer in {timeout_ms} ms"
            else:
                log.exception("venue.bug: %s", name)
                detail = f"failed with {type(error).__name__}"
            return QuoteFailure(venue=name, code="QUOTE_UNAVAILABLE", detail=detail)


def sound(quote: Quote, request: SwapRequest, name: str) -> Quote:
    """The quote, if it is one of the request, by this venue: a live one may answer anything.

    Raises OrderRejected(INSUFFICIENT_LIQUIDITY) where nothing would come out, else ValueError.
    """
    if quote.venue != name:
        raise ValueError(f"a quote of {quote.venue!r}")
    for amount in (quote.amount_out, quote.min_amount_out, quote.fee):
        if type(amount) is not int or amount > U64_MAX:
            raise ValueError(f"an amount of {amount!r}")
    if quote.amount_out < 1:
        raise OrderRejected("INSUFFICIENT_LIQUIDITY", f"{quote.venue}: too little to swap")
    if quote.amount_in != request.amount_in:
        raise ValueError(f"a quote for {quote.amount_in}, asked for {request.amount_in}")
    least = min_amount_out(quote.amount_out, request.slippage_bps)
    if not least <= quote.min_amount_out <= quote.amount_out:
        raise ValueError(f"a minimum of {quote.min_amount_out} for {quote.amount_out}")
    if quote.fee < 0 or quote.fee_token not in (request.token_in, request.token_out):
        raise ValueError(f"a fee of {quote.fee} {quote.fee_token}")
    for price in (quote.mid_price, quote.effective_price):
        if not price.is_finite() or price <= 0:
            raise ValueError(f"a price of {price}")
    if not (quote.price_impact.is_finite() and -1 <= quote.price_impact <= 1):
        raise ValueError(f"an impact of {quote.price_impact}")
    return quote
