import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal

import pytest

from dex.errors import DexError, OrderRejected, VenueUnavailable
from dex.router import Router
from dex.tokens import SOL, USDC
from dex.types import Leg, Quote, Reason, Swap, SwapRequest, SwapState
from dex.venues.base import Venue

REQUEST = SwapRequest(token_in=SOL, token_out=USDC, amount_in=10**9, slippage_bps=100)


class StubVenue(Venue):
    """Answers a quote with whatever `answer` does."""

    def __init__(self, answer: Callable[[], Quote]) -> None:
        self._answer = answer

    def quote(self, request: SwapRequest) -> Quote:
        return self._answer()

    def build(self, request: SwapRequest, legs: tuple[Leg, ...]) -> Swap:
        raise NotImplementedError

    def send(self, swap: Swap) -> None:
        raise NotImplementedError

    def status(self, swap: Swap) -> SwapState:
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


def raising(error: DexError) -> Callable[[], Quote]:
    def answer() -> Quote:
        raise error

    return answer


@contextmanager
def router(
    timeouts_ms: dict[str, int] | None = None, **answers: Callable[[], Quote]
) -> Iterator[Router]:
    venues = {name: StubVenue(answer) for name, answer in answers.items()}
    opened = Router(venues, timeouts_ms=timeouts_ms or dict.fromkeys(venues, 5_000))
    yield opened
    opened.close()


UNAVAILABLE = raising(VenueUnavailable("QUOTE_UNAVAILABLE", "gave no answer"))
NO_ROUTE = raising(OrderRejected("NO_ROUTE", "no such pool"))
DRY = raising(OrderRejected("INSUFFICIENT_LIQUIDITY", "too little"))


def raydium() -> Quote:
    return quote("raydium", 142_310_000)


def meteora() -> Quote:
    return quote("meteora", 138_900_000)


def test_the_venue_that_returns_more_is_taken() -> None:
    with router(raydium=raydium, meteora=meteora) as opened:
        route = opened.route(REQUEST)

    assert [leg.venue for leg in route.legs] == ["raydium"]
    assert route.reason is Reason.BEST_PRICE
    assert route.explanation == (
        "Raydium returns 142.310000 USDC, Meteora 138.900000: Raydium by 245 bps"
    )
    assert route.quotes == (raydium(), meteora())
    assert (route.amount_out, route.min_amount_out) == (142_310_000, 140_886_900)


def test_venues_are_asked_at_the_same_time() -> None:
    together = threading.Barrier(2, timeout=5)

    def meeting(answer: Callable[[], Quote]) -> Callable[[], Quote]:
        return lambda: (together.wait(), answer())[1]

    with router(raydium=meeting(raydium), meteora=meeting(meteora)) as opened:
        assert len(opened.route(REQUEST).quotes) == 2


@pytest.mark.parametrize(
    ("raydium_fee", "meteora_fee", "taken"), [(3, 2, "meteora"), (2, 3, "raydium")]
)
def test_equal_outputs_go_to_the_lower_fee(raydium_fee: int, meteora_fee: int, taken: str) -> None:
    with router(
        raydium=lambda: quote("raydium", 10**8, raydium_fee),
        meteora=lambda: quote("meteora", 10**8, meteora_fee),
    ) as opened:
        route = opened.route(REQUEST)

    assert route.legs[0].venue == taken
    assert route.reason is Reason.TIE_LOWER_FEE
    assert route.explanation.endswith(f"{taken.capitalize()} for the lower fee")


def test_a_dead_venue_does_not_stop_the_order() -> None:
    with router(raydium=UNAVAILABLE, meteora=meteora) as opened:
        route = opened.route(REQUEST)

    assert route.legs[0].venue == "meteora"
    assert route.reason is Reason.OTHER_TIMED_OUT
    assert [(failure.venue, failure.code) for failure in route.failures] == [
        ("raydium", "QUOTE_UNAVAILABLE")
    ]
    assert "Raydium: QUOTE_UNAVAILABLE, gave no answer" in route.explanation


def test_a_hung_venue_costs_its_deadline_and_nothing_more() -> None:
    hung = threading.Event()
    with router(
        {"raydium": 50, "meteora": 5_000},
        raydium=lambda: (hung.wait(10), raydium())[1],
        meteora=meteora,
    ) as opened:
        started = time.monotonic()
        routes = [opened.route(REQUEST) for _ in range(3)]
        took = time.monotonic() - started
        hung.set()

    assert took < 2
    assert {route.reason for route in routes} == {Reason.OTHER_TIMED_OUT}
    assert routes[0].failures[0].detail == "no answer in 50 ms"


def test_each_venue_has_its_own_deadline() -> None:
    slow = threading.Event()

    def late() -> Quote:
        slow.wait(0.2)
        return meteora()

    with router({"raydium": 5_000, "meteora": 20}, raydium=raydium, meteora=late) as opened:
        impatient = opened.route(REQUEST)
    with router({"raydium": 20, "meteora": 5_000}, raydium=raydium, meteora=late) as opened:
        patient = opened.route(REQUEST)

    assert [failure.detail for failure in impatient.failures] == ["no answer in 20 ms"]
    assert patient.failures == ()


def test_a_venue_that_refuses_leaves_the_only_one() -> None:
    with router(raydium=NO_ROUTE, meteora=meteora) as opened:
        route = opened.route(REQUEST)

    assert route.reason is Reason.ONLY_VENUE
    assert route.failures[0].code == "NO_ROUTE"


@pytest.mark.parametrize(
    ("first", "second", "error", "code"),
    [
        (UNAVAILABLE, UNAVAILABLE, VenueUnavailable, "QUOTE_UNAVAILABLE"),
        (NO_ROUTE, UNAVAILABLE, VenueUnavailable, "QUOTE_UNAVAILABLE"),
        (NO_ROUTE, DRY, OrderRejected, "INSUFFICIENT_LIQUIDITY"),
        (NO_ROUTE, NO_ROUTE, OrderRejected, "NO_ROUTE"),
    ],
)
def test_no_quote_at_all_is_an_error(
    first: Callable[[], Quote], second: Callable[[], Quote], error: type[DexError], code: str
) -> None:
    with router(raydium=first, meteora=second) as opened, pytest.raises(error) as caught:
        opened.route(REQUEST)

    assert caught.value.code == code


def test_a_bug_in_a_venue_surfaces() -> None:
    with (
        router(raydium=lambda: 1 // 0, meteora=meteora) as opened,
        pytest.raises(ZeroDivisionError),
    ):
        opened.route(REQUEST)


class InstantVenue(StubVenue):
    answers_at_once = True


def test_a_venue_that_never_waits_is_asked_in_the_thread_that_routes() -> None:
    asked_in: list[threading.Thread] = []

    def raydium_here() -> Quote:
        asked_in.append(threading.current_thread())
        return raydium()

    venues = {"raydium": InstantVenue(raydium_here), "meteora": InstantVenue(UNAVAILABLE)}
    route = Router(venues, timeouts_ms=dict.fromkeys(venues, 1)).route(REQUEST)

    assert asked_in == [threading.current_thread()]
    assert (route.venue, route.failures[0].code) == ("raydium", "QUOTE_UNAVAILABLE")


def test_a_hung_venue_has_its_deadline_beside_one_that_never_waits() -> None:
    hung = threading.Event()
    slow = StubVenue(lambda: meteora() if hung.wait(5) else raydium())
    venues = {"raydium": InstantVenue(raydium), "meteora": slow}

    route = Router(venues, timeouts_ms={"raydium": 1, "meteora": 50}).route(REQUEST)

    hung.set()
    assert (route.venue, route.failures[0].venue) == ("raydium", "meteora")
