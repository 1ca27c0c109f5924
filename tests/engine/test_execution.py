"""One attempt: what is stored before what is sent, what is retried, and taking over."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from dex.errors import OrderRejected, SlippageExceeded, VenueUnavailable
from dex.types import Fill, SwapState, SwapStatus
from orders import claims, database, execution, lifecycle, queries
from orders.execution import RetryLater
from orders.models import Order, Status, Swap
from tests.factories import (
    StubExchange,
    claim,
    dead,
    end_lease,
    landed,
    load,
    make_due,
    order_in,
    pending,
    place,
    unknown,
)

pytestmark = pytest.mark.usefixtures("no_orders")

BROKEN = pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("the server closed the connection"),
        psycopg.InterfaceError("the connection is closed"),
        psycopg.errors.UndefinedFunction("of another release"),
    ],
    ids=lambda error: type(error).__name__,
)


@pytest.fixture(params=[False, True], ids=["building waits", "built at once"], autouse=True)
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(StubExchange, "at_once", request.param)
    return request.param


def execute(order_id: str, exchange: StubExchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "exchange", lambda: exchange)
    execution.execute_order(order_id, may_go_on=lambda: True)


@contextmanager
def listening() -> Iterator[psycopg.Connection[Any]]:
    """To what tells the dispatcher that another order may run."""
    with psycopg.connect(database.conninfo(), autocommit=True) as conn:
        conn.execute(f"LISTEN {lifecycle.ROOM_CHANNEL}")
        yield conn


def rung(room: psycopg.Connection[Any]) -> bool:
    return bool(list(room.notifies(timeout=5, stop_after=1)))


def statuses(order_id: str) -> list[str]:
    return [event.status for event in queries.events_after(order_id, None, 0)]


def test_an_order_goes_through_its_states_and_keeps_the_decision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order_id = place()

    execute(order_id, StubExchange(pending(), landed()), monkeypatch)

    order = load(order_id)
    events = {event.status: event.data for event in queries.events_after(order_id, None, 0)}
    assert list(events) == ["pending", "routing", "building", "submitted", "confirmed"]
    assert events["building"]["reason"]["code"] == "ONLY_VENUE"
    assert events["submitted"]["txHash"] == events["confirmed"]["txHash"] == order.tx_hash
    assert events["confirmed"]["amountOut"] == "213.9"
    assert (order.venue, order.amount_out, order.min_amount_out) == (
        "raydium", 213_900_000, 211_860_000,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("amount_in", "amount_out", "told"),
    [
        (1_500_000_000, 211_859_999, ["error"]),
        (1_500_000_000, 211_860_000, []),
        (1_500_000_001, 213_900_000, ["error"]),
        (1_499_999_999, 213_900_000, ["error"]),
    ],
    ids=["below the minimum", "the minimum", "more was paid", "less was paid"],
)
def test_a_fill_that_was_not_signed_is_confirmed_and_somebody_is_told(
    monkeypatch: pytest.MonkeyPatch, amount_in: int, amount_out: int, told: list[str]
) -> None:
    order_id = place()
    fill = Fill(amount_in=amount_in, amount_out=amount_out)
    state = SwapState(status=SwapStatus.LANDED, fill=fill)

    with capture_logs() as lines:
        execute(order_id, StubExchange(pending(), state), monkeypatch)

    assert load(order_id).status == Status.CONFIRMED
    said = [line for line in lines if line["event"] == "fill.not_as_signed"]
    assert [line["log_level"] for line in said] == told
    for line in said:
        assert (line["order_id"], line["amount_in"], line["amount_out"]) == (
            order_id, amount_in, amount_out,
        )  # fmt: skip


def test_the_signature_is_stored_before_the_transaction_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order_id = place()
    exchange = StubExchange()
    seen: list[tuple[str, str]] = []

    async def send(swap: Any, *, before: Any) -> Any:
        stored = "SELECT status, signature FROM orders_order o, orders_swap WHERE order_id = o.id"
        seen.append(tuple(database.rows(stored, {})[0].values()))
        exchange.sent.append(swap)
        return pending()

    monkeypatch.setattr(exchange, "send", send)
    execute(order_id, exchange, monkeypatch)

    assert seen == [("submitted", exchange.sent[0].signature)]


def test_nothing_is_sent_when_storing_the_signature_fails(
    at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = place()
    exchange = StubExchange()
    advance = lifecycle.advance_with_others

    async def fails_at_submitted(order: Order, to: Status, **rest: Any) -> None:
        if to is Status.SUBMITTED:
            raise psycopg.OperationalError("the connection broke during COMMIT")
        await advance(order, to, **rest)

    monkeypatch.setattr(execution, "advance_with_others", fails_at_submitted)
    execute(order_id, exchange, monkeypatch)

    assert exchange.calls == ["route", "build"]
    assert load(order_id).status == (Status.ROUTING if at_once else Status.BUILDING)


def test_what_is_built_at_once_is_stored_with_the_decision(
    at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    parameters = lifecycle.parameters

    def seen(moves: Any) -> Any:
        written.extend(move["to"] for move in moves)
        return parameters(moves)

    monkeypatch.setattr(lifecycle, "parameters", seen)
    for order_id in (place(), place(deadline_at=datetime.now(UTC) + timedelta(hours=1))):
        execute(order_id, StubExchange(), monkeypatch)

    apart = ["building", "submitted", "confirmed"]
    assert written == 2 * (apart[1:] if at_once else apart)


@pytest.mark.parametrize(
    "error",
    [
        VenueUnavailable("QUOTE_UNAVAILABLE", "no answer"),
        SlippageExceeded("SLIPPAGE_EXCEEDED", "-"),
    ],
    ids=["unavailable", "slippage"],
)
def test_a_passing_failure_is_retried_after_1_and_2_seconds_and_then_fails_once(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = place()
    exchange = StubExchange(route=error)
    waits = []

    for _ in range(2):
        with pytest.raises(RetryLater):
            execute(order_id, exchange, monkeypatch)
        order = load(order_id)
        waits.append((order.next_attempt_at - order.updated_at).total_seconds())
        assert (order.status, order.failure_code) == ("pending", "")
        make_due(order_id)
    execute(order_id, exchange, monkeypatch)

    order = load(order_id)
    assert waits == [1, 2]
    assert (order.status, order.attempt) == ("failed", 3)
    assert order.failure_code == error.args[0].split(":")[0]
    assert statuses(order_id) == ["pending", "routing"] * 3 + ["failed"]


def test_a_final_refusal_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    order_id = place()

    execute(
        order_id, StubExchange(route=OrderRejected("NO_ROUTE", "no venue trades it")), monkeypatch
    )

    order = load(order_id)
    assert (order.status, order.failure_code, order.attempt) == ("failed", "NO_ROUTE", 1)
    assert order.failure_message == "no venue trades it"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (SwapStatus.FAILED, "SLIPPAGE_EXCEEDED"),
        (SwapStatus.FAILED, "TX_REJECTED"),
        (SwapStatus.EXPIRED, "TX_EXPIRED"),
    ],
)
def test_a_dead_transaction_is_followed_by_a_new_one(
    status: SwapStatus, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = place()
    with pytest.raises(RetryLater):
        execute(order_id, StubExchange(dead(status, code)), monkeypatch)
    make_due(order_id)

    execute(order_id, StubExchange(landed()), monkeypatch)

    swaps = list(Swap.objects.filter(order=order_id).order_by("attempt"))
    assert [swap.state for swap in swaps] == ["dead", "landed"]
    assert swaps[0].signature != swaps[1].signature
    assert load(order_id).tx_hash == swaps[1].signature


def test_what_has_landed_when_it_is_sent_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    order_id = place()
    exchange = StubExchange(sends=landed(213_800_000))

    execute(order_id, exchange, monkeypatch)

    assert exchange.calls == ["route", "build", "send"]
    assert statuses(order_id)[-2:] == ["submitted", "confirmed"]
    assert load(order_id).amount_out == 213_800_000


def test_what_is_dead_when_it_is_sent_is_followed_by_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order_id = place()
    exchange = StubExchange(sends=dead(SwapStatus.FAILED, "TX_REJECTED"))

    with pytest.raises(RetryLater):
        execute(order_id, exchange, monkeypatch)

    assert exchange.calls == ["route", "build", "send"]
    assert statuses(order_id)[-2:] == ["submitted", "pending"]
    assert Swap.objects.get(order=order_id).state == "dead"


def test_a_lost_answer_to_send_is_not_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    order_id = place()
    exchange = StubExchange(pending(), landed())

    async def lost(swap: Any, *, before: Any) -> None:
        raise VenueUnavailable("X", "lost")

    monkeypatch.setattr(exchange, "send", lost)

    execute(order_id, exchange, monkeypatch)

    assert statuses(order_id)[-1] == "confirmed"


def test_a_chain_that_does_not_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    order_id = place()
    silent = VenueUnavailable("X", "no answer")

    execute(order_id, StubExchange(silent, silent, landed()), monkeypatch)

    assert statuses(order_id)[-1] == "confirmed"


def test_taking_over_a_submitted_order_asks_before_anything_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = order_in(Status.SUBMITTED)
    end_lease(order.id)
    exchange = StubExchange(landed())

    execute(order.id, exchange, monkeypatch)

    assert exchange.calls == ["status"]
    assert statuses(order.id)[-2:] == ["submitted", "confirmed"]


def test_taking_over_sends_the_same_bytes_when_the_chain_never_saw_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = order_in(Status.SUBMITTED)
    end_lease(order.id)
    exchange = StubExchange(unknown(), pending(), landed())

    execute(order.id, exchange, monkeypatch)

    stored = Swap.objects.get(order=order.id)
    assert exchange.calls == ["status", "send", "status", "status"]
    assert exchange.sent[0].signature == stored.signature
    assert exchange.sent[0].transaction == bytes(stored.transaction)


def test_what_the_chain_has_not_seen_is_sent_again_after_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = order_in(Status.SUBMITTED)
    end_lease(order.id)
    exchange = StubExchange(*[unknown()] * 20, landed())

    execute(order.id, exchange, monkeypatch)

    assert exchange.calls == ["status", "send", *["status"] * 20]

    monkeypatch.setattr(execution, "RESEND_SECONDS", 0)
    order = order_in(Status.SUBMITTED)
    end_lease(order.id)
    exchange = StubExchange(*[unknown()] * 3, landed())

    execute(order.id, exchange, monkeypatch)

    assert exchange.calls == [*["status", "send"] * 3, "status"]


def test_taking_over_an_unsigned_order_quotes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    order = order_in(Status.BUILDING)
    end_lease(order.id)

    execute(order.id, StubExchange(), monkeypatch)

    assert statuses(order.id) == [
        "pending", "routing", "building", "routing", "building", "submitted", "confirmed",
    ]  # fmt: skip
    assert load(order.id).attempt == 1


def test_a_worker_that_lost_its_claim_writes_nothing_more(
    at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = place()
    exchange = StubExchange()
    step = "route" if at_once else "build"
    original = getattr(exchange, step)

    async def slow(what: Any) -> Any:
        end_lease(order_id)
        assert await claims.claim(order_id) is not None  # another worker took over meanwhile
        return await original(what)

    monkeypatch.setattr(exchange, step, slow)
    execute(order_id, exchange, monkeypatch)

    assert exchange.sent == []
    decided = [] if at_once else ["building"]
    assert statuses(order_id) == ["pending", "routing", *decided, "routing"]


def test_a_retry_that_another_worker_has_to_make_is_not_asked_of_celery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order_id = place()
    exchange = StubExchange()

    async def fails_late(_: Any) -> Any:
        end_lease(order_id)
        assert await claims.claim(order_id) is not None
        raise VenueUnavailable("QUOTE_UNAVAILABLE", "no answer")

    monkeypatch.setattr(exchange, "route", fails_late)
    execute(order_id, exchange, monkeypatch)  # does not raise RetryLater

    assert statuses(order_id) == ["pending", "routing", "routing"]


def test_a_long_wait_renews_the_lease(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    order_id = place()
    renewed: list[str] = []
    original = claims.claim

    async def claim_then_at_its_end(wanted: str) -> Any:
        order = await original(wanted)
        settings.ORDER_LEASE_SECONDS = 0.0
        return order

    monkeypatch.setattr(claims, "claim", claim_then_at_its_end)
    monkeypatch.setattr(claims, "renew", lambda order: renewed.append(order.id))

    execute(order_id, StubExchange(pending(), pending(), landed()), monkeypatch)

    assert renewed == [order_id, order_id]


def test_a_lease_is_renewed_before_it_runs_out(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of it passes between two looks at the clock."""
    seconds = count(step=settings.ORDER_LEASE_SECONDS / 4)
    monkeypatch.setattr(execution, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    renewed: list[str] = []
    monkeypatch.setattr(claims, "renew", lambda order: renewed.append(order.id))
    order_id = place()

    execute(order_id, StubExchange(*[pending()] * 3, landed()), monkeypatch)

    assert renewed == [order_id]


def test_a_transaction_that_died_of_a_lasting_reason_is_not_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dead = SwapState(status=SwapStatus.FAILED, error_code="INSUFFICIENT_LIQUIDITY", error="drained")
    order_id = place()

    execute(order_id, StubExchange(dead), monkeypatch)

    order = load(order_id)
    assert (order.status, order.attempt) == ("failed", 1)
    assert order.failure_code == "INSUFFICIENT_LIQUIDITY"


def test_a_fault_of_the_engine_fails_the_order_without_details(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order_id = place()

    execute(order_id, StubExchange(route=KeyError("secret detail")), monkeypatch)

    order = load(order_id)
    assert (order.status, order.failure_code) == ("failed", "INTERNAL")
    assert "secret" not in order.failure_message


@pytest.mark.parametrize(
    "error",
    [
        KeyError("bug"),
        OrderRejected("TX_REJECTED", "a program this release does not know"),
        SlippageExceeded("SLIPPAGE_EXCEEDED", "-"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_fault_after_submitting_leaves_the_order_to_the_chain(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = place()

    execute(order_id, StubExchange(error), monkeypatch)

    assert load(order_id).status == Status.SUBMITTED


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "taken over"])
@pytest.mark.parametrize(("state", "status"), [(landed, Status.CONFIRMED), (dead, Status.PENDING)])
def test_bytes_that_are_refused_when_they_are_sent_are_ended_by_the_chain_alone(
    fresh: bool, state: Any, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = place() if fresh else order_in(Status.SUBMITTED).id
    if not fresh:
        end_lease(order_id)
    exchange = StubExchange(unknown(), state())
    monkeypatch.setattr(exchange, "send", refused_by(exchange))

    with suppress(RetryLater):
        execute(order_id, exchange, monkeypatch)

    assert "send" in exchange.calls
    assert load(order_id).status == status


def refused_by(exchange: StubExchange) -> Any:
    async def send(swap: Any, *, before: Any) -> None:
        exchange.calls.append("send")
        raise OrderRejected("TX_REJECTED", "the blockhash is not of this chain")

    return send


def test_an_order_whose_deadline_passes_while_it_is_built_is_not_submitted(
    at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = place(deadline_at=datetime.now(UTC) + timedelta(hours=1))
    exchange = StubExchange()
    original = claims.claim
    passes = "UPDATE orders_order SET deadline_at = now() WHERE id = %(id)s RETURNING deadline_at"

    async def claim_then_late(wanted: str) -> Any:
        order = await original(wanted)
        if order is not None:
            order.deadline_at = database.rows(passes, {"id": order.id})[0]["deadline_at"]
        return order

    monkeypatch.setattr(claims, "claim", claim_then_late)
    execute(order_id, exchange, monkeypatch)

    before = ["pending", "routing"] if at_once else ["pending", "routing", "building"]
    assert (exchange.sent, statuses(order_id)) == ([], [*before, "failed"])
    assert load(order_id).failure_code == "DEADLINE_EXCEEDED"


def test_what_is_sent_says_until_when_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = datetime.now(UTC) + timedelta(hours=1)
    limited, free = StubExchange(), StubExchange()

    execute(place(deadline_at=deadline), limited, monkeypatch)
    execute(place(), free, monkeypatch)

    assert (limited.sent_before, free.sent_before) == ([deadline], [None])


@BROKEN
def test_a_database_that_is_away_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, error: psycopg.Error
) -> None:
    async def away(order_id: str) -> None:
        raise error

    monkeypatch.setattr(claims, "claim", away)

    execute("ord_1", StubExchange(), monkeypatch)  # does not raise


def test_an_order_that_cannot_be_claimed_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = StubExchange()

    execute(order_in(Status.CANCELLED).id, exchange, monkeypatch)

    assert exchange.calls == []


def test_nothing_is_sent_again_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    order = order_in(Status.SUBMITTED)
    Order.objects.filter(id=order.id).update(deadline_at=database.now())
    end_lease(order.id)
    exchange = StubExchange(unknown(), unknown(), dead())

    with pytest.raises(RetryLater):
        execute(order.id, exchange, monkeypatch)

    assert exchange.sent == []


def test_a_hint_is_not_retried_for_the_order_that_ran_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finished, waiting = order_in(Status.CANCELLED), place()
    exchange = StubExchange(route=VenueUnavailable("QUOTE_UNAVAILABLE", "no answer"))

    execute(finished.id, exchange, monkeypatch)  # does not raise

    assert (load(waiting).status, load(waiting).attempt) == ("pending", 2)


def test_a_retried_order_forgets_its_dead_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    order_id = place()

    with pytest.raises(RetryLater):
        execute(order_id, StubExchange(dead()), monkeypatch)

    order = load(order_id)
    assert (order.tx_hash, order.venue, order.expected_amount_out) == ("", "", None)


def test_a_column_of_a_newer_release_is_passed_over() -> None:
    row = database.row("SELECT *, 1 AS added FROM orders_order WHERE id = %(id)s", {"id": place()})
    assert row is not None

    assert Order.of_row(row).status == Status.PENDING


@pytest.fixture
def leaving() -> Iterator[None]:
    """This process was told to stop."""
    execution.leaving.set()
    yield
    execution.leaving.clear()
    execution.gone.clear()


def test_a_worker_that_was_told_to_stop_takes_no_order_more(
    leaving: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = place()

    execute(order_id, StubExchange(), monkeypatch)

    assert load(order_id).status == Status.PENDING


def test_what_does_not_end_in_time_is_handed_over_when_the_worker_stops(
    leaving: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution.leaving.clear()
    order_id = place()
    exchange = StubExchange(pending())
    status = exchange.status

    async def stop_while_asked(swap: Any) -> Any:
        execution.gone.set()
        return await status(swap)

    monkeypatch.setattr(exchange, "status", stop_while_asked)
    execute(order_id, exchange, monkeypatch)

    order = claim(order_id)
    assert order is not None  # at once, not after its lease
    assert (order.status, order.fence) == (Status.SUBMITTED, 2)


def test_an_order_that_is_handed_over_wakes_the_dispatcher() -> None:
    order = order_in(Status.BUILDING)

    with listening() as room:
        claims.release(order)

        assert rung(room)


@BROKEN
def test_after_a_failure_of_the_database_the_order_is_handed_over(
    monkeypatch: pytest.MonkeyPatch, error: psycopg.Error
) -> None:
    order_id = place()
    releases = iter([error, None])
    release = claims.release

    def release_later(order: Order) -> bool:
        if still := next(releases):
            raise still
        return release(order)

    async def away(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(claims, "release", release_later)
    monkeypatch.setattr(execution, "advance_with_others", away)
    monkeypatch.setattr(execution, "exchange", StubExchange)
    monkeypatch.setattr(execution, "RELEASE_PAUSES", (0.0, 0.01))

    execution.execute_order(order_id)

    assert claim(order_id) is not None


def test_a_worker_that_is_about_to_end_tries_once_to_hand_over(
    leaving: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = place()
    execution.leaving.clear()
    tried: list[str] = []

    async def away(*_: Any, **__: Any) -> None:
        execution.gone.set()
        raise psycopg.OperationalError("the server closed the connection")

    def still_away(order: Order) -> bool:
        tried.append(order.id)
        raise psycopg.OperationalError("still away")

    monkeypatch.setattr(claims, "release", still_away)
    monkeypatch.setattr(execution, "advance_with_others", away)
    monkeypatch.setattr(execution, "exchange", StubExchange)
    monkeypatch.setattr(execution, "RELEASE_PAUSES", (0.0, 0.01))
    execution.execute_order(order_id)

    assert tried == [order_id]


def test_a_task_goes_on_with_the_next_order_until_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order_ids = [place() for _ in range(3)]

    execute(order_ids[1], StubExchange(), monkeypatch)

    assert [load(order_id).status for order_id in order_ids] == ["confirmed"] * 3


def test_a_retry_of_its_own_order_reaches_celery_before_another_order_is_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, other = place(), place()

    with listening() as room:
        with pytest.raises(RetryLater):
            execute(own, StubExchange(dead()), monkeypatch)

        assert rung(room)
    assert load(other).status == Status.PENDING


def test_another_order_s_retry_does_not_end_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    own, failing, last = sorted(place() for _ in range(3))
    exchange = StubExchange(landed(), dead(), landed())

    with listening() as room:
        execute(own, exchange, monkeypatch)

        assert rung(room)  # the retry is due later: the dispatcher has to look
    statuses = [load(order_id).status for order_id in (own, failing, last)]
    assert statuses == ["confirmed", "pending", "confirmed"]


def test_a_worker_told_to_stop_between_two_orders_begins_no_other(
    leaving: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution.leaving.clear()
    first, second = sorted(place() for _ in range(2))
    exchange = StubExchange()
    send = exchange.send

    async def stop_while_sending(swap: Any, *, before: Any) -> Any:
        execution.leaving.set()
        return await send(swap, before=before)

    monkeypatch.setattr(exchange, "send", stop_while_sending)
    with listening() as room:
        execute(first, exchange, monkeypatch)

        assert (load(first).status, load(second).status) == ("confirmed", "pending")
        assert rung(room)  # another worker has room for the second


def test_a_task_goes_on_only_while_its_rate_limit_lets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    order_ids = sorted(place() for _ in range(4))
    monkeypatch.setattr(execution, "exchange", StubExchange)
    allowed = iter([True, False])

    with listening() as room:
        execution.execute_order(order_ids[0], may_go_on=lambda: next(allowed))

        assert rung(room)
    assert [load(order_id).status for order_id in order_ids] == ["confirmed"] * 2 + ["pending"] * 2
