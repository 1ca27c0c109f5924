"""What crosses the border of dex: requests, quotes, routes, swaps and what became of them.

Amounts are integers in base units of their token (lamports for SOL); prices and impacts are
Decimal and only ever shown. Slippage is an integer number of basis points.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from dex.errors import DexError, PoolTooSmall
from dex.pools.base import Pool


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    symbol: str
    mint: str
    decimals: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SwapRequest:
    """What one attempt of one order wants. `order_id` is empty for a bare quote."""

    token_in: Token
    token_out: Token
    amount_in: int
    slippage_bps: int
    order_id: str = ""
    attempt: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A venue's pool at one block height: what it would return for any part of an order."""

    venue: str
    curve: str
    block_height: int
    pool: Pool = field(compare=False, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quote:
    """A venue's answer at one block height.

    `price_impact` is a fraction and leaves the fee out; `fee` is in base units of `fee_token`.
    `mid_price` and `effective_price` are token_out per token_in, in whole tokens. `curve` names
    the venue's kind of pool; an order is divided only between quotes that carry their `pool`.
    """

    venue: str
    curve: str
    amount_in: int
    amount_out: int
    min_amount_out: int
    fee: int
    fee_token: Token
    mid_price: Decimal
    effective_price: Decimal
    price_impact: Decimal
    block_height: int
    pool: Pool | None = field(default=None, compare=False, repr=False)

    @property
    def offer(self) -> Offer | None:
        if self.pool is None:
            return None
        return Offer(
            venue=self.venue, curve=self.curve, block_height=self.block_height, pool=self.pool
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class QuoteFailure:
    """A venue that gave no quote, and why: `code` and `detail` are those of a DexError.

    `offer` is set where its pool is too small for all of the order, and may take a part.
    """

    venue: str
    code: str
    detail: str
    offer: Offer | None = None

    @classmethod
    def of(cls, venue: str, error: DexError) -> "QuoteFailure":
        offer = error.offer if isinstance(error, PoolTooSmall) else None
        return cls(venue=venue, code=error.code, detail=error.detail, offer=offer)


class Strategy(StrEnum):
    """How an order may be divided between venues."""

    BEST = "best"  # never: one venue takes all of it
    SPLIT = "split"  # whenever two parts return more together
    AUTO = "auto"  # where two parts return at least 5 bps more


class Reason(StrEnum):
    """Why a route was taken."""

    SPLIT_IMPROVES = "SPLIT_IMPROVES"  # parts on two venues return more than all of it on one
    BEST_PRICE = "BEST_PRICE"  # the venue returns more than any other
    ONLY_VENUE = "ONLY_VENUE"  # no other was asked, has such a pair, or took the amount
    OTHER_TIMED_OUT = "OTHER_TIMED_OUT"  # no other answered, one of them not in time
    TIE_LOWER_FEE = "TIE_LOWER_FEE"  # equal output, this one takes the lower fee


@dataclass(frozen=True, kw_only=True, slots=True)
class Leg:
    """The part of a route that goes through one venue."""

    venue: str
    quote: Quote


def without_name(venue: str, detail: str) -> str:
    """What a venue says, for a place where it has been named."""
    return detail.removeprefix(venue).removeprefix(":").strip()


def route_name(venues: Iterable[str]) -> str:
    """Of a route through these: "raydium", and "raydium+meteora" where it is divided."""
    return "+".join(venues)


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """The decision, with everything it was decided on. `explanation` is a sentence with numbers.

    `fee` (base units, token) and `price_impact` are of all legs together.
    """

    request: SwapRequest
    strategy: Strategy
    legs: tuple[Leg, ...]
    quotes: tuple[Quote, ...]
    failures: tuple[QuoteFailure, ...]
    reason: Reason
    explanation: str
    fee: tuple[int, Token]
    price_impact: Decimal

    @property
    def venue(self) -> str:
        return route_name(leg.venue for leg in self.legs)

    @property
    def amount_out(self) -> int:
        return sum(leg.quote.amount_out for leg in self.legs)

    @property
    def min_amount_out(self) -> int:
        return sum(leg.quote.min_amount_out for leg in self.legs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Swap:
    """A signed transaction, ready to be sent any number of times while it is valid.

    `signature` (base58) identifies it on the chain and is known before it is sent.
    It can no longer land once the chain has passed `last_valid_block_height`. `request` is what it
    was built for.
    """

    request: SwapRequest
    venue: str
    signature: str
    transaction: bytes
    last_valid_block_height: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Fill:
    amount_in: int
    amount_out: int


class SwapStatus(StrEnum):
    """What the chain knows of a signature."""

    UNKNOWN = "unknown"  # never seen, may still be sent
    PENDING = "pending"  # accepted, not landed
    LANDED = "landed"  # executed; final
    # Another transaction is signed after these two: no fork may undo them.
    FAILED = "failed"  # the program refused it, nothing but the network's fee was taken; final
    EXPIRED = "expired"  # can never land any more; final


@dataclass(frozen=True, kw_only=True, slots=True)
class SwapState:
    """`fill` is set when landed; `error_code` and `error` when failed or expired."""

    status: SwapStatus
    fill: Fill | None = None
    error_code: str = ""
    error: str = ""

    def __post_init__(self) -> None:
        """ValueError for a dead one without a code: whether to try again hangs on it."""
        if self.status in {SwapStatus.FAILED, SwapStatus.EXPIRED} and not self.error_code:
            raise ValueError(f"a swap that is {self.status} needs an error_code")

    @property
    def is_final(self) -> bool:
        return self.status not in {SwapStatus.UNKNOWN, SwapStatus.PENDING}
