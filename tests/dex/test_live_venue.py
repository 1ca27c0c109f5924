"""The seam of a live venue: one file and one line, beside the simulated ones (docs/dex.md)."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from solders.hash import Hash
from solders.instruction import Instruction
from solders.message import MessageV0
from solders.transaction import VersionedTransaction

from dex import pricing
from dex.errors import VenueUnavailable
from dex.transactions import MEMO_PROGRAM
from dex.types import Fill, Leg, Quote, Reason, Swap, SwapRequest, SwapState, SwapStatus
from dex.venues import base, registry
from dex.venues.base import Venue
from tests.dex.blocking import Blocking


async def goes_wrong(name: str) -> None:
    if name == "late":
        await asyncio.sleep(60)
    if name == "broken":
        raise KeyError("value")
    if name == "slow":
        raise TimeoutError  # of the client's own


class Elsewhere(Venue):
    """Quotes over an API that knows no pools, and asks a node of its own for what landed."""

    name = "elsewhere"
    landed: dict[str, Fill] = {}
    price = 10**6

    async def quote(self, request: SwapRequest) -> Quote:
        amount_out = self.price * request.amount_in // 10**9  # whatever the API says
        return Quote(
            venue=self.name,
            curve="api",
            amount_in=request.amount_in,
            amount_out=amount_out,
            min_amount_out=pricing.min_amount_out(amount_out, request.slippage_bps),
            fee=1,
            fee_token=request.token_in,
            mid_price=Decimal(1),
            effective_price=Decimal(1),
            price_impact=Decimal(0),
            block_height=5,
        )

    async def build(self, request: SwapRequest, legs: tuple[Leg, ...]) -> Swap:
        await goes_wrong(request.order_id)
        if request.order_id == "unbuilt":
            raise VenueUnavailable("QUOTE_UNAVAILABLE", "the API answered 503")
        memo = Instruction(MEMO_PROGRAM, f"{request.order_id}:{request.attempt}".encode(), [])
        signer = self.tools.signer
        message = MessageV0.try_compile(signer.public_key, [memo], [], Hash(bytes(32)))
        transaction = signer.sign(message)
        return Swap(
            request=request,
            venue=self.name,
            signature=str(transaction.signatures[0]),
            transaction=bytes(transaction),
            last_valid_block_height=150,
        )

    async def send(self, swap: Swap, *, before: datetime | None) -> SwapState:
        await goes_wrong(swap.signature)
        if before is not None and before <= datetime.now(UTC):
            raise VenueUnavailable("DEADLINE_EXCEEDED", "not sent: the deadline had passed")
        assert VersionedTransaction.from_bytes(swap.transaction).verify_with_results() == [True]
        self.landed[swap.signature] = Fill(amount_in=10**9, amount_out=999_000)
        return SwapState(status=SwapStatus.PENDING)

    async def status(self, swap: Swap) -> SwapState:
        await goes_wrong(swap.signature)
        if swap.signature == "unread":
            raise VenueUnavailable("QUOTE_UNAVAILABLE", "the node has no answer to this one")
        fill = self.landed.get(swap.signature)
        status = SwapStatus.LANDED if fill else SwapStatus.UNKNOWN
        return SwapState(status=status, fill=fill)


@pytest.fixture
def exchange(exchange_with: Callable[..., Blocking], monkeypatch: pytest.MonkeyPatch) -> Blocking:
    monkeypatch.setitem(registry.VENUES, Elsewhere.name, Elsewhere)
    venues = ("elsewhere", "raydium")
    return exchange_with(venues=venues, quote_timeouts_ms=dict.fromkeys(venues, 5_000))


def test_a_live_venue_is_quoted_beside_a_simulated_one(exchange: Blocking, request_for) -> None:
    route = exchange.route(request_for(amount_in=1_000 * 10**9))

    assert [quote.venue for quote in route.quotes] == ["elsewhere", "raydium"]
    assert (route.venue, route.reason) == ("raydium", Reason.BEST_PRICE)


def test_a_live_venue_signs_sends_and_looks_up_for_itself(
    exchange_with, request_for, exchange: Blocking
) -> None:
    alone = exchange_with(venues=("elsewhere",), quote_timeouts_ms={"elsewhere": 5_000})
    route = alone.route(request_for())
    assert alone.build_at_once(route) is None
    swap = alone.build(route)

    assert alone.status(swap).status is SwapStatus.UNKNOWN
    alone.send(swap)

    assert alone.status(swap).status is SwapStatus.LANDED


def test_a_live_venue_that_cannot_build_leaves_the_next_attempt_to_another(
    exchange: Blocking, request_for, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Elsewhere, "price", 10**9)  # better than any pool
    request = request_for(order_id="unbuilt")
    first = exchange.route(request)
    assert first.venue == "elsewhere"
    with pytest.raises(VenueUnavailable, match="503"):
        exchange.build(first)

    second = exchange.route(replace(request, attempt=2))

    assert (second.venue, second.reason) == ("raydium", Reason.OTHER_TIMED_OUT)
    assert second.explanation.endswith(
        "Elsewhere: QUOTE_UNAVAILABLE, it could not build a transaction a moment ago"
    )


def swaps_of(request: SwapRequest, *signatures: str) -> list[Swap]:
    return [
        Swap(
            request=request,
            venue="elsewhere",
            signature=signature,
            transaction=b"",
            last_valid_block_height=1,
        )
        for signature in signatures
    ]


@pytest.mark.parametrize("wrong", ["unread", "late", "broken"])
def test_a_live_venue_that_cannot_say_of_one_swap_says_of_the_others(
    exchange: Blocking, request_for, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setattr(base, "STATUS_SECONDS", 0.1)

    begun = time.monotonic()
    before, failed, after = exchange.statuses(swaps_of(request_for(), "a", wrong, "b"))

    assert time.monotonic() - begun < 3
    assert before == after == SwapState(status=SwapStatus.UNKNOWN)
    assert isinstance(failed, VenueUnavailable)


# What is said of a build, and what a sending raises.
WRONG: dict[str, tuple[str, type[Exception]]] = {
    "late": ("no answer in 0.1 s", VenueUnavailable),
    "broken": ("failed with KeyError", KeyError),
    "slow": ("failed with TimeoutError", TimeoutError),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_live_venue_that_hangs_or_breaks_fails_one_attempt(
    exchange: Blocking, request_for, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    detail, sending = WRONG[wrong]
    monkeypatch.setattr(Elsewhere, "price", 10**9)
    monkeypatch.setattr(base, "CALL_SECONDS", 0.1)
    request = request_for(order_id=wrong)
    route = exchange.route(request)
    [swap] = swaps_of(request, wrong)

    with pytest.raises(VenueUnavailable, match=f"elsewhere: {detail}"):
        exchange.build(route)
    with pytest.raises(sending):
        exchange.send(swap)

    assert exchange.route(replace(request, attempt=2)).venue == "raydium"
