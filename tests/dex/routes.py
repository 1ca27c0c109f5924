"""Routes as a test wants them."""

from dataclasses import replace

from dex.types import Leg, Route


def only(route: Route, name: str) -> Route:
    """The same route through this venue, whichever was best."""
    quote = next(quote for quote in route.quotes if quote.venue == name)
    return replace(route, legs=(Leg(venue=name, quote=quote),), price_impact=quote.price_impact)
