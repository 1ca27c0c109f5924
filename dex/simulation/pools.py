"""The simulated market as the pools and quotes of a venue's program."""

from functools import lru_cache

from dex import pricing
from dex.errors import OrderRejected
from dex.pools.base import SimulatedPool
from dex.simulation.market import Market
from dex.simulation.program import Program
from dex.types import Offer, Quote, SwapRequest, Token


def quote_at(market: Market, program: Program, request: SwapRequest, height: int) -> Quote:
    """What the venue answers in one block: the same whenever it is asked.

    Raises OrderRejected (NO_ROUTE, INSUFFICIENT_LIQUIDITY), PoolTooSmall where a part would do.
    """
    pool = pool_at(market, program, request.token_in, request.token_out, height)
    offer = Offer(venue=program.venue, curve=program.curve, block_height=height, pool=pool)
    return pricing.quote(request, offer)


# All orders of one block, and whoever settles them, ask for the same few.
@lru_cache(maxsize=512)
def pool_at(
    market: Market, program: Program, token_in: Token, token_out: Token, height: int
) -> SimulatedPool:
    """Raises OrderRejected(NO_ROUTE) for tokens the venue has no pool of."""
    depth = market.depth(venue=program.venue, token_in=token_in, token_out=token_out, height=height)
    if depth is None:
        pair = f"{token_in.symbol}/{token_out.symbol}"
        raise OrderRejected("NO_ROUTE", f"{program.venue} has no pool of {pair}")
    return program.pool(depth)
