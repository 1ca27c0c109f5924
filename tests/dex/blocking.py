"""Exchanges for tests that are no coroutines."""

from collections.abc import Sequence
from datetime import datetime

from dex.exchange import Exchange
from dex.types import Route, Swap, SwapRequest, SwapState
from orders import loop


class Blocking:
    """An exchange whose coroutines are plain calls, from any thread."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.close = exchange.close
        self.build_at_once = exchange.build_at_once

    def route(self, request: SwapRequest) -> Route:
        return loop.run(self._exchange.route(request))

    def build(self, route: Route) -> Swap:
        return loop.run(self._exchange.build(route))

    def send(self, swap: Swap, *, before: datetime | None = None) -> SwapState:
        return loop.run(self._exchange.send(swap, before=before))

    def statuses(self, swaps: Sequence[Swap]) -> Sequence[SwapState | Exception]:
        """By the first one's venue."""
        return loop.run(self._exchange._venue_of(swaps[0]).statuses(swaps))

    def status(self, swap: Swap) -> SwapState:
        return loop.run(self._exchange._venue_of(swap).status(swap))
