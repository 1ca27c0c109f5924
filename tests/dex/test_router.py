import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from dex import pricing
from dex.errors import DexError, OrderRejected, VenueUnavailable
from dex.pools import clmm, constant_product
from dex.pools.base import Depth, MakePool
from dex.router import REST_SECONDS, Router
from dex.tokens import BONK, SOL, USDC
from dex.types import Leg, Offer, Quote, Reason, Route, Swap, SwapRequest, SwapState
from dex.venues.base import Venue

REQUEST = SwapRequest(token_in=SOL, token_out=USDC, amount_in=10**9, slippage_bps=100)


Answer = Callable[[], Quote | Awaitable[Quote]]


class StubVenue(Venue):
    """Answers a quote with whatever `answer` does, which may be a coroutine."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def quote(self, request: SwapRequest) -> Quote:
        answer = self._answer()
        return answer if isinstance(answer, Quote) else await answer

    async def build(self, request: SwapRequest, legs: tuple[Leg, ...]) -> Swap:
        raise NotImplementedError

    async def send(self, swap: Swap, *, before: datetime | None) -> None:
        raise NotImplementedError

    async def status(self, swap: Swap) -> SwapState:
        raise NotImplementedError


def quote(venue: str, amount_out: int, fee: int = 3_000_000) -> Quote:
    return Quote(
        venue=venue,
        curve="cpmm",
        amount_in=10**9,
        amount_out=amount_out,
        min_amount_out=amount_out * 99 // 100,
        fee=fee,
        fee_token=SOL,
        mid_price=Decimal(150),
        effective_price=Decimal(amount_out) / 10**6,
        price_impact=Decimal(0),
        block_height=1,
    )


def raising(error: Exception) -> Callable[[], Quote]:
    def answer() -> Quote:
        raise error

    return answer


def routed(
    timeouts_ms: dict[str, int] | None = None, **answers: Answer
) -> Coroutine[Any, Any, Route]:
    venues = {name: StubVenue(answer) for name, answer in answers.items()}
    router = Router(venues, timeouts_ms=timeouts_ms or dict.fromkeys(venues, 5_000))
    return router.route(REQUEST)


UNAVAILABLE = raising(VenueUnavailable("QUOTE_UNAVAILABLE", "gave no answer"))
NO_ROUTE = raising(OrderRejected("NO_ROUTE", "no such pool"))
BUG = raising(ZeroDivisionError("of the venue"))
DRY = raising(OrderRejected("INSUFFICIENT_LIQUIDITY", "too little"))


def raydium() -> Quote:
    return quote("raydium", 142_310_000)


def meteora() -> Quote:
    return quote("meteora", 138_900_000)


async def test_the_venue_that_returns_more_is_taken() -> None:
    route = await routed(raydium=raydium, meteora=meteora)

    assert [leg.venue for leg in route.legs] == ["raydium"]
    assert route.reason is Reason.BEST_PRICE
    assert route.explanation == (
        "Raydium returns 142.310000 USDC, Meteora 138.900000: Raydium by 245 bps"
    )
    assert route.quotes == (raydium(), meteora())
    assert (route.amount_out, route.min_amount_out) == (142_310_000, 140_886_900)


async def test_venues_are_asked_at_the_same_time() -> None:
    together = asyncio.Barrier(2)

    def meeting(answer: Callable[[], Quote]) -> Answer:
        async def meet() -> Quote:
            await together.wait()
            return answer()

        return meet

    assert len((await routed(raydium=meeting(raydium), meteora=meeting(meteora))).quotes) == 2


@pytest.mark.parametrize(
    ("raydium_fee", "meteora_fee", "taken"), [(3, 2, "meteora"), (2, 3, "raydium")]
)
async def test_equal_outputs_go_to_the_lower_fee(
    raydium_fee: int, meteora_fee: int, taken: str
) -> None:
    route = await routed(
        raydium=lambda: quote("raydium", 10**8, raydium_fee),
        meteora=lambda: quote("meteora", 10**8, meteora_fee),
    )

    assert route.legs[0].venue == taken
    assert route.reason is Reason.TIE_LOWER_FEE
    assert route.explanation.endswith(f"{taken.capitalize()} for the lower fee")


async def test_where_the_fees_are_equal_too_none_is_said_to_be_lower() -> None:
    route = await routed(
        raydium=lambda: quote("raydium", 10**8), meteora=lambda: quote("meteora", 10**8)
    )

    assert (route.legs[0].venue, route.reason) == ("meteora", Reason.TIE_LOWER_FEE)
    assert route.explanation.endswith("Raydium 100.000000: the same fee, too")


async def test_a_dead_venue_does_not_stop_the_order() -> None:
    route = await routed(raydium=UNAVAILABLE, meteora=meteora)

    assert route.legs[0].venue == "meteora"
    assert route.reason is Reason.OTHER_TIMED_OUT
    assert [(failure.venue, failure.code) for failure in route.failures] == [
        ("raydium", "QUOTE_UNAVAILABLE")
    ]
    assert "Raydium: QUOTE_UNAVAILABLE, gave no answer" in route.explanation


@pytest.mark.parametrize("detail", ["raydium gave no answer", "raydium: gave no answer"])
async def test_a_venue_is_named_once(detail: str) -> None:
    unavailable = raising(VenueUnavailable("QUOTE_UNAVAILABLE", detail))

    route = await routed(raydium=unavailable, meteora=meteora)

    assert route.explanation.endswith("USDC; Raydium: QUOTE_UNAVAILABLE, gave no answer")


async def test_a_fault_of_one_venue_is_logged_and_the_other_ones_quote_is_taken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    route = await routed(raydium=raising(ConnectionResetError("secret")), meteora=meteora)

    assert route.legs[0].venue == "meteora"
    [failure] = route.failures
    assert (failure.code, failure.detail) == (
        "QUOTE_UNAVAILABLE",
        "failed with ConnectionResetError",
    )
    [line] = caplog.records
    assert (line.message, line.exc_info is not None) == ("venue.bug: raydium", True)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"amount_out": 0, "min_amount_out": 0}, "INSUFFICIENT_LIQUIDITY"),
        ({"amount_out": -5, "min_amount_out": -5}, "INSUFFICIENT_LIQUIDITY"),
        ({"amount_in": 10**12}, "QUOTE_UNAVAILABLE"),
        ({"min_amount_out": 142_310_000 * 99 // 100 - 1}, "QUOTE_UNAVAILABLE"),
        ({"min_amount_out": 142_310_001}, "QUOTE_UNAVAILABLE"),
        ({"amount_out": 142_310_000.0}, "QUOTE_UNAVAILABLE"),
        ({"amount_out": 2**64, "min_amount_out": 2**64}, "QUOTE_UNAVAILABLE"),
        ({"fee": -1}, "QUOTE_UNAVAILABLE"),
        ({"fee_token": BONK}, "QUOTE_UNAVAILABLE"),
        ({"mid_price": Decimal(0)}, "QUOTE_UNAVAILABLE"),
        ({"mid_price": Decimal("Infinity")}, "QUOTE_UNAVAILABLE"),
        ({"effective_price": Decimal("NaN")}, "QUOTE_UNAVAILABLE"),
        ({"price_impact": Decimal("NaN")}, "QUOTE_UNAVAILABLE"),
        ({"price_impact": Decimal(-3)}, "QUOTE_UNAVAILABLE"),
        ({"venue": "Raydium"}, "QUOTE_UNAVAILABLE"),
    ],
)
async def test_what_is_no_quote_of_the_request_is_the_venue_s_failure(
    wrong: dict[str, Any], code: str
) -> None:
    route = await routed(raydium=lambda: replace(raydium(), **wrong), meteora=meteora)

    assert route.legs[0].venue == "meteora"
    assert [failure.code for failure in route.failures] == [code]


async def test_an_answer_that_is_no_quote_at_all_is_a_fault_of_its_venue() -> None:
    async def nothing() -> Any:
        return None

    route = await routed(raydium=nothing, meteora=meteora)

    assert [failure.detail for failure in route.failures] == ["failed with AttributeError"]


async def test_a_time_out_of_the_venue_s_own_is_not_said_to_be_ours() -> None:
    route = await routed(raydium=raising(TimeoutError()), meteora=meteora)

    assert [failure.detail for failure in route.failures] == ["failed with TimeoutError"]


async def after(seconds: float) -> Quote:
    await asyncio.sleep(seconds)
    return meteora()


async def test_a_hung_venue_costs_its_deadline_and_nothing_more() -> None:
    started = time.monotonic()

    route = await routed(
        {"raydium": 50, "meteora": 5_000}, raydium=lambda: after(10), meteora=meteora
    )

    assert time.monotonic() - started < 2
    assert route.reason is Reason.OTHER_TIMED_OUT
    assert route.failures[0].detail == "no answer in 50 ms"


async def test_each_venue_has_its_own_deadline() -> None:
    venues: dict[str, Answer] = {"raydium": raydium, "meteora": lambda: after(0.2)}

    impatient = await routed({"raydium": 5_000, "meteora": 20}, **venues)
    patient = await routed({"raydium": 20, "meteora": 5_000}, **venues)

    assert [failure.detail for failure in impatient.failures] == ["no answer in 20 ms"]
    assert patient.failures == ()


async def test_a_venue_that_refuses_leaves_the_only_one() -> None:
    route = await routed(raydium=NO_ROUTE, meteora=meteora)

    assert route.reason is Reason.ONLY_VENUE
    assert route.failures[0].code == "NO_ROUTE"


async def test_of_two_that_have_no_quote_the_late_one_is_the_reason() -> None:
    route = await routed(raydium=UNAVAILABLE, orca=NO_ROUTE, meteora=meteora)

    assert route.reason is Reason.OTHER_TIMED_OUT


@pytest.mark.parametrize(
    ("first", "second", "error", "code"),
    [
        (UNAVAILABLE, UNAVAILABLE, VenueUnavailable, "QUOTE_UNAVAILABLE"),
        (NO_ROUTE, UNAVAILABLE, VenueUnavailable, "QUOTE_UNAVAILABLE"),
        (NO_ROUTE, BUG, VenueUnavailable, "QUOTE_UNAVAILABLE"),
        (NO_ROUTE, DRY, OrderRejected, "INSUFFICIENT_LIQUIDITY"),
        (NO_ROUTE, NO_ROUTE, OrderRejected, "NO_ROUTE"),
    ],
)
async def test_no_quote_at_all_is_an_error(
    first: Callable[[], Quote], second: Callable[[], Quote], error: type[DexError], code: str
) -> None:
    with pytest.raises(error) as caught:
        await routed(raydium=first, meteora=second)

    assert caught.value.code == code


@pytest.mark.parametrize(
    ("first", "second", "detail"),
    [(UNAVAILABLE, UNAVAILABLE, "gave no answer"), (NO_ROUTE, DRY, "no such pool; too little")],
)
async def test_what_several_venues_say_alike_is_said_once(
    first: Callable[[], Quote], second: Callable[[], Quote], detail: str
) -> None:
    with pytest.raises(DexError) as caught:
        await routed(raydium=first, meteora=second)

    assert caught.value.detail == detail


async def test_a_venue_that_could_not_build_is_left_alone_for_a_while() -> None:
    venues = {"raydium": StubVenue(raydium), "meteora": StubVenue(meteora)}
    now = 100.0
    router = Router(venues, timeouts_ms=dict.fromkeys(venues, 5_000), monotonic=lambda: now)

    router.rest("raydium")

    now += REST_SECONDS - 0.1
    resting = await router.route(REQUEST)
    assert (resting.venue, [failure.venue for failure in resting.failures]) == (
        "meteora",
        ["raydium"],
    )
    now += 0.1
    assert (await router.route(REQUEST)).venue == "raydium"


async def test_a_venue_that_could_not_build_gets_no_part_either() -> None:
    """Of an order that its pool is too small for."""
    depth = Depth(reserve_in=10_000 * 10**9, reserve_out=1_500_000 * 10**6, a_to_b=True)
    request = replace(REQUEST, amount_in=4_500 * 10**9)

    def asked(venue: str, make: MakePool) -> Quote:
        offer = Offer(venue=venue, curve="any", block_height=7, pool=make(depth))
        return pricing.quote(request, offer)

    venues = {
        "raydium": StubVenue(lambda: asked("raydium", clmm.pool)),
        "meteora": StubVenue(lambda: asked("meteora", constant_product.damm_v2)),
    }
    router = Router(venues, timeouts_ms=dict.fromkeys(venues, 5_000))
    assert (await router.route(request)).venue == "meteora+raydium"

    router.rest("raydium")

    assert (await router.route(request)).venue == "meteora"


async def test_where_every_venue_that_quotes_rests_the_best_is_taken() -> None:
    venues = {"raydium": StubVenue(raydium), "meteora": StubVenue(UNAVAILABLE)}
    router = Router(venues, timeouts_ms=dict.fromkeys(venues, 5_000))

    router.rest("raydium")

    assert (await router.route(REQUEST)).venue == "raydium"
