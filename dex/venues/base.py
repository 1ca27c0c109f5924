"""What every venue can do, simulated or live."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, TypeVar

from dex.errors import DexError, VenueUnavailable
from dex.types import Leg, Quote, Swap, SwapRequest, SwapState

if TYPE_CHECKING:
    from dex.signer import Signer
    from dex.simulation.venue import Simulation

T = TypeVar("T")
log = logging.getLogger(__name__)

# Longer a call is not waited for: the order's lease (15 s) is not renewed meanwhile.
CALL_SECONDS = 5.0
# For the state of one swap, as others of the venue are told together with it.
STATUS_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Tools:
    """What a venue is opened with: the process's key, and the market of the simulated ones."""

    signer: "Signer"
    simulation: "Simulation"


class Venue(ABC):
    """One DEX. Its coroutines take as long as the venue takes and keep no state between them.

    All orders of a process wait on one event loop: a client that blocks goes to a thread
    (asyncio.to_thread).
    """

    name: ClassVar[str]
    # Between two questions for the same swaps, in seconds: about a block of Solana.
    status_pause: ClassVar[float] = 0.4

    def __init__(self, tools: Tools) -> None:
        self.tools = tools

    @abstractmethod
    async def quote(self, request: SwapRequest) -> Quote:
        """What the venue would return now.

        Raises VenueUnavailable, or OrderRejected (NO_ROUTE, INSUFFICIENT_LIQUIDITY), PoolTooSmall
        where a part would do.
        """

    @abstractmethod
    async def build(self, request: SwapRequest, legs: tuple[Leg, ...]) -> Swap:
        """A signed transaction for these legs, not sent. Raises VenueUnavailable.

        What takes more than CALL_SECONDS is given up.
        """

    def build_at_once(self, request: SwapRequest, legs: tuple[Leg, ...]) -> Swap | None:
        """What `build` answers, of a venue that has nothing to wait for; None of any other."""
        return None

    @abstractmethod
    async def send(self, swap: Swap, *, before: datetime | None) -> SwapState:
        """Hand the transaction to the chain; sending it again is harmless.

        Answers what the chain says of it with that: pending or unknown, as a rule, and status()
        is asked for the rest.

        At `before` and later it is not handed over: that is asked as late as the venue allows.

        Raises VenueUnavailable when it is not known whether the chain took it.
        """

    @abstractmethod
    async def status(self, swap: Swap) -> SwapState:
        """What became of the transaction. Raises VenueUnavailable."""

    async def statuses(self, swaps: Sequence[Swap]) -> Sequence[SwapState | Exception]:
        """What became of each, or why that is not known: one swap's error is no other's.

        A venue that answers for many at once overrides this.
        """
        return await asyncio.gather(*(self._status_or_error(swap) for swap in swaps))

    async def _status_or_error(self, swap: Swap) -> SwapState | Exception:
        try:
            return await answered(self.status(swap), self.name, STATUS_SECONDS)
        except Exception as error:  # raised to who waits for this swap
            return error


async def answered(call: Awaitable[T], venue: str, seconds: float | None = None) -> T:
    """What the venue answers in time, which is CALL_SECONDS if not given.

    Raises what is a DexError, and VenueUnavailable(QUOTE_UNAVAILABLE) for anything else.
    """
    try:
        return await in_time(call, venue, seconds)
    except DexError:
        raise
    except Exception as error:
        log.exception("venue.bug: %s", venue)
        detail = f"{venue}: failed with {type(error).__name__}"
        raise VenueUnavailable("QUOTE_UNAVAILABLE", detail) from error


async def in_time(call: Awaitable[T], venue: str, seconds: float | None = None) -> T:
    """The same, and what it raises."""
    seconds = CALL_SECONDS if seconds is None else seconds
    patience = asyncio.timeout(seconds)
    try:
        async with patience:
            return await call
    except TimeoutError:
        if not patience.expired():
            raise
        detail = f"{venue}: no answer in {seconds:g} s"
        raise VenueUnavailable("QUOTE_UNAVAILABLE", detail) from None
