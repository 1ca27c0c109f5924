"""A market order takes the better price there is now."""

from dex.exchange import Exchange
from dex.types import Route, SwapRequest


class MarketExecutor:
    async def choose_route(self, request: SwapRequest, exchange: Exchange) -> Route:
        return await exchange.route(request)
