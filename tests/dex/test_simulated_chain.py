"""The ledger on a real PostgreSQL: what lands, what fails, what expires, and by whose clock."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from dex import postgres
from dex.errors import OrderRejected, VenueUnavailable
from dex.exchange import Exchange, ExchangeConfig
from dex.instructions import DecodedTransaction, SwapInstruction
from dex.simulation import database
from dex.simulation.blocks import BLOCK_MS
from dex.simulation.chain import SimulatedChain
from dex.simulation.database import CLOCK_MAX_AGE_NS, Database
from dex.simulation.faults import Faults
from dex.simulation.market import Market
from dex.simulation.settlement import Outcome, Settlement
from dex.tokens import SOL, USDC
from dex.types import Leg, Route, Strategy, Swap, SwapState, SwapStatus
from dex.venues.registry import SIMULATED, VENUES


def with_quote(route: Route, **changes: object) -> Route:
    leg = route.legs[0]
    return replace(route, legs=(Leg(venue=leg.venue, quote=replace(leg.quote, **changes)),))


def built(exchange: Exchange, request, *, blocks_ago: int = 0) -> Swap:
    """A swap whose blockhash is as old as it says."""
    route = exchange.route(request)
    height = route.legs[0].quote.block_height - blocks_ago
    return exchange.build(with_quote(route, block_height=height))


def settled(exchange: Exchange, swap: Swap, within: float = 5) -> SwapState:
    deadline = time.monotonic() + within
    while not (state := exchange.status(swap)).is_final:
        assert time.monotonic() < deadline, f"still {state.status}"
        time.sleep(0.01)
    return state


def rows(ledger) -> list[tuple[str, str]]:
    return ledger.execute("SELECT signature, status FROM chain.transaction").fetchall()


def test_a_transaction_sent_again_is_the_same_one(exchange_with, request_for, ledger) -> None:
    exchange = exchange_with()
    swap = built(exchange, request_for())

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(exchange.send, [swap] * 16))

    assert settled(exchange, swap).status is SwapStatus.LANDED
    assert rows(ledger) == [(swap.signature, "landed")]


def test_the_ledger_says_what_landed(exchange_with, request_for, ledger) -> None:
    exchange = exchange_with()
    swap = built(exchange, request_for(order_id="ord_2", attempt=3))

    exchange.send(swap)
    fill = exchange.status(swap).fill

    row = ledger.execute(
        "SELECT order_id, attempt, venue, amount_in, amount_out FROM chain.transaction"
    ).fetchone()
    assert row == ("ord_2", 3, swap.venue, fill.amount_in, fill.amount_out)


def test_what_is_settled_at_once_is_the_answer_to_sending_it(exchange_with, request_for) -> None:
    exchange = exchange_with()
    swaps = [built(exchange, request_for(order_id=f"ord_{number}")) for number in range(2)]
    hopeless = exchange.build(with_quote(exchange.route(request_for()), min_amount_out=10**18))

    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(exchange.send, [*swaps, hopeless]))

    assert answers == [exchange.status(swap) for swap in [*swaps, hopeless]]
    assert [answer.status.value for answer in answers] == ["landed", "landed", "failed"]
    assert answers[2].error_code == "SLIPPAGE_EXCEEDED"


def test_what_is_under_way_is_pending_and_what_was_sent_before_is_to_be_asked_for(
    exchange_with, request_for
) -> None:
    exchange = exchange_with(swap_latency_ms=(300, 300))
    swap = built(exchange, request_for())

    answers = [exchange.send(swap) for _ in range(2)]

    assert [answer.status.value for answer in answers] == ["pending", "unknown"]


def test_a_transaction_lands_by_itself(exchange_with, request_for, ledger) -> None:
    exchange = exchange_with(swap_latency_ms=(300, 300))
    swap = built(exchange, request_for())
    exchange.send(swap)
    assert exchange.status(swap) == SwapState(status=SwapStatus.PENDING)
    assert rows(ledger) == [(swap.signature, "pending")]
    exchange.close()

    settled(exchange_with(swap_latency_ms=(300, 300)), swap)

    sent_at, landed_at = ledger.execute(
        "SELECT sent_at, landed_at FROM chain.transaction"
    ).fetchone()
    assert landed_at - sent_at == timedelta(milliseconds=300)


def test_a_final_state_stays(exchange_with, request_for) -> None:
    exchange = exchange_with()
    swap = built(exchange, request_for())
    exchange.send(swap)
    landed = exchange.status(swap)

    exchange.send(swap)

    assert exchange.status(swap) == landed


def test_what_was_sent_in_time_is_not_late_when_it_is_sent_again(
    exchange_with, request_for, ledger
) -> None:
    exchange = exchange_with()
    swap = built(exchange, request_for())
    exchange.send(swap)

    exchange.send(swap, before=datetime.now(UTC))

    assert rows(ledger) == [(swap.signature, "landed")]


def test_of_those_sent_together_the_late_ones_are_refused(
    exchange_with, request_for, ledger
) -> None:
    exchange = exchange_with()
    swaps = [built(exchange, request_for(order_id=f"ord_{number}")) for number in range(8)]
    now = datetime.now(UTC)

    def sent(number: int) -> bool:
        try:
            exchange.send(swaps[number], before=now + timedelta(hours=number % 2))
        except VenueUnavailable:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(sent, range(8))) == [False, True] * 4

    assert {signature for signature, _ in rows(ledger)} == {swap.signature for swap in swaps[1::2]}


def test_the_latency_is_drawn_from_the_range(exchange_with, request_for, ledger) -> None:
    exchange = exchange_with(swap_latency_ms=(2_000, 3_000))
    for number in range(50):
        exchange.send(built(exchange, request_for(order_id=f"ord_{number}")))

    latencies = [
        row[0] / timedelta(milliseconds=1)
        for row in ledger.execute("SELECT settles_at - sent_at FROM chain.transaction")
    ]

    assert 2_000 <= min(latencies) < 2_300
    assert 2_700 < max(latencies) <= 3_000


def test_fills_lie_within_half_a_percent_of_the_quote(exchange_with, request_for) -> None:
    exchange = exchange_with()
    slippages = []
    for number in range(200):
        request = request_for(order_id=f"ord_{number}", amount_in=10**9 * (1 + number % 100))
        route = exchange.route(request)
        swap = exchange.build(route)
        exchange.send(swap)
        filled = exchange.status(swap).fill.amount_out
        slippages.append((filled - route.amount_out) / route.amount_out)

    assert -0.005 <= min(slippages) < -0.003
    assert 0.003 < max(slippages) <= 0.005


def test_below_the_minimum_nothing_moves(exchange_with, request_for, ledger) -> None:
    exchange = exchange_with()
    route = exchange.route(request_for())
    swap = exchange.build(with_quote(route, min_amount_out=route.amount_out * 101 // 100))

    exchange.send(swap)
    state = exchange.status(swap)

    assert (state.status, state.error_code) == (SwapStatus.FAILED, "SLIPPAGE_EXCEEDED")
    assert state.fill is None
    assert ledger.execute("SELECT amount_out, landed_at FROM chain.transaction").fetchall() == [
        (None, None)
    ]


def test_what_is_filled_at_its_minimum_lands() -> None:
    program = SIMULATED["raydium"].programs[0]
    settlement = Settlement(
        seed="tests",
        market=Market("tests", tuple(SIMULATED)),
        programs={program.program_id: program},
        latency_ms=(0, 0),
        faults=Faults(),
    )

    def outcome(minimum: int) -> Outcome:
        swap = SwapInstruction(
            program_id=program.program_id,
            mint_in=SOL.mint,
            mint_out=USDC.mint,
            amount_in=10**9,
            min_amount_out=minimum,
        )
        sent = DecodedTransaction(
            signature="s", blockhash=b"", order_id="ord_1", attempt=1, swaps=(swap,)
        )
        return settlement.outcome_of(sent, height=4_400_000_000)

    most = outcome(1).amount_out

    assert outcome(most).amount_out == most
    assert outcome(most + 1).error_code == "SLIPPAGE_EXCEEDED"


@pytest.fixture
def divided(exchange_with, request_for) -> tuple[Exchange, Route]:
    """A route with two legs."""
    exchange = exchange_with(strategy=Strategy.SPLIT, venues=("raydium", "meteora"))
    route = exchange.route(request_for(amount_in=1_000 * 10**9))
    assert [leg.venue for leg in route.legs] == ["raydium", "meteora"]
    return exchange, route


def test_both_legs_of_a_split_land_in_one_transaction(divided, ledger) -> None:
    exchange, route = divided
    swap = exchange.build(route)

    exchange.send(swap)
    fill = exchange.status(swap).fill

    assert fill.amount_in == 1_000 * 10**9
    assert route.min_amount_out <= fill.amount_out
    assert abs(fill.amount_out - route.amount_out) * 200 <= route.amount_out
    assert ledger.execute("SELECT venue, amount_in FROM chain.transaction").fetchall() == [
        ("raydium+meteora", 1_000 * 10**9)
    ]


@pytest.mark.parametrize("missed", [0, 1])
def test_a_split_of_which_one_leg_misses_its_minimum_moves_nothing(
    divided, ledger, missed: int
) -> None:
    exchange, route = divided
    legs = list(route.legs)
    too_much = legs[missed].quote.amount_out * 101 // 100
    quote = replace(legs[missed].quote, min_amount_out=too_much)
    legs[missed] = replace(legs[missed], quote=quote)
    swap = exchange.build(replace(route, legs=tuple(legs)))

    exchange.send(swap)
    state = exchange.status(swap)

    assert (state.status, state.error_code) == (SwapStatus.FAILED, "SLIPPAGE_EXCEEDED")
    assert ledger.execute("SELECT amount_out, landed_at FROM chain.transaction").fetchall() == [
        (None, None)
    ]


def test_what_is_in_flight_lands_after_the_curves_were_switched(exchange_with, request_for) -> None:
    swap = built(exchange_with(curves={"raydium": "clmm", "meteora": "dlmm"}), request_for())
    switched = exchange_with()

    switched.send(swap)

    assert switched.status(swap).status is SwapStatus.LANDED


def test_a_venue_that_is_asked_no_longer_still_knows_what_it_sent(
    exchange_with, request_for
) -> None:
    alone = {name: exchange_with(venues=(name,)) for name in ("raydium", "meteora")}
    swap = built(alone["raydium"], request_for())
    alone["raydium"].send(swap)

    assert alone["meteora"].route(request_for()).venue == "meteora"
    assert alone["meteora"].status(swap).status is SwapStatus.LANDED


def test_a_tampered_transaction_is_never_recorded(exchange_with, request_for, ledger) -> None:
    exchange = exchange_with()
    swap = built(exchange, request_for())
    tampered = swap.transaction[:-1] + bytes([swap.transaction[-1] ^ 1])

    with pytest.raises(OrderRejected, match="TX_REJECTED"):
        exchange.send(replace(swap, transaction=tampered))

    assert rows(ledger) == []


def test_a_blockhash_of_another_chain_is_refused(exchange_with, request_for, ledger) -> None:
    swap = built(exchange_with(seed="other"), request_for())

    with pytest.raises(OrderRejected, match="not of this chain"):
        exchange_with().send(swap)

    assert rows(ledger) == []


@pytest.mark.parametrize("blocks_ago", [31, 10_000, -100])
def test_a_blockhash_that_is_not_current_is_not_found(
    exchange_with, request_for, ledger, blocks_ago: int
) -> None:
    exchange = exchange_with()
    swap = built(exchange, request_for(), blocks_ago=blocks_ago)

    with pytest.raises(VenueUnavailable, match="blockhash not found"):
        exchange.send(swap)

    assert rows(ledger) == []


def test_a_swap_never_sent_expires_and_cannot_land_afterwards(
    exchange_with, request_for, ledger
) -> None:
    exchange = exchange_with()
    swap = replace(built(exchange, request_for()), last_valid_block_height=0)

    state = exchange.status(swap)
    exchange.send(swap)

    assert (state.status, state.error_code) == (SwapStatus.EXPIRED, "TX_EXPIRED")
    assert exchange.status(swap) == state
    assert ledger.execute("SELECT status, sent_at FROM chain.transaction").fetchall() == [
        ("expired", None)
    ]


@pytest.mark.parametrize("minimum", [0, 1])
def test_what_the_price_has_left_nothing_of_is_quoted_again(
    minimum: int, exchange_with, request_for
) -> None:
    exchange = exchange_with()
    route = exchange.route(request_for())
    swap = exchange.build(with_quote(route, amount_in=1, min_amount_out=minimum))

    state = exchange.send(swap)

    sentence = f"{swap.venue} would return 0 USDC, 0.000001 are the minimum"
    assert (state.error_code, state.error) == ("SLIPPAGE_EXCEEDED", sentence)


def test_a_swap_that_this_release_cannot_read_is_no_other_ones_error(
    exchange_with, request_for, ledger
) -> None:
    exchange = exchange_with()
    swap = built(exchange, request_for())
    exchange.send(swap)
    foreign = replace(swap, signature="x", transaction=b"?", last_valid_block_height=0)

    landed, refused = exchange.statuses([swap, foreign])

    assert landed.status is SwapStatus.LANDED
    assert (type(refused), refused.code) == (OrderRejected, "TX_REJECTED")
    assert rows(ledger) == [(swap.signature, "landed")]
    with pytest.raises(OrderRejected):
        exchange.status(foreign)


def test_a_landed_swap_is_landed_after_its_blockhash_expired(exchange_with, request_for) -> None:
    exchange = exchange_with()
    swap = built(exchange, request_for())
    exchange.send(swap)

    state = exchange.status(replace(swap, last_valid_block_height=0))

    assert state.status is SwapStatus.LANDED


def test_a_transaction_too_late_for_its_blockhash_expires(exchange_with, request_for) -> None:
    exchange = exchange_with(swap_latency_ms=(3_000, 3_000))
    swap = built(exchange, request_for(), blocks_ago=29)

    exchange.send(swap)

    assert settled(exchange, swap).error_code == "TX_EXPIRED"


def test_a_dropped_transaction_expires_with_its_blockhash(
    exchange_with, request_for, ledger
) -> None:
    exchange = exchange_with(faults=Faults.parse("dropped=1"))
    swap = built(exchange, request_for(), blocks_ago=29)

    exchange.send(swap)
    pending, state = exchange.status(swap), settled(exchange, swap)

    assert pending.status is SwapStatus.PENDING
    assert (state.status, state.error_code) == (SwapStatus.EXPIRED, "TX_EXPIRED")
    assert rows(ledger) == [(swap.signature, "expired")]


def test_a_rejected_transaction_fails_when_it_lands(exchange_with, request_for) -> None:
    exchange = exchange_with(faults=Faults.parse("rejected=1"))
    swap = built(exchange, request_for())

    exchange.send(swap)

    assert exchange.status(swap).error_code == "TX_REJECTED"
    assert exchange.status(swap).status is SwapStatus.FAILED


def test_a_lost_reply_hides_a_transaction_that_lands(exchange_with, request_for) -> None:
    exchange = exchange_with(faults=Faults.parse("reply_lost=1"))
    swap = built(exchange, request_for())

    with pytest.raises(VenueUnavailable):
        exchange.send(swap)

    assert exchange.status(swap).status is SwapStatus.LANDED


def test_a_swap_is_valid_for_at_least_twice_the_landing_time(exchange_with, request_for) -> None:
    for latency_ms, blocks in ((0, 30), (3_000, 30), (20_000, 100)):
        exchange = exchange_with(swap_latency_ms=(latency_ms, latency_ms))
        route = exchange.route(request_for())

        swap = exchange.build(route)

        assert swap.last_valid_block_height - route.legs[0].quote.block_height == blocks


def test_time_is_the_databases(exchange_with, request_for, ledger, monkeypatch) -> None:
    def wrong_clock() -> float:
        raise AssertionError("the chain read the worker's clock")

    exchange = exchange_with()
    monkeypatch.setattr(time, "time", wrong_clock)
    monkeypatch.setattr(time, "time_ns", wrong_clock)

    quoted = exchange.route(request_for()).legs[0].quote.block_height

    (unix_ms,) = ledger.execute("SELECT extract(epoch FROM clock_timestamp()) * 1000").fetchone()
    assert 0 <= int(unix_ms) // BLOCK_MS - quoted <= 2


def test_a_database_that_is_gone_is_a_venue_that_does_not_answer(
    exchange_with, request_for, ledger_dsn: str, ledger
) -> None:
    swap = built(exchange_with(), request_for())
    gone = exchange_with(dsn="postgresql://127.0.0.1:1/none")

    calls: list[Callable[[], object]] = [
        lambda: gone.route(request_for()),
        lambda: gone.send(swap),
    ]
    for call in calls:
        with pytest.raises(VenueUnavailable) as caught:
            call()
        assert caught.value.code == "QUOTE_UNAVAILABLE"


def test_a_clock_that_was_set_forward_costs_one_attempt(
    exchange_with, request_for, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = exchange_with()
    with monkeypatch.context() as before:
        before.setattr(database, "_UNIX_MS", f"{database._UNIX_MS} - 60000")
        swap = built(exchange, request_for())
    with pytest.raises(VenueUnavailable, match="TX_EXPIRED"):
        exchange.send(swap)

    again = built(exchange, request_for(attempt=2))

    assert exchange.send(again).status is SwapStatus.LANDED


async def test_whoever_stops_waiting_for_a_silent_database_is_let_go(
    ledger_dsn: str, ledger
) -> None:
    ticking = count(0, CLOCK_MAX_AGE_NS + 1)  # the clock is asked each time
    database = Database(ledger_dsn, monotonic_ns=lambda: next(ticking))
    await database.height()
    (backend,) = ledger.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'simulated-chain' "
        "AND datname = current_database() ORDER BY backend_start DESC"
    ).fetchone()
    os.kill(backend, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await database.height()
        waited = time.monotonic() - begun
    finally:
        os.kill(backend, signal.SIGCONT)

    assert waited < 1
    assert await database.height() > 0  # as soon as it answers
    database.close()


def test_nobody_notices_that_postgresql_has_restarted(
    exchange_with, request_for, ledger, monkeypatch
) -> None:
    monkeypatch.setattr(postgres, "IN_USE_SECONDS", 0)
    exchange = exchange_with()
    swap = built(exchange, request_for())
    exchange.send(swap)
    exchange.status(swap)
    ended = ledger.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE application_name = 'simulated-chain' AND datname = current_database()"
    ).fetchall()

    exchange.send(swap)

    assert len(ended) == 2
    assert exchange.status(swap).status is SwapStatus.LANDED


@pytest.mark.parametrize(
    "changes",
    [
        {"quote_latency_ms": -1},
        {"swap_latency_ms": (3, 2)},
        {"quote_timeouts_ms": {**dict.fromkeys(VENUES, 1), "raydium": 0}},
        {"quote_timeouts_ms": {"raydium": 1}},
        {"curves": {"meteora": "cpmm"}},
        {"curves": {"nowhere": "clmm"}},
        {"faults": Faults.parse("nowhere.rejected=1")},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    sound = ExchangeConfig(
        dsn="",
        seed="tests",
        quote_latency_ms=0,
        swap_latency_ms=(0, 0),
        faults=Faults(),
        quote_timeouts_ms=dict.fromkeys(VENUES, 1),
    )

    with pytest.raises(ValueError, match=r"latenc|timeout|nowhere|no curve"):
        replace(sound, **changes)


# Between the question and the grave ---------------------------------------------------------------


def stale(monkeypatch, height):
    """The first question finds nothing of the swap, at this height; later ones ask the ledger."""
    ask, first = SimulatedChain._ask, [[(height, *[None] * 5)]]

    async def answer(self, swaps):
        return first.pop() if first else await ask(self, swaps)

    monkeypatch.setattr(SimulatedChain, "_ask", answer)


def test_what_was_recorded_after_the_question_is_not_buried(
    exchange_with, request_for, ledger, monkeypatch
) -> None:
    exchange = exchange_with()
    swap = built(exchange, request_for())
    exchange.send(swap)
    stale(monkeypatch, swap.last_valid_block_height + 1)

    assert exchange.status(swap).status is SwapStatus.LANDED
    assert rows(ledger) == [(swap.signature, "landed")]


def test_in_its_last_block_a_swap_is_not_buried(
    exchange_with, request_for, ledger, monkeypatch
) -> None:
    exchange = exchange_with()
    swap = built(exchange, request_for())
    stale(monkeypatch, swap.last_valid_block_height)

    assert exchange.status(swap).status is SwapStatus.UNKNOWN
    assert rows(ledger) == []
