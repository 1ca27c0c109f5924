"""Amounts, prices and slippage as strings: exact, plain, never a float."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dex import tokens
from dex.pools import constant_product
from dex.pools.base import Depth
from dex.types import Leg, Offer, Quote, QuoteFailure, Reason, Route, Strategy, SwapRequest
from orders import render
from orders.events import iso, milliseconds
from orders.models import FailureCode, Order

U64_MAX = 2**64 - 1


def test_both_hours_of_a_clock_that_is_set_back_are_told_apart() -> None:
    summer = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    winter = summer.replace(fold=1)

    assert summer == winter  # to Python, and to a cache
    assert iso(summer) == "2026-10-25T00:30:00.000Z"
    assert iso(winter) == "2026-10-25T01:30:00.000Z"


def an_order(**changes: Any) -> Order:
    moment = datetime(2025, 11, 8, 10, 30, tzinfo=UTC)
    fields: dict[str, Any] = {
        "id": "ord_1762597800000_abcdefghij",
        "order_type": "market",
        "token_in": "SOL",
        "token_out": "USDC",
        "amount_in": 1_500_000_000,
        "slippage_bps": 100,
        "status": "pending",
        "seq": 1,
        "attempt": 1,
        "venue": "",
        "fee_token": "",
        "tx_hash": "",
        "failure_code": "",
        "failure_message": "",
        "created_at": moment,
        "updated_at": moment,
    }
    return Order(**{**fields, **changes})


def a_step(status: str, ms: int, attempt: int = 1, **rest: Any) -> render.Step:
    """An event so many milliseconds after the order came in."""
    moment = datetime(2025, 11, 8, 10, 30, tzinfo=UTC) + timedelta(milliseconds=ms)
    return render.Step(status, attempt, milliseconds(moment), **rest)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("0", "0"),
        ("0.000", "0"),
        ("-0", "0"),
        ("1E+3", "1000"),
        ("1E-8", "0.00000001"),
        ("1.500", "1.5"),
        ("100", "100"),
        ("-0.00012300", "-0.000123"),
        ("123456789012.3", "123456789012.3"),
    ],
)
def test_a_number_has_no_exponent_and_no_trailing_zeros(number: str, text: str) -> None:
    assert render.plain(Decimal(number)) == text


@pytest.mark.parametrize(
    ("points", "text"),
    [(1, "0.0001"), (100, "0.01"), (50, "0.005"), (1234, "0.1234"), (5000, "0.5")],
)
def test_basis_points_are_a_fraction(points: int, text: str) -> None:
    assert render.fraction(points) == text


@pytest.mark.parametrize(
    ("symbol", "units", "text"),
    [
        ("SOL", 1_500_000_000, "1.5"),
        ("SOL", 1, "0.000000001"),
        ("SOL", 100_000_000_000, "100"),
        ("SOL", U64_MAX, "18446744073.709551615"),
        ("SOL", Decimal(U64_MAX), "18446744073.709551615"),
        ("BONK", U64_MAX, "184467440737095.51615"),
        ("USDC", 0, "0"),
        ("USDC", 142_310_000, "142.31"),
        ("USDC", None, None),
    ],
)
def test_an_amount_is_in_whole_tokens_exactly(symbol: str, units: Any, text: str | None) -> None:
    assert render.amount(symbol, units) == text


@pytest.mark.parametrize(
    ("order", "received", "text"),
    [
        ({}, 214_000_000, "142.666666667"),
        ({}, 225_000_000, "150"),
        ({}, None, None),
        ({"amount_in": 1_000_000_000}, 1, "0.000001"),
        ({"amount_in": 3_000_000_000}, 1, "0.000000333333333333"),
        ({"token_in": "BONK", "token_out": "SOL", "amount_in": 100_000}, 93, "0.000000093"),
        (
            {"token_in": "USDC", "token_out": "BONK", "amount_in": 1},
            U64_MAX,
            "184467440737000000000",
        ),
    ],
)
def test_a_price_is_token_out_per_token_in_with_twelve_digits(
    order: dict[str, Any], received: int | None, text: str | None
) -> None:
    assert render.price(an_order(**order), received) == text


@pytest.mark.parametrize(
    ("expected", "received", "text"),
    [
        (214_000_000, 214_000_000, "0"),
        (200_000_000, 199_000_000, "0.005"),
        (200_000_000, 201_000_000, "-0.005"),
        (3, 2, "0.33333333"),
        (214_000_000, None, None),
        (None, 214_000_000, None),
    ],
)
def test_realized_slippage_is_the_part_that_did_not_arrive(
    expected: int | None, received: int | None, text: str | None
) -> None:
    order = an_order(expected_amount_out=expected, amount_out=received)

    assert render.realized_slippage(order) == text


def test_a_moment_is_utc_with_milliseconds() -> None:
    east = timezone(timedelta(hours=2))

    assert render.moment(datetime(2025, 11, 8, 12, 30, tzinfo=east)) == "2025-11-08T10:30:00.000Z"
    assert (
        render.moment(datetime(2025, 11, 8, 10, 30, 0, 123_999, tzinfo=UTC))
        == "2025-11-08T10:30:00.123Z"
    )
    assert render.moment(None) is None


def test_a_waiting_order_shows_null_for_what_is_not_known() -> None:
    shown = render.order_json(an_order(), [])

    unknown = "clientOrderId venue expectedPrice executedPrice amountOut minAmountOut fee"
    unknown += " priceImpact realizedSlippage txHash failure completedAt"
    assert {shown[name] for name in unknown.split()} == {None}
    assert (shown["amount"], shown["slippage"], shown["quotes"]) == ("1.5", "0.01", [])
    assert shown["createdAt"] == "2025-11-08T10:30:00.000Z"


def test_a_confirmed_order_shows_its_execution() -> None:
    order = an_order(
        status="confirmed",
        seq=5,
        venue="raydium",
        expected_amount_out=214_000_000,
        min_amount_out=211_860_000,
        amount_out=213_900_000,
        fee=4_500_000,
        fee_token="SOL",
        price_impact=Decimal("0.0001000000"),
        tx_hash="5sig",
        completed_at=datetime(2025, 11, 8, 10, 30, 3, tzinfo=UTC),
    )

    shown = render.order_json(order, [a_step("building", 700, quotes=[{"venue": "raydium"}])])

    expected = {
        "venue": "raydium",
        "quotes": [{"venue": "raydium"}],
        "expectedPrice": "142.666666667",
        "executedPrice": "142.6",
        "amountOut": "213.9",
        "minAmountOut": "211.86",
        "fee": "0.0045",
        "priceImpact": "0.0001",
        "realizedSlippage": "0.00046729",
        "txHash": "5sig",
        "completedAt": "2025-11-08T10:30:03.000Z",
    }
    assert {name: shown[name] for name in expected} == expected


def test_the_quotes_are_those_of_the_attempt() -> None:
    order = an_order(seq=4, attempt=2)
    steps = [
        a_step("building", 700, quotes=[{"venue": "raydium"}]),
        a_step("pending", 900, 2),
    ]

    assert render.order_json(order, steps)["quotes"] == []


@pytest.mark.parametrize("code", list(FailureCode))
def test_a_failure_says_whether_a_new_order_may_succeed(code: FailureCode) -> None:
    passing = {"QUOTE_UNAVAILABLE", "SLIPPAGE_EXCEEDED", "TX_REJECTED", "TX_EXPIRED"}
    order = an_order(failure_code=code.value, failure_message="why")

    assert render.failure_json(order) == {
        "code": code.value,
        "message": "why",
        "retryable": code.value in passing,
    }


def a_quote(venue: str, amount_out: int) -> Quote:
    return Quote(
        venue=venue,
        curve="cpmm",
        amount_in=1_500_000_000,
        amount_out=amount_out,
        min_amount_out=amount_out * 99 // 100,
        fee=3_750_000,
        fee_token=tokens.SOL,
        mid_price=Decimal("143.123456789012345678"),
        effective_price=Decimal("142.670000000000000000"),
        price_impact=Decimal("0.000123456789"),
        block_height=900,
    )


def test_a_route_shows_the_decision_and_all_it_was_made_on() -> None:
    request = SwapRequest(
        token_in=tokens.SOL, token_out=tokens.USDC, amount_in=1_500_000_000, slippage_bps=100
    )
    best = a_quote("raydium", 214_000_000)
    late = QuoteFailure(venue="meteora", code="QUOTE_UNAVAILABLE", detail="no answer")
    pool = constant_product.cpmm(Depth(reserve_in=10**12, reserve_out=150 * 10**9, a_to_b=True))
    offer = Offer(venue="orca", curve="cpmm", pool=pool, block_height=901)
    small = QuoteFailure(venue="orca", code="INSUFFICIENT_LIQUIDITY", detail="no", offer=offer)
    route = Route(
        request=request,
        strategy=Strategy.AUTO,
        legs=(Leg(venue="raydium", quote=best),),
        quotes=(best,),
        failures=(late, small),
        reason=Reason.OTHER_TIMED_OUT,
        explanation="Raydium returns 214.000000 USDC",
        fee=(best.fee, best.fee_token),
        price_impact=best.price_impact,
    )

    assert render.route_json(route) == {
        "venue": "raydium",
        "strategy": "auto",
        "reason": {"code": "OTHER_TIMED_OUT", "text": "Raydium returns 214.000000 USDC"},
        "quotes": [
            {
                "venue": "raydium",
                "curve": "cpmm",
                "amountOut": "214",
                "minAmountOut": "211.86",
                "effectivePrice": "142.67",
                "midPrice": "143.123456789",
                "priceImpact": "0.00012346",
                "fee": "0.00375",
                "feeToken": "SOL",
                "blockHeight": 900,
            },
            {
                "venue": "meteora",
                "error": {"code": "QUOTE_UNAVAILABLE", "detail": "no answer"},
            },
            {
                "venue": "orca",
                "curve": "cpmm",
                "midPrice": "150",
                "blockHeight": 901,
                "error": {"code": "INSUFFICIENT_LIQUIDITY", "detail": "no"},
            },
        ],
        "legs": [
            {
                "venue": "raydium",
                "amountIn": "1.5",
                "amountOut": "214",
                "minAmountOut": "211.86",
            }
        ],
        "expectedPrice": "142.666666667",
        "expectedAmountOut": "214",
        "minAmountOut": "211.86",
    }


# Latencies ---------------------------------------------------------------------------------------

NOWHERE = {"queued": None, "routing": None, "building": None, "submitted": None, "total": None}


def ended(ms: int, **changes: Any) -> Order:
    order = an_order(**changes)
    order.completed_at = order.created_at + timedelta(milliseconds=ms)
    return order


@pytest.mark.parametrize(
    ("order", "path", "expected"),
    [
        (an_order(), [("pending", 0)], {}),
        (an_order(), [("pending", 0), ("routing", 40)], {"queued": 40}),
        (
            ended(2900),
            [
                *[("pending", 0), ("routing", 40), ("building", 250)],
                *[("submitted", 262), ("confirmed", 2900)],
            ],
            {"queued": 40, "routing": 210, "building": 12, "submitted": 2638, "total": 2900},
        ),
        (
            ended(90),
            [("pending", 0), ("routing", 40), ("failed", 90)],
            {"queued": 40, "routing": 50, "total": 90},
        ),
        (ended(70), [("pending", 0), ("cancelled", 70)], {"queued": 70, "total": 70}),
        (  # a worker was lost while it built: both stays in routing count
            an_order(),
            [("pending", 0), ("routing", 1), ("building", 5), ("routing", 20), ("building", 26)],
            {"queued": 1, "routing": 10, "building": 15},
        ),
    ],
    ids=["waiting", "routing", "confirmed", "failed", "cancelled", "taken over"],
)
def test_latencies_are_the_time_in_each_stage_that_was_left(
    order: Order, path: list[tuple[str, int]], expected: dict[str, int]
) -> None:
    steps = [a_step(status, ms) for status, ms in path]

    assert render.latencies(order, steps) == {**NOWHERE, **expected}


def test_latencies_are_those_of_the_last_attempt_but_the_total_is_of_all() -> None:
    steps = [
        *[a_step("pending", 0), a_step("routing", 30), a_step("building", 200)],
        *[
            a_step("pending", 300, 2),
            a_step("routing", 1310, 2),
            a_step("failed", 1400, 2),
        ],
    ]

    found = render.latencies(ended(1400, attempt=2), steps)

    assert found == {**NOWHERE, "queued": 1010, "routing": 90, "total": 1400}


def test_the_total_adds_up_in_the_milliseconds_that_the_order_shows() -> None:
    order = an_order()
    order.created_at += timedelta(microseconds=600)
    order.completed_at = order.created_at + timedelta(microseconds=2_500)

    assert render.latencies(order, [])["total"] == 3
