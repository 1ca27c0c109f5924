"""Who gets an order: limits of the fleet, order of starts, leases and fences."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from orderengine.environment import MOST
from orders import claims, database, lifecycle, loop, queries
from orders.execution import swap_request
from orders.lifecycle import ClaimLost
from orders.models import Order, Status, Swap
from tests.factories import (
    WAITING,
    claim,
    end_lease,
    load,
    make_due,
    order_in,
    place,
    step_to,
)
from tests.stacks import wait_until

pytestmark = pytest.mark.usefixtures("no_orders")


@pytest.fixture
def limits(settings: Any) -> Any:
    """Sets the fleet's limits; none unless the test says so."""

    def set_limits(concurrency: int = 0, starts: int = 0) -> None:
        settings.QUEUE_CONCURRENCY, settings.QUEUE_RATE_LIMIT = concurrency, starts

    set_limits()
    return set_limits


def age_starts(seconds: float) -> None:
    database.rows(
        "UPDATE orders_order SET started_at = started_at - make_interval(secs => %(s)s) "
        "WHERE started_at IS NOT NULL RETURNING id",
        {"s": seconds},
    )


def test_a_claim_starts_a_pending_order(limits: Any) -> None:
    order_id = place()

    order = claim(order_id)

    assert order is not None
    assert (order.status, order.fence, order.seq) == (Status.ROUTING, 1, 2)
    assert order.started_at is not None
    assert order.lease_until is not None
    assert queries.events_after(order_id, None, 1)[0].status == "routing"


@pytest.mark.parametrize("limited", [True, False])
def test_of_many_claims_at_once_one_gets_the_order(limits: Any, limited: bool) -> None:
    limits(concurrency=10 if limited else 0)
    order_id = place()

    with ThreadPoolExecutor(12) as threads:
        got = [order for order in threads.map(claim, [order_id] * 24) if order]

    assert len(got) == 1
    assert load(order_id).fence == 1


def test_the_highest_limits_that_may_be_set_are_none(limits: Any) -> None:
    limits(concurrency=MOST, starts=MOST)
    first, second = sorted([place(), place()])

    assert claims.runnable() == [first, second]
    assert claim(first) is not None
    assert claims.runnable() == [second]


def test_an_unknown_or_finished_order_is_not_claimed(limits: Any) -> None:
    finished = order_in(Status.CONFIRMED)

    assert claim(finished.id) is None
    assert claim("ord_0000000000000_nosuchorder") is None


def test_an_order_that_waits_for_its_retry_is_not_claimed_early(limits: Any) -> None:
    order = order_in(Status.ROUTING)
    lifecycle.advance(order, Status.PENDING, data={}, retry_in=60)

    assert claim(order.id) is None
    make_due(order.id)
    assert claim(order.id) is not None


def test_a_leased_order_is_taken_over_only_after_its_lease(limits: Any) -> None:
    order = order_in(Status.BUILDING)

    assert claim(order.id) is None
    end_lease(order.id)
    taken = claim(order.id)

    assert taken is not None
    assert (taken.status, taken.fence, taken.attempt) == (Status.ROUTING, order.fence + 1, 1)
    with pytest.raises(ClaimLost):
        claims.renew(order)


def test_a_submitted_order_stays_submitted_when_taken_over(limits: Any) -> None:
    order = order_in(Status.SUBMITTED)
    end_lease(order.id)

    taken = claim(order.id)

    assert taken is not None
    assert (taken.status, taken.seq) == (Status.SUBMITTED, order.seq)
    assert (
        claims.live_swap(taken, swap_request(taken)).signature
        == Swap.objects.get(order=order.id).signature
    )


def test_takeovers_count_until_something_was_submitted_or_failed(limits: Any) -> None:
    order = order_in(Status.ROUTING)
    for taken in (1, 2):
        end_lease(order.id)
        order = claim(order.id)
        assert order.takeovers == taken
    lifecycle.advance(order, Status.BUILDING, data={})
    assert load(order.id).takeovers == 2

    step_to(order, Status.SUBMITTED)
    assert load(order.id).takeovers == 0


def test_a_retry_starts_counting_takeovers_anew(limits: Any) -> None:
    order = order_in(Status.ROUTING)
    end_lease(order.id)
    order = claim(order.id)
    lifecycle.advance(order, Status.PENDING, data={}, retry_in=0)

    assert claim(order.id).takeovers == 0


def test_of_orders_that_two_workers_were_lost_with_one_runs_at_a_time(limits: Any) -> None:
    suspects = [order_in(Status.ROUTING) for _ in range(3)]
    for order in suspects * 2:
        end_lease(order.id)
    taken_once = {claim(order.id).id for order in suspects}
    assert taken_once == {order.id for order in suspects}
    for order in suspects:
        end_lease(order.id)

    assert claims.runnable() == [suspects[0].id]
    first = claim(suspects[0].id)
    assert (first.id, first.takeovers) == (suspects[0].id, 2)
    assert claim(suspects[1].id) is None
    assert claims.runnable() == []

    lifecycle.advance(first, Status.BUILDING, data={})
    assert claim(suspects[1].id) is None
    step_to(first, Status.SUBMITTED)  # it is no suspect any more
    assert claim(suspects[1].id).id == suspects[1].id


def test_of_suspects_claimed_at_the_same_moment_one_is_claimed(limits: Any) -> None:
    suspects = [order_in(Status.ROUTING) for _ in range(6)]
    Order.objects.update(takeovers=1)
    for order in suspects:
        end_lease(order.id)

    with ThreadPoolExecutor(6) as threads:
        got = [order for order in threads.map(claim, [o.id for o in suspects]) if order]

    assert len(got) == 1


def test_the_suspect_that_was_lost_most_often_runs_last(limits: Any) -> None:
    worst, other = sorted((order_in(Status.ROUTING) for _ in range(2)), key=lambda o: o.id)
    Order.objects.filter(id=worst.id).update(takeovers=2)
    Order.objects.filter(id=other.id).update(takeovers=1)
    for order in (worst, other):
        end_lease(order.id)

    assert claim("ord_0000000000000_nosuchorder").id == other.id


def test_an_order_that_four_workers_were_lost_with_is_nobodys_to_claim(limits: Any) -> None:
    order = order_in(Status.BUILDING)
    for _ in range(3):
        end_lease(order.id)
        order = claim(order.id)
    assert claims.given_up() == []  # the fourth is at work
    end_lease(order.id)

    assert claim(order.id) is None
    assert claims.runnable() == []
    assert [given_up.id for given_up in claims.given_up()] == [order.id]


def test_a_submitted_order_is_taken_over_more_rarely_in_the_end(limits: Any, settings: Any) -> None:
    settings.ORDER_LEASE_SECONDS = 15
    order = order_in(Status.SUBMITTED)
    leases = []
    for _ in range(9):
        end_lease(order.id)
        before = database.now()
        leases.append(round((claim(order.id).lease_until - before).total_seconds()))

    assert leases == [10] * 5 + [20, 40, 40, 40]


def test_what_was_lost_together_is_not_taken_over_together_again(
    limits: Any, settings: Any
) -> None:
    settings.ORDER_LEASE_SECONDS = 15
    suspect, submitted = order_in(Status.BUILDING), order_in(Status.SUBMITTED)
    for order in (suspect, submitted):
        end_lease(order.id)

    first, second = claim(submitted.id), claim(suspect.id)

    assert first is not None
    assert second is not None
    apart = (second.lease_until - first.lease_until).total_seconds()
    assert 4 < apart < 6


def test_renewing_does_not_shorten_a_lease(limits: Any) -> None:
    order = order_in(Status.SUBMITTED)
    later = database.now() + timedelta(hours=1)
    Order.objects.filter(id=order.id).update(lease_until=later)

    claims.renew(order)

    assert load(order.id).lease_until == later


def test_an_order_that_has_moved_on_is_not_renewed(limits: Any) -> None:
    order = order_in(Status.SUBMITTED)
    lifecycle.advance(load(order.id), Status.CONFIRMED, data={})

    with pytest.raises(ClaimLost):
        claims.renew(order)


def test_a_released_order_is_taken_over_at_once(limits: Any) -> None:
    order = order_in(Status.BUILDING)

    assert claims.release(order)
    assert claims.release(order)  # the first answer may have been lost
    taken = claim(order.id)

    assert (taken.status, taken.fence, taken.takeovers) == (Status.ROUTING, order.fence + 1, 1)
    assert not claims.release(order)  # it is another's now
    assert claim(order.id) is None


def test_renewing_extends_the_lease(limits: Any) -> None:
    order = order_in(Status.SUBMITTED)
    end_lease(order.id)

    claims.renew(order)

    assert load(order.id).lease_until > database.now()


def test_no_more_orders_are_in_execution_than_the_fleet_may_run(limits: Any) -> None:
    limits(concurrency=3)
    order_ids = [place() for _ in range(8)]

    with ThreadPoolExecutor(8) as threads:
        got = [order for order in threads.map(claim, order_ids * 3) if order]

    assert len(got) == 3
    assert Order.objects.filter(status=Status.ROUTING).count() == 3
    lifecycle.advance(got[0], Status.FAILED, data={"code": "NO_ROUTE", "message": "none"})
    assert claims.runnable() == sorted(set(order_ids) - {order.id for order in got})[:1]


def test_an_abandoned_order_holds_its_place_until_it_is_taken_over(limits: Any) -> None:
    limits(concurrency=1)
    abandoned, waiting = order_in(Status.ROUTING), place()
    end_lease(abandoned.id)

    taken = claim(waiting)

    assert taken is not None
    assert (taken.id, load(waiting).status) == (abandoned.id, Status.PENDING)
    assert claim(waiting) is None


def test_no_more_first_starts_than_the_limit_in_any_minute(limits: Any) -> None:
    limits(starts=3)
    order_ids = sorted(place() for _ in range(5))

    with ThreadPoolExecutor(5) as threads:
        got = [order for order in threads.map(claim, order_ids * 3) if order]
    assert sorted(order.id for order in got) == order_ids[:3]
    assert claims.runnable() == []

    age_starts(59)
    assert claim(order_ids[3]) is None
    age_starts(1.1)
    assert claims.runnable() == order_ids[3:]
    assert claim(order_ids[3]) is not None


def test_a_start_counts_until_its_minute_is_over(limits: Any) -> None:
    started, _ = claim(place()), place()

    with psycopg.connect(database.conninfo()) as conn:
        # In one message: on a busy machine the 0.1 s may pass between two.
        answers = conn.execute(
            "UPDATE orders_order SET started_at = clock_timestamp() - interval '59.91 s' "
            f"WHERE id = '{started.id}'; SELECT count(*) FROM orders_runnable(0, 1, 9)"
        )
        answers.nextset()
        assert answers.fetchone() == (0,)


def test_a_retry_needs_a_place_but_no_start(limits: Any) -> None:
    retried = order_in(Status.ROUTING)
    lifecycle.advance(retried, Status.PENDING, data={}, retry_in=0)
    fresh = place()
    limits(concurrency=2, starts=1)

    assert claims.runnable() == [retried.id]
    taken = claim(fresh)
    assert taken is not None
    assert taken.id == retried.id
    assert claim(fresh) is None


def test_a_newer_order_does_not_overtake_an_older_one(limits: Any) -> None:
    limits(concurrency=2)
    order_ids = sorted(place() for _ in range(4))

    claimed = [claim(order_id) for order_id in reversed(order_ids)]

    assert [order.id for order in claimed if order] == order_ids[:2]


def test_a_hint_for_an_order_that_may_not_run_starts_the_next_that_may(limits: Any) -> None:
    finished, waiting = order_in(Status.CONFIRMED), place()

    claimed = claim(finished.id)

    assert claimed is not None
    assert claimed.id == waiting


def test_a_limit_of_zero_is_no_limit(limits: Any) -> None:
    order_ids = [place() for _ in range(30)]

    assert sorted(claims.runnable()) == sorted(order_ids)
    assert all(claim(order_id) for order_id in order_ids)


def test_an_overdue_order_is_not_started(limits: Any) -> None:
    order_id = place()
    Order.objects.filter(id=order_id).update(deadline_at=database.now())

    assert claim(order_id) is None
    assert claims.runnable() == []
    assert [order.id for order in claims.overdue()] == [order_id]


def test_a_client_stopped_in_the_middle_of_a_claim_holds_no_lock(limits: Any) -> None:
    limits(concurrency=10)
    order_ids = [place(), place()]
    statement = claims.CLAIM % {
        "wanted": f"'{{{order_ids[0]}}}'", "concurrency": "10", "starts": "0", "lease": "15",
    }  # fmt: skip

    with database.pool().connection() as conn:
        conn.pgconn.send_query(statement.encode())  # sent; the answer is never read
        assert claim(order_ids[1]) is not None
        while conn.pgconn.get_result():
            pass


def together(wanted: list[str]) -> list[database.Row | None]:
    turns = [claims.Turn(None, order_id) for order_id in wanted]
    return [row for _, row in loop.run(claims.write(turns))]


def test_workers_that_claim_together_get_an_order_each(limits: Any) -> None:
    order_ids = sorted(place() for _ in range(4))

    rows = together([order_ids[2], "", "ord_none"])

    assert [row and row["id"] for row in rows] == [order_ids[2], order_ids[0], order_ids[1]]
    assert [load(order_id).status for order_id in order_ids] == ["routing"] * 3 + ["pending"]
    assert [load(order_id).events.count() for order_id in order_ids] == [2, 2, 2, 1]


def test_claims_made_together_keep_the_limits(limits: Any) -> None:
    limits(concurrency=3, starts=2)
    for _ in range(5):
        place()

    assert [row is not None for row in together([""] * 5)] == [True, True, False, False, False]
    assert together([""]) == [None]


def claimed() -> Order:
    order = claim(place())
    assert order is not None
    return order


def end(order: Order, to: str, **what: Any) -> claims.Turn:
    return claims.Turn({**lifecycle.move_of(order, Status.FAILED, data={}), "to": to, **what}, "")


def test_the_place_that_a_move_frees_is_taken_in_its_transaction(limits: Any) -> None:
    limits(concurrency=1)
    running, waiting = claimed(), place()

    ((written, taken),) = loop.run(claims.write([end(running, "failed")]))

    assert isinstance(written, dict)
    assert taken is not None
    assert (taken["id"], load(running.id).status) == (waiting, "failed")
    assert same_transaction(running.id, waiting)


def test_a_move_that_is_lost_or_refused_keeps_nobody_from_claiming(limits: Any) -> None:
    sound, stale, bad = (claimed() for _ in range(3))
    waiting = sorted(place() for _ in range(3))
    lost = end(stale, "failed", fence=0)

    alone = loop.run(claims.write([lost]))
    rest = loop.run(claims.write([end(bad, "confirmed"), end(sound, "failed")]))

    assert [type(written) for written, _ in [*alone, *rest]] == [
        lifecycle.ClaimLost, psycopg.errors.CheckViolation, dict,
    ]  # fmt: skip
    assert [row and row["id"] for _, row in [*alone, *rest]] == waiting
    assert [load(order.id).status for order in (stale, bad, sound)] == [
        "routing", "routing", "failed",
    ]  # fmt: skip


def test_an_end_that_is_refused_is_told_and_the_task_goes_on(limits: Any) -> None:
    order, waiting = claimed(), place()
    move = end(order, "confirmed").move

    with capture_logs() as lines:
        following = loop.run(claims.end(order, move, go_on=True))

    assert following is not None
    assert following.id == waiting
    assert [line["order_id"] for line in lines if line["event"] == "execution.bug"] == [order.id]


def test_a_column_that_a_newer_release_adds_costs_no_end_and_no_claim(limits: Any) -> None:
    first = claimed()
    for _ in range(3):  # the statement is prepared
        loop.run(claims.write([end(first, "failed", fence=0)]))
    waiting = place()
    with psycopg.connect(database.conninfo()) as conn:
        conn.execute("ALTER TABLE orders_order ADD COLUMN newer int")
    try:
        [(written, taken)] = loop.run(claims.write([end(first, "failed")]))
        assert isinstance(written, dict)
        assert taken is not None
        assert taken["id"] == waiting
    finally:
        with psycopg.connect(database.conninfo()) as conn:
            conn.execute("ALTER TABLE orders_order DROP COLUMN newer")


@pytest.mark.parametrize(
    ("error", "claims_again"),
    [
        (psycopg.errors.QueryCanceled, False),
        (psycopg.errors.LockNotAvailable, False),
        (psycopg.errors.DeadlockDetected, False),
        (psycopg.errors.CheckViolation, True),  # may be a move's fault
    ],
)
def test_a_claim_that_fails_leaves_the_ends_of_orders(
    limits: Any, monkeypatch: pytest.MonkeyPatch, error: type[psycopg.Error], claims_again: bool
) -> None:
    order, waiting = claimed(), place()
    asked: list[int] = []

    async def fails(moves: Any, wanted: Any) -> Any:
        asked.append(len(moves))
        raise error("canceling statement due to statement timeout")

    monkeypatch.setattr(claims, "write_both", fails)

    ((written, taken),) = loop.run(claims.write([end(order, "failed")]))

    assert isinstance(written, dict)
    assert taken is None
    assert (load(order.id).status, load(waiting).status) == ("failed", "pending")
    assert asked == ([1, 0] if claims_again else [1])


def test_an_order_may_take_the_place_that_its_own_retry_frees(limits: Any) -> None:
    limits(concurrency=1)
    order = claimed()
    retry = claims.Turn(lifecycle.move_of(order, Status.PENDING, data={}, retry_in=0), claims.ANY)

    ((written, taken),) = loop.run(claims.write([retry]))

    assert isinstance(written, dict)
    assert taken is not None
    assert (written["seq"], taken["id"], taken["seq"]) == (3, order.id, 4)
    moves = [(event.status, event.attempt) for event in queries.events_after(order.id, None, 1)]
    assert moves == [("routing", 1), ("pending", 2), ("routing", 2)]


def same_transaction(*order_ids: str) -> bool:
    sql = "SELECT count(DISTINCT xmin::text) AS n FROM orders_order WHERE id = ANY(%(ids)s)"
    return bool(database.rows(sql, {"ids": list(order_ids)})[0]["n"] == 1)


def test_one_order_wanted_twice_is_claimed_once(limits: Any) -> None:
    order_id = place()

    first, second = together([order_id, order_id])

    assert (first and first["id"], second) == (order_id, None)
    assert load(order_id).fence == 1


def test_workers_of_the_release_before_claim_as_they_did(limits: Any) -> None:
    order_id = place()

    row = database.row(
        "SELECT (c.claimed).id, c.previous_status "
        "FROM orders_claim(%(id)s, 0, 0, interval '15 s') c",
        {"id": order_id},
    )

    assert row == {"id": order_id, "previous_status": "pending"}


def test_an_order_that_nobody_can_end_is_taken_over_for_ever(limits: Any) -> None:
    order = order_in(Status.SUBMITTED)
    end_lease(order.id)
    database.rows("UPDATE orders_order SET takeovers = 32767 RETURNING id", {})

    taken = claim("")

    assert taken is not None
    assert (taken.id, taken.takeovers) == (order.id, 32767)


# Beside another claim, or another's lock ----------------------------------------------------------


def lose(order_id: str, ago: float) -> None:
    """A suspect whose worker has been lost for so many seconds."""
    database.rows(
        "UPDATE orders_order SET takeovers = 1, "
        "lease_until = now() - make_interval(secs => %(s)s) WHERE id = %(id)s RETURNING id",
        {"id": order_id, "s": ago},
    )


def claimed_meanwhile(
    other: psycopg.Connection[Any], concurrency: int, starts: int, meanwhile: Callable[[], None]
) -> tuple[str, Order | None]:
    """What another claim has taken, and what the next finds that is begun before its COMMIT."""
    statement = "SELECT (claimed).id FROM orders_claim(ARRAY[''], %s, %s, interval '10 s')"
    [[taken]] = other.execute(statement, [concurrency, starts])
    meanwhile()
    with ThreadPoolExecutor(1) as threads:
        later = threads.submit(claim, "")
        wait_until(lambda: later.done() or database.row(WAITING, {}), every=0.005)
        other.commit()
        return taken, later.result()


@pytest.fixture
def other() -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.conninfo()) as connection:
        yield connection


@pytest.mark.parametrize(("concurrency", "starts"), [(1, 0), (0, 1)])
def test_a_claim_counts_what_another_is_about_to_commit(
    limits: Any, other: psycopg.Connection[Any], concurrency: int, starts: int
) -> None:
    limits(concurrency=concurrency, starts=starts)
    first, second = sorted(place() for _ in range(2))
    make_due(first, -60)

    taken = claimed_meanwhile(other, concurrency, starts, lambda: make_due(first))

    assert taken == (second, None)


def test_of_two_suspects_the_second_waits_for_the_claim_of_the_first(
    limits: Any, other: psycopg.Connection[Any]
) -> None:
    first, second = sorted(order_in(Status.ROUTING).id for _ in range(2))
    lose(first, -60)
    lose(second, 0)

    taken = claimed_meanwhile(other, 0, 0, lambda: lose(first, 0))

    assert taken == (second, None)


def test_an_order_that_another_has_locked_is_not_waited_for(
    limits: Any, other: psycopg.Connection[Any]
) -> None:
    first, second = sorted(place() for _ in range(2))
    other.execute("SELECT 1 FROM orders_order WHERE id = %s FOR UPDATE", [first])

    with ThreadPoolExecutor(1) as threads:
        got = threads.submit(claim, first)
        try:
            order = got.result(5)
        finally:
            other.rollback()

    assert order is not None
    assert order.id == second


# Retries, takeovers and the limits ----------------------------------------------------------------


def retried() -> Order:
    """An order that is due for its next attempt."""
    order = order_in(Status.ROUTING)
    lifecycle.advance(order, Status.PENDING, data={}, retry_in=0)
    return order


def test_a_retry_and_a_fresh_order_do_not_share_a_place(limits: Any) -> None:
    retry = retried()
    place()
    limits(concurrency=1)

    assert claims.runnable() == [retry.id]
    assert [row is not None for row in together(["", ""])] == [True, False]


def test_retries_that_are_due_together_share_the_places(limits: Any) -> None:
    for _ in range(3):
        retried()
    limits(concurrency=1)

    assert len(claims.runnable()) == 1
    assert [row is not None for row in together(["", ""])] == [True, False]


def test_a_retry_whose_deadline_has_passed_is_not_started(limits: Any) -> None:
    order = retried()
    Order.objects.filter(id=order.id).update(deadline_at=database.now())

    assert claims.runnable() == []
    assert claim(order.id) is None


def test_a_takeover_and_a_retry_are_no_first_start(limits: Any) -> None:
    order = claim(place())
    assert order is not None
    end_lease(order.id)
    again = claim(order.id)
    assert again is not None
    lifecycle.advance(again, Status.PENDING, data={}, retry_in=0)
    retry = claim(order.id)

    assert retry is not None
    assert order.started_at == again.started_at == retry.started_at


def test_who_was_taken_over_in_submitted_can_not_renew(limits: Any) -> None:
    order = order_in(Status.SUBMITTED)
    end_lease(order.id)
    assert claim(order.id) is not None

    with pytest.raises(ClaimLost):
        claims.renew(order)


def test_the_live_swap_is_that_of_the_attempt_under_way(limits: Any) -> None:
    order = order_in(Status.SUBMITTED)
    lifecycle.advance(order, Status.PENDING, data={}, retry_in=0)
    again = claim(order.id)
    assert again is not None
    step_to(again, Status.BUILDING)
    step_to(again, Status.SUBMITTED)

    assert Swap.objects.filter(order=order).count() == 2
    assert claims.live_swap(again, swap_request(again)).signature == load(order.id).tx_hash


# A count that takes its time ---------------------------------------------------------------------


@pytest.fixture
def slow_count() -> Iterator[None]:
    """0.2 s pass before the fleet is counted, as on a connection that plans its first claim."""
    counting = "SELECT * INTO room"
    with psycopg.connect(database.conninfo(), autocommit=True) as conn:
        [[made]] = conn.execute("SELECT pg_get_functiondef('orders_runnable'::regproc)").fetchall()
        assert counting in made
        conn.execute(made.replace(counting, f"PERFORM pg_sleep(0.2); {counting}"))
        yield
        conn.execute(made)


@pytest.mark.usefixtures("slow_count")
def test_what_has_left_the_minute_when_starts_are_counted_is_a_minute_before_the_next(
    limits: Any,
) -> None:
    limits(starts=2)
    *earlier, late = sorted(place() for _ in range(3))
    assert [claim(order_id) is None for order_id in (*earlier, late)] == [False, False, True]
    database.rows(
        "UPDATE orders_order SET started_at = clock_timestamp() - interval '59.9 s' "
        "WHERE started_at IS NOT NULL RETURNING id",
        {},
    )

    assert claim(late) is not None

    [first, *others] = [load(order_id).started_at for order_id in (late, *earlier)]
    assert min(first - other for other in others) > timedelta(seconds=60)
