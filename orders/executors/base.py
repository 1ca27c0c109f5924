"""What an order type decides; everything after the decision is the same for all of them."""

from typing import Protocol

from dex.exchange import Exchange
from dex.types import Route, SwapRequest


class Executor(Protocol):
    async def choose_route(self, request: SwapRequest, exchange: Exchange) -> Route:
        """The route to take now.

        Raises VenueUnavailable (try again later) or OrderRejected (final).
        """
