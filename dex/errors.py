"""The ways a venue can fail an order. Anything else that is raised is a bug."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dex.types import Offer


class DexError(Exception):
    """A failure with a code the client sees."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class VenueUnavailable(DexError):
    """The venue did not answer, or not in time: try again."""


class SlippageExceeded(DexError):
    """The price moved past the minimum: quote again."""


class OrderRejected(DexError):
    """No further attempt can succeed: final."""


class PoolTooSmall(OrderRejected):
    """The venue's pool cannot take all of it; beside another one it may take a part."""

    def __init__(self, code: str, detail: str, offer: "Offer | None" = None) -> None:
        super().__init__(code, detail)
        self.offer = offer
