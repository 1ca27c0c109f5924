"""The state machine: what may move where, and what a move writes."""

import time
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise, product
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User

from orders import database, lifecycle, loop, queries
from orders.models import IN_EXECUTION, TERMINAL, TRANSITIONS, Order, Status, Swap
from tests.factories import a_swap, claim, load, order_in, place, step_to

pytestmark = pytest.mark.usefixtures("no_orders")

# Only a claim starts an order: `advance` is not what makes it routing.
BY_CLAIM = {(Status.PENDING, Status.ROUTING)}
ALL = list(product(Status, Status))
GRID = [move for move in ALL if move not in BY_CLAIM]


def test_every_status_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(Status)
    assert all(not TRANSITIONS[status] for status in TERMINAL)


@pytest.mark.parametrize(("current", "to"), GRID, ids=lambda status: status.value)
def test_a_move_is_made_if_legal_and_refused_otherwise(current: Status, to: Status) -> None:
    order = order_in(current)
    seq = order.seq

    if to in TRANSITIONS[current]:
        step_to(order, to)
    else:
        with pytest.raises(lifecycle.IllegalTransition):
            step_to(order, to)

    stored = load(order.id)
    moved = to in TRANSITIONS[current]
    assert stored.status == (to if moved else current)
    assert stored.seq == seq + moved
    assert stored.events.count() == stored.seq


@pytest.mark.parametrize(("current", "to"), ALL, ids=lambda status: status.value)
def test_the_database_refuses_an_illegal_event_too(current: Status, to: Status) -> None:
    order_id = place()
    insert = """INSERT INTO orders_orderevent
        (order_id, seq, status, previous_status, attempt, created_at, data)
        VALUES (%(id)s, 2, %(to)s, %(from)s, 1, now(), '{}') RETURNING seq"""
    event = {"id": order_id, "from": current.value, "to": to.value}

    if to in TRANSITIONS[current]:
        assert database.row(insert, event)
    else:
        with pytest.raises(psycopg.errors.CheckViolation, match="legal_move"):
            database.row(insert, event)


@pytest.mark.parametrize("seq", [1, 2])
@pytest.mark.parametrize("status", [*Status, "unheard of"])
def test_the_first_event_and_no_other_is_pending_from_nothing(status: str, seq: int) -> None:
    legal = "SELECT orders_legal_move(%(seq)s, '', %(status)s) AS legal"

    found = database.row(legal, {"seq": seq, "status": str(status)})

    assert found == {"legal": seq == 1 and status == Status.PENDING}


FITTING = {
    **dict.fromkeys(Status, (False, False)),
    **dict.fromkeys(IN_EXECUTION, (True, False)),
    **dict.fromkeys(TERMINAL, (False, True)),
}


@pytest.mark.parametrize("leased", [True, False])
@pytest.mark.parametrize("completed", [True, False])
@pytest.mark.parametrize("status", [*Status, "unheard of"])
def test_the_database_refuses_a_status_without_its_times(
    status: str, *, leased: bool, completed: bool
) -> None:
    update = """UPDATE orders_order SET status = %(status)s,
            lease_until = CASE WHEN %(leased)s THEN now() END,
            completed_at = CASE WHEN %(completed)s THEN now() END
        WHERE id = %(id)s RETURNING id"""
    row = {"id": place(), "status": str(status), "leased": leased, "completed": completed}

    if FITTING.get(status) == (leased, completed):
        assert database.row(update, row)
    else:
        with pytest.raises(psycopg.errors.CheckViolation, match="status_fits"):
            database.row(update, row)


def test_the_events_of_an_order_are_its_history_without_a_gap() -> None:
    order = order_in(Status.CONFIRMED)

    events = queries.events_after(order.id, None, 0)

    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert [event.status for event in events] == [
        "pending", "routing", "building", "submitted", "confirmed",
    ]  # fmt: skip
    assert all(after.previous_status == before.status for before, after in pairwise(events))


def test_the_events_of_somebody_elses_order_are_none() -> None:
    User.objects.all().delete()
    owner, other = (User.objects.create(username=name) for name in ("alice", "bob"))
    of_nobody, owned = place(), place(owner_id=owner.id)

    found = [
        [event.owner_id for event in queries.events_after(order_id, reader, 0)]
        for order_id in (of_nobody, owned)
        for reader in (None, owner.id, other.id)
    ]

    assert found == [[None], [], [], [], [owner.id], []]


def test_a_move_under_an_old_fence_writes_nothing() -> None:
    order = order_in(Status.ROUTING)
    Order.objects.filter(id=order.id).update(fence=order.fence + 1)

    with pytest.raises(lifecycle.ClaimLost):
        lifecycle.advance(order, Status.BUILDING, data={})

    assert load(order.id).status == Status.ROUTING
    assert load(order.id).events.count() == 2


def test_a_move_from_a_status_the_order_has_left_writes_nothing() -> None:
    order = order_in(Status.PENDING)
    lifecycle.advance(load(order.id), Status.CANCELLED, data={})

    with pytest.raises(lifecycle.ClaimLost):
        lifecycle.advance(order, Status.EXPIRED, data={})

    assert load(order.id).status == Status.CANCELLED


def test_the_signature_and_bytes_are_stored_with_the_move_to_submitted() -> None:
    order = order_in(Status.SUBMITTED)

    swap = Swap.objects.get(order=order.id)

    assert (swap.signature, swap.state) == (load(order.id).tx_hash, Swap.State.LIVE)
    assert bytes(swap.transaction) == b"signed bytes"
    assert swap.last_valid_block_height == 1_000


def test_the_swap_is_landed_with_confirmed_and_dead_with_a_retry() -> None:
    confirmed, retried = order_in(Status.CONFIRMED), order_in(Status.SUBMITTED)
    lifecycle.advance(retried, Status.PENDING, data={}, retry_in=1)

    assert Swap.objects.get(order=confirmed.id).state == Swap.State.LANDED
    assert Swap.objects.get(order=retried.id).state == Swap.State.DEAD


def test_the_database_refuses_a_second_swap_that_can_land() -> None:
    order = order_in(Status.SUBMITTED)
    second = a_swap(order, signature="another")

    with pytest.raises(psycopg.errors.UniqueViolation, match="one_swap_that_can_land"):
        database.rows(
            """INSERT INTO orders_swap
            (signature, order_id, attempt, venue, transaction, last_valid_block_height)
            VALUES (%(signature)s, %(order_id)s, 2, 'raydium', '', 1) RETURNING signature""",
            {"signature": second.signature, "order_id": order.id},
        )


def test_a_retry_is_the_next_attempt_and_says_when() -> None:
    order = order_in(Status.ROUTING)
    before = database.now()

    lifecycle.advance(
        order, Status.PENDING, data={"error": {"code": "X", "message": "y"}}, retry_in=2
    )

    stored = load(order.id)
    event = queries.events_after(order.id, None, stored.seq - 1)[0]
    assert (order.attempt, stored.attempt, event.attempt) == (2, 2, 2)
    assert 2 <= (stored.next_attempt_at - before).total_seconds() < 3
    assert event.data["retryAt"] == lifecycle.events.iso(stored.next_attempt_at)


def test_a_terminal_order_is_counted_once() -> None:
    before = queries.stats()["queue"]

    order_in(Status.CONFIRMED)
    order_in(Status.FAILED)
    order_in(Status.CANCELLED)
    order_in(Status.SUBMITTED)
    place()

    after = queries.stats()["queue"]
    gained = {name: after[name] - before[name] for name in after}
    assert gained == {
        "waiting": 1, "active": 1, "completed": 1, "failed": 1, "cancelled": 1, "expired": 0,
    }  # fmt: skip


def test_a_claim_makes_only_legal_moves() -> None:
    for status in Status:
        order = order_in(status)
        Order.objects.filter(id=order.id, lease_until__isnull=False).update(
            lease_until="2020-01-01T00:00:00Z"
        )
        claimed = claim(order.id)
        if claimed is not None and claimed.status != status:
            assert claimed.status in TRANSITIONS[status]


def test_of_moves_made_together_each_is_made_or_lost_on_its_own() -> None:
    first, stale, last = (
        order_in(Status.ROUTING),
        order_in(Status.ROUTING),
        order_in(Status.ROUTING),
    )
    moves = [a_move(first), {**a_move(stale), "fence": stale.fence - 1}, a_move(last)]

    written = loop.run(lifecycle.write(moves))

    assert [row["seq"] if isinstance(row, dict) else type(row) for row in written] == [
        3, lifecycle.ClaimLost, 3,
    ]  # fmt: skip
    assert [load(order.id).status for order in (first, stale, last)] == [
        "building", "routing", "building",
    ]  # fmt: skip


def test_a_move_that_the_database_refuses_takes_no_other_with_it() -> None:
    sound, bad = order_in(Status.ROUTING), order_in(Status.ROUTING)

    written = loop.run(lifecycle.write([a_move(sound), {**a_move(bad), "to": "confirmed"}]))

    assert isinstance(written[0], dict)
    assert isinstance(written[1], psycopg.errors.CheckViolation)
    assert [load(order.id).status for order in (sound, bad)] == ["building", "routing"]


def test_a_move_by_way_of_another_state_is_both_moves() -> None:
    order = order_in(Status.ROUTING)
    by_building = lifecycle.Step(Status.BUILDING, data={"a": 1}, changes={"venue": "meteora"})
    swap = a_swap(order)

    lifecycle.advance(
        order,
        Status.SUBMITTED,
        data={"b": 2},
        changes={"tx_hash": swap.signature},
        swap=swap,
        via=by_building,
    )

    found = queries.events_after(order.id, None, 2)
    assert [(event.seq, event.previous_status, event.status, event.data) for event in found] == [
        (3, "routing", "building", {"a": 1}),
        (4, "building", "submitted", {"b": 2}),
    ]
    stored = load(order.id)
    assert (stored.seq, stored.status, stored.venue) == (4, "submitted", "meteora")
    assert (order.seq, order.status, order.venue) == (4, "submitted", "meteora")
    assert Swap.objects.get(order=order.id).state == Swap.State.LIVE


@pytest.mark.parametrize(
    ("by", "to"), [(Status.SUBMITTED, Status.CONFIRMED), (Status.BUILDING, Status.CONFIRMED)]
)
def test_both_moves_have_to_be_legal(by: Status, to: Status) -> None:
    order = order_in(Status.ROUTING)

    with pytest.raises(lifecycle.IllegalTransition, match=f"routing -> {by} -> {to}"):
        lifecycle.advance(order, to, data={}, via=lifecycle.Step(by, {}, {}))


def test_the_database_refuses_an_illegal_move_by_way_of_another() -> None:
    order = order_in(Status.ROUTING)
    move = {**a_move(order), "to": "submitted", "via": "pending", "via_data": {}}

    assert isinstance(loop.run(lifecycle.write([move]))[0], psycopg.errors.CheckViolation)
    assert load(order.id).events.count() == 2


def test_a_move_changes_the_columns_it_names_and_no_other() -> None:
    order = order_in(Status.ROUTING)
    lifecycle.advance(
        order,
        Status.BUILDING,
        data={},
        changes={"venue": "raydium", "fee": 2**64 - 1, "price_impact": Decimal("0.0000000012")},
    )
    lifecycle.advance(order, Status.PENDING, data={}, changes={"fee": None}, retry_in=1)

    stored = load(order.id)
    assert (stored.venue, stored.fee) == ("raydium", None)
    assert stored.price_impact == Decimal("0.0000000012")


def a_move(order: Order) -> dict[str, Any]:
    """To building, as advance() has it written."""
    return {
        **{"id": order.id, "fence": order.fence, "from": "routing", "to": "building"},
        **{"data": {}, "changes": {}},
    }


@pytest.mark.parametrize("status", [Status.PENDING, Status.SUBMITTED, Status.CONFIRMED])
def test_an_order_that_moves_long_after_it_was_placed_is_found(status: Status) -> None:
    order = order_in(Status.ROUTING if status == Status.PENDING else status)
    if status == Status.PENDING:
        lifecycle.advance(order, status, data={}, retry_in=60)
    later = database.now() + timedelta(hours=1)  # an id cannot be made older
    ended = later if status == Status.CONFIRMED else None
    Order.objects.filter(id=order.id).update(updated_at=later, completed_at=ended)

    found = queries.moved([None], time.monotonic() + 1800)

    assert [order_id for _, order_id, _ in found] == [order.id]


def test_what_may_miss_an_order_that_moved_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "LATE_SECONDS", 0)

    with pytest.raises(TimeoutError, match="PostgreSQL took more than"):
        queries.moved([None], time.monotonic())
