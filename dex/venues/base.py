"""What every venue can do, simulated or live."""

from abc import ABC, abstractmethod
from typing import ClassVar

from dex.types import Leg, Quote, Swap, SwapRequest, SwapState


class Venue(ABC):
    """One DEX. Calls block for as long as the venue takes and keep no state between them."""

    name: ClassVar[str]

    @abstractmethod
    def quote(self, request: SwapRequest) -> Quote:
        """What the venue would return now.

        Raises VenueUnavailable, or OrderRejected (NO_ROUTE, INSUFFICIENT_LIQUIDITY).
        """

    @abstractmethod
    def build(self, request: SwapRequest, legs: tuple[Leg, ...]) -> Swap:
        """A signed transaction for these legs, not sent. Raises VenueUnavailable."""

    @abstractmethod
    def send(self, swap: Swap) -> None:
        """Hand the transaction to the chain; sending it again is harmless.

        Raises VenueUnavailable when it is not known whether the chain took it. What became of it
        is only ever learned from status().
        """

    @abstractmethod
    def status(self, swap: Swap) -> SwapState:
        """What became of the transaction. Raises VenueUnavailable."""
