"""The WebSocket: `scope: all`, every event of an owner's orders, once and in order."""

import asyncio
import threading
import time
from collections.abc import Callable
from random import Random
from typing import Any

import psycopg
import pytest
from channels.db import database_sync_to_async
from django.contrib.auth.models import User

from orders import (
    bells,
    consumers,
    database,
    events,
    hub,
    intake,
    placement,
    queries,
)
from orders.bells import INBOX_SIZE
from tests import factories
from tests.api.http import bearer, order_body
from tests.api.sockets import (
    PATIENCE,
    Connect,
    Socket,
    acknowledged,
    execute,
    hear_all,
    place,
    refusal,
    seqs,
)

pytestmark = pytest.mark.usefixtures("no_orders")

UNKNOWN = "ord_1700000000000_abcdefghij"


@pytest.fixture
async def hers(connect: Connect, alice: User) -> Socket:
    """A socket of a new user: nothing of the test before reaches its `scope: all`."""
    opened = await connect(Authorization=bearer(alice))
    await opened.hello()
    return opened


async def test_all_orders_are_heard_live(hers: Socket, alice: User) -> None:
    before = await place(owner_id=alice.pk)
    await hers.send(type="subscribe", scope="all")
    assert (await acknowledged(hers, "subscribe"))["scope"] == "all"

    order_ids = [await place(owner_id=alice.pk), await place(owner_id=alice.pk)]
    for order_id in order_ids:
        await execute(order_id)

    frames: list[dict[str, Any]] = []
    while len([f for f in frames if f["orderId"] in order_ids]) < 10:
        frames += await hers.events(1)
    assert {frame["replayed"] for frame in frames} == {False}
    for order_id in order_ids:
        assert seqs([f for f in frames if f["orderId"] == order_id]) == [1, 2, 3, 4, 5]
    # Nothing stored is replayed; the doorbell of its first event may have been on its way.
    assert seqs([f for f in frames if f["orderId"] == before]) in ([], [1])


@pytest.mark.usefixtures("soon_found")
@pytest.mark.parametrize("lost", ["all", "the first two", "the last", "every other", "by chance"])
async def test_all_orders_are_heard_whatever_doorbells_were_lost(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    before = await place(owner_id=alice.pk)
    await execute(before)
    await hear_all(hers)
    publish, draw = events.publish, Random("doorbells").random

    def maybe(event: events.Event) -> None:
        arrives = {
            "all": False,
            "the first two": event.seq > 2,
            "the last": event.seq < 5,
            "every other": event.seq % 2 == 0,
            "by chance": draw() < 0.5,
        }
        if arrives[lost]:
            publish(event)

    monkeypatch.setattr(events, "publish", maybe)
    order_ids = [await place(owner_id=alice.pk) for _ in range(3)]
    for order_id in order_ids:
        await execute(order_id)

    frames = await of_orders(hers, order_ids, 15)
    for order_id in order_ids:
        assert seqs([f for f in frames if f["orderId"] == order_id]) == [1, 2, 3, 4, 5]
    assert {frame["replayed"] for frame in frames} == {False}
    await asyncio.sleep(0.5)  # nothing comes twice, by the next looks
    assert not [f for f in await hers.until_pong() if f["orderId"] in order_ids]


async def of_orders(socket: Socket, order_ids: list[str], count: int) -> list[dict[str, Any]]:
    """So many frames of these; what happened just before the subscription may be heard as well."""
    frames: list[dict[str, Any]] = []
    while len(frames) < count:
        frames += [f for f in await socket.events(1, seconds=20) if f["orderId"] in order_ids]
    return frames


@pytest.mark.usefixtures("soon_found")
async def test_what_came_right_after_the_subscription_is_heard_however_long_reading_takes(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = queries.database.rows

    def slow_rows(sql: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        time.sleep(0.5 if "seconds" in params else 0)
        return rows(sql, params)

    monkeypatch.setattr(queries.database, "rows", slow_rows)
    monkeypatch.setattr(events, "publish", lambda event: None)
    await hear_all(hers)

    order_id = await place(owner_id=alice.pk)
    await execute(order_id)

    assert seqs(await of_orders(hers, [order_id], 5)) == [1, 2, 3, 4, 5]


async def test_what_is_lost_while_the_rows_are_read_is_heard_in_its_place(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, read, rung = events.publish, queries.events_since, []
    reading, read_on = threading.Event(), threading.Event()

    def as_of_the_third(*asked: Any) -> list[events.Event]:
        """The first answer is, and on its way until `read_on`."""
        found = read(*asked)
        if reading.is_set():
            return found
        reading.set()
        read_on.wait(10)
        return [event for event in found if event.seq <= 3]

    async def find_nothing(_: hub.Hub) -> None:
        """The poll would read at another moment."""

    monkeypatch.setattr(hub.Hub, "_find_lost", find_nothing)
    monkeypatch.setattr(queries, "events_since", as_of_the_third)
    monkeypatch.setattr(events, "publish", rung.append)
    await hear_all(hers)
    order_id = await place(owner_id=alice.pk)
    await execute(order_id)
    first, _, third, _, fifth = rung  # the others are lost

    publish(first)
    publish(third)
    await asyncio.to_thread(reading.wait, 10)
    publish(fifth)
    await asyncio.sleep(0.1)
    read_on.set()

    assert seqs(await of_orders(hers, [order_id], 5)) == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("soon_found")
@pytest.mark.parametrize("seen", [True, False], ids=["seen", "of another role"])
async def test_what_is_committed_long_after_it_was_begun_is_heard(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch, seen: bool
) -> None:
    if seen:
        monkeypatch.setattr(hub, "OVERLAP_SECONDS", 0.1)
    else:
        monkeypatch.setattr(queries, "oldest_writing", lambda most: time.monotonic())
    monkeypatch.setattr(queries, "LATE_SECONDS", 0.5)
    monkeypatch.setattr(events, "publish", lambda event: None)
    await hear_all(hers)
    order_id = await place(owner_id=alice.pk)

    with psycopg.connect(database.conninfo()) as conn:  # one transaction, without a doorbell
        conn.execute(SLOWLY, {"id": order_id})
        await of_orders(hers, [order_id], 1)
        await asyncio.sleep(1.5)  # fifteen polls

    (frame,) = await of_orders(hers, [order_id], 1)
    assert (frame["seq"], frame["status"]) == (2, "cancelled")


@pytest.mark.usefixtures("soon_found")
async def test_what_a_standby_kept_from_being_committed_is_heard_however_long_it_took(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch, await_standby: Callable[[str], None]
) -> None:
    for name in ("OVERLAP_SECONDS", "LONGEST_SECONDS"):
        monkeypatch.setattr(hub, name, 0.1)
    monkeypatch.setattr(queries, "LATE_SECONDS", 0.5)
    monkeypatch.setattr(events, "publish", lambda event: None)
    await hear_all(hers)
    order_id = await place(owner_id=alice.pk)
    await of_orders(hers, [order_id], 1)
    await_standby("missing")

    with psycopg.connect(database.conninfo()) as conn:
        conn.execute("SET LOCAL synchronous_commit = on")
        conn.execute(SLOWLY, {"id": order_id})
        committing = asyncio.create_task(asyncio.to_thread(conn.commit))
        await asyncio.sleep(1.5)  # fifteen polls
        assert not committing.done()
        await_standby("")
        await committing

    (frame,) = await of_orders(hers, [order_id], 1)
    assert (frame["seq"], frame["status"]) == (2, "cancelled")


SLOWLY = """
WITH moved AS (
    UPDATE orders_order SET status = 'cancelled', seq = 2, updated_at = now(), completed_at = now()
    WHERE id = %(id)s RETURNING id)
INSERT INTO orders_orderevent (order_id, seq, previous_status, status, attempt, created_at, data)
SELECT id, 2, 'pending', 'cancelled', 1, now(), '{}' FROM moved
"""


@pytest.mark.usefixtures("soon_found")
async def test_all_orders_are_heard_from_the_subscription_on_also_the_second_time(
    hers: Socket, alice: User
) -> None:
    await hear_all(hers)
    order_id = await place(owner_id=alice.pk)
    assert seqs(await of_orders(hers, [order_id], 1)) == [1]
    await hers.send(type="unsubscribe", scope="all")
    await acknowledged(hers, "unsubscribe")
    await execute(order_id)
    await asyncio.sleep(0.5)

    await hear_all(hers)
    await asyncio.sleep(0.5)  # five polls

    assert not [f for f in await hers.until_pong() if f.get("orderId") == order_id]


async def test_who_follows_while_the_group_is_being_left_hears(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaving, leave, discard = asyncio.Event(), asyncio.Event(), hub.Hub._discard

    async def discard_later(*of: Any) -> None:
        leaving.set()
        await leave.wait()
        await discard(*of)

    monkeypatch.setattr(hub.Hub, "_discard", discard_later)
    for action in ("subscribe", "unsubscribe"):
        await hers.send(type=action, scope="all")
        await acknowledged(hers, action)
    await asyncio.wait_for(leaving.wait(), 5)
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
    leave.set()

    order_id = await place(owner_id=alice.pk)
    await execute(order_id)

    assert seqs(await of_orders(hers, [order_id], 5)) == [1, 2, 3, 4, 5]


async def test_what_waits_in_a_group_that_is_left_is_forgotten(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, rung = events.publish, []
    leaving, leave, discard = asyncio.Event(), asyncio.Event(), hub.Hub._discard

    async def discard_later(*of: Any) -> None:
        leaving.set()
        await leave.wait()
        await discard(*of)

    monkeypatch.setattr(hub.Hub, "_discard", discard_later)
    monkeypatch.setattr(bells, "WAIT_SECONDS", 60)
    monkeypatch.setattr(events, "publish", rung.append)
    await hear_all(hers)
    await execute(await place(owner_id=alice.pk))
    _, second, _, fourth, _ = rung
    in_order = hub.hub()._in_order

    publish(second)
    async with asyncio.timeout(PATIENCE):
        while not in_order._early:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await hers.send(type="unsubscribe", scope="all")
    await asyncio.wait_for(leaving.wait(), 5)
    publish(fourth)  # Redis still has the subscription
    await asyncio.sleep(0.2)

    assert not in_order._early
    assert not in_order._patience
    leave.set()


@pytest.mark.usefixtures("soon_found")
async def test_a_poll_that_fails_is_not_the_last(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved, away = queries.moved, iter([psycopg.OperationalError("away")])

    def moved_the_second_time(*of: Any) -> Any:
        if error := next(away, None):
            raise error
        return moved(*of)

    monkeypatch.setattr(queries, "moved", moved_the_second_time)
    monkeypatch.setattr(events, "publish", lambda event: None)
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")

    order_id = await place(owner_id=alice.pk)
    await execute(order_id)

    assert seqs(await of_orders(hers, [order_id], 5)) == [1, 2, 3, 4, 5]
    assert next(away, None) is None


async def test_what_could_not_be_read_for_one_subscription_is_not_read_for_the_next(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
    publish, read, tried = events.publish, queries.events_since, threading.Event()

    def away(wanted: Any) -> Any:
        tried.set()
        raise psycopg.OperationalError("away")

    async def find_nothing(_: hub.Hub) -> None:
        """The poll would read as well."""

    monkeypatch.setattr(hub, "POLL_SECONDS", 0.3)
    monkeypatch.setattr(hub.Hub, "_find_lost", find_nothing)
    monkeypatch.setattr(queries, "events_since", away)
    monkeypatch.setattr(events, "publish", lambda one: one.seq == 1 or publish(one))
    order_id = await place(owner_id=alice.pk)
    await execute(order_id)
    assert await asyncio.to_thread(tried.wait, 5)
    await hers.send(type="unsubscribe", scope="all")
    await acknowledged(hers, "unsubscribe")

    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
    monkeypatch.setattr(queries, "events_since", read)
    await asyncio.sleep(0.5)  # it is read again after 0.3 s

    assert not [f for f in await hers.until_pong() if f.get("orderId") == order_id]


async def test_an_order_that_was_heard_of_has_no_gap_from_before_the_subscription(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, kept = events.publish, []
    monkeypatch.setattr(events, "publish", kept.append)
    order_id = await place(owner_id=alice.pk)
    await execute(order_id)
    await hear_all(hers)

    for event in (kept[0], kept[2]):  # late; the one between them is lost
        publish(event)

    assert seqs(await hers.events(5)) == [1, 2, 3, 4, 5]


async def test_an_order_that_is_heard_of_while_its_rows_are_read_has_no_gap(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, kept, read = events.publish, [], queries.events_since
    reading, read_on = threading.Event(), threading.Event()

    def at_length(*asked: Any) -> list[events.Event]:
        found = read(*asked)
        reading.set()
        read_on.wait(10)
        return found

    monkeypatch.setattr(events, "publish", kept.append)
    order_id = await place(owner_id=alice.pk)
    await execute(order_id)
    await hear_all(hers)
    monkeypatch.setattr(queries, "events_since", at_length)

    publish(kept[2])  # the first that is heard of it: what was before the subscription is not read
    await asyncio.to_thread(reading.wait, 10)
    publish(kept[0])  # later still
    await asyncio.sleep(0.1)
    read_on.set()

    assert seqs(await hers.events(5)) == [1, 2, 3, 4, 5]


MOVE = """
WITH moved AS (
    UPDATE orders_order SET seq = %(seq)s, updated_at = now() WHERE id = %(id)s RETURNING id)
INSERT INTO orders_orderevent (order_id, seq, previous_status, status, attempt, created_at, data)
SELECT id, %(seq)s, CASE %(seq)s WHEN 2 THEN 'pending' ELSE 'routing' END, 'routing', 1, now(), '{}'
FROM moved
"""


STORED = queries.events_after


async def move(order_id: str, *seqs: int) -> None:
    """Without a doorbell."""
    for seq in seqs:
        async with await psycopg.AsyncConnection.connect(database.conninfo()) as conn:
            await conn.execute(MOVE, {"id": order_id, "seq": seq})


async def ring(order_id: str, owner: User, *seqs: int) -> None:
    """At the owner's group alone."""
    for event in await asyncio.to_thread(STORED, order_id, owner.pk, 0):
        if event.seq in seqs:
            frame = event.frame(replayed=False)
            hub.hub()._in_order.ring(bells.heard(events.owner_group(owner.pk), frame))


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No doorbells but those of `ring`."""
    monkeypatch.setattr(events, "publish", lambda event: None)


@pytest.mark.usefixtures("silent")
async def test_doorbells_from_before_the_subscription_have_no_gap_between_them(
    hers: Socket, alice: User
) -> None:
    order_id = await place(owner_id=alice.pk)
    await move(order_id, 2, 3, 4, 5)
    await asyncio.sleep(0.2)
    await hear_all(hers)

    await ring(order_id, alice, 3, 5)  # late; the one between them is lost

    assert seqs(await hers.events(3)) == [3, 4, 5]


@pytest.mark.usefixtures("silent")
async def test_a_doorbell_from_before_the_subscription_and_what_came_after_it_have_no_gap(
    hers: Socket, alice: User
) -> None:
    order_id = await place(owner_id=alice.pk)
    await move(order_id, 2, 3)
    await asyncio.sleep(0.2)
    await hear_all(hers)

    await move(order_id, 4)
    await ring(order_id, alice, 2)

    assert seqs(await hers.events(3)) == [2, 3, 4]


@pytest.mark.usefixtures("silent")
async def test_what_waited_for_a_lock_since_before_the_subscription_is_no_gap(
    hers: Socket, alice: User
) -> None:
    async with await psycopg.AsyncConnection.connect(database.conninfo()) as conn:
        await conn.execute("SELECT now()")  # the time of all that follows
        await asyncio.sleep(0.2)
        await hear_all(hers)
        order_id = await place(owner_id=alice.pk)
        await conn.execute(MOVE, {"id": order_id, "seq": 2})
    await move(order_id, 3)

    assert seqs(await hers.events(3)) == [1, 2, 3]


async def hear_all_again(socket: Socket) -> None:
    for action in ("unsubscribe", "subscribe"):
        await socket.send(type=action, scope="all")
        await acknowledged(socket, action)


@pytest.mark.usefixtures("silent")
async def test_what_was_read_for_one_subscription_is_not_told_to_the_next(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reading, read_on = queries.events_since, threading.Event(), threading.Event()

    def at_length(*asked: Any) -> list[events.Event]:
        found = read(*asked)
        reading.set()
        read_on.wait(10)
        return found

    await hear_all(hers)
    order_id = await place(owner_id=alice.pk)
    await move(order_id, 2, 3, 4)
    await ring(order_id, alice, 1, 2)
    await hers.events(2)
    monkeypatch.setattr(queries, "events_since", at_length)
    await ring(order_id, alice, 4)
    await asyncio.to_thread(reading.wait, 10)
    await hear_all_again(hers)

    await ring(order_id, alice, 1)  # twice over
    read_on.set()

    assert seqs(await hers.events(4)) == [1, 2, 3, 4]


def away_once(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The next reading of an order's rows fails; the event says that it has."""
    read, tried = queries.events_after, threading.Event()

    def read_the_second_time(*of: Any) -> Any:
        if not tried.is_set():
            tried.set()
            raise psycopg.OperationalError("away")
        return read(*of)

    monkeypatch.setattr(queries, "events_after", read_the_second_time)
    return tried


@pytest.mark.usefixtures("silent")
async def test_what_could_not_be_read_of_a_followed_order_is_heard_where_it_is_followed_no_more(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bells, "INBOX_SIZE", 0)
    monkeypatch.setattr(consumers, "AGAIN_SECONDS", 0.1)
    await hear_all(hers)
    order_id = await place(owner_id=alice.pk)
    await hers.send(type="subscribe", orderId=order_id, afterSeq=1)
    await acknowledged(hers, "subscribe")
    await move(order_id, 2, 3)
    await ring(order_id, alice, 1)
    tried = away_once(monkeypatch)

    await ring(order_id, alice, 2)
    await asyncio.to_thread(tried.wait, 5)
    await hers.send(type="unsubscribe", orderId=order_id)
    await acknowledged(hers, "unsubscribe")
    await ring(order_id, alice, 3)

    assert seqs(await hers.events(2)) == [2, 3]


@pytest.mark.usefixtures("silent")
async def test_what_waited_when_a_socket_unsubscribed_is_not_heard_by_its_next_subscription(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_ids = [await place(owner_id=alice.pk) for _ in range(2)]
    await move(order_ids[1], 2, 3)
    await asyncio.sleep(0.2)
    await hear_all(hers)
    await hub.hub().join(events.owner_group(alice.pk), bells.Inbox())  # the hub hears on
    monkeypatch.setattr(consumers, "AGAIN_SECONDS", 3.0)
    monkeypatch.setattr(bells, "INBOX_SIZE", 0)
    tried = away_once(monkeypatch)
    await ring(order_ids[0], alice, 1)
    await asyncio.to_thread(tried.wait, 5)
    await asyncio.sleep(0.1)  # and now it waits for AGAIN_SECONDS
    monkeypatch.setattr(bells, "INBOX_SIZE", INBOX_SIZE)

    await ring(order_ids[1], alice, 1)
    await hers.send(type="unsubscribe", scope="all")
    await acknowledged(hers, "unsubscribe")
    await ring(order_ids[1], alice, 2)
    await hear_all(hers)
    await ring(order_ids[1], alice, 3)

    (frame,) = await hers.events(1, 10)
    assert (frame["orderId"], frame["seq"]) == (order_ids[1], 3)


async def test_what_was_lost_comes_before_what_follows_it(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hear_all(hers)
    publish = events.publish
    lost = {1, 2, 4}
    monkeypatch.setattr(events, "publish", lambda one: one.seq in lost or publish(one))

    await execute(await place(owner_id=alice.pk))

    assert seqs(await hers.events(5)) == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("soon_found")
async def test_of_another_owners_orders_nothing_is_found(
    hers: Socket, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hear_all(hers)
    monkeypatch.setattr(events, "publish", lambda event: None)

    await execute(await place(owner_id=bob.pk))
    await execute(await place())
    own = await place(owner_id=alice.pk)

    (frame,) = await hers.events(1)
    assert frame["orderId"] == own


@pytest.mark.usefixtures("soon_found")
async def test_orders_without_an_owner_are_found_as_well(
    socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hear_all(socket)
    monkeypatch.setattr(events, "publish", lambda event: None)

    order_id = await place()
    order = await database_sync_to_async(factories.load)(order_id)
    await asyncio.to_thread(intake.withdraw, order)

    frames = [f for f in await socket.events(2) if f["orderId"] == order_id]
    assert [frame["status"] for frame in frames] == ["pending", "cancelled"]


async def test_an_order_heard_twice_over_is_told_once(hers: Socket, alice: User) -> None:
    order_id = await place(owner_id=alice.pk)
    await hers.send(type="subscribe", orderId=order_id)
    await hear_all(hers)
    await hers.events(1)
    await acknowledged(hers, "subscribe")

    await execute(order_id)

    assert seqs(await hers.events(4)) == [2, 3, 4, 5]
    assert await hers.until_pong() == []


async def test_of_a_burst_whose_doorbells_are_lost_every_order_is_heard_once(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hear_all(hers)
    monkeypatch.setattr(events, "publish", lambda event: None)
    batch = [factories.order_request(owner_id=alice.pk)] * 100

    async def placed() -> list[str]:
        return [one.order_id for one in await placement.place_orders(batch)]

    order_ids = [one for _ in range(INBOX_SIZE // 100 + 3) for one in await placed()]

    heard = [frame["orderId"] for frame in await hers.events(len(order_ids), 20)]
    assert sorted(heard) == sorted(order_ids)
    assert await hers.until_pong() == []


async def test_what_an_inbox_had_no_room_for_is_read(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hear_all(hers)
    monkeypatch.setattr(bells, "INBOX_SIZE", 0)
    away = iter([psycopg.OperationalError("away"), None])
    read = queries.events_after

    def read_the_second_time(*of: Any) -> Any:
        if error := next(away, None):
            raise error
        return read(*of)

    monkeypatch.setattr(queries, "events_after", read_the_second_time)
    monkeypatch.setattr(consumers, "AGAIN_SECONDS", 0.1)

    order_id = await place(owner_id=alice.pk)
    await execute(order_id)

    assert seqs(await hers.events(5)) == [1, 2, 3, 4, 5]
    assert await hers.until_pong() == []


async def test_a_socket_that_is_left_behind_is_told_so(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hear_all(hers)
    monkeypatch.setattr(bells, "INBOX_SIZE", 1)
    monkeypatch.setattr(bells, "MOST_BEHIND", 1)

    for seq in (1, 2):
        hub.hub()._ring(bells.Bell(events.owner_group(alice.pk), UNKNOWN, seq, {}))

    await refusal(hers, 503, "LEFT_BEHIND")
    assert await hers.close_code() == 1013


async def submitted(socket: Socket) -> str:
    """The id of an order of this socket, whose first event it has heard."""
    await socket.send(type="order.submit", order=order_body())
    order_id: str = (await acknowledged(socket, "order.submit"))["orderId"]
    await socket.events(1)
    return order_id


async def test_what_was_sent_before_unsubscribing_is_not_heard_again(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hear_all(hers)
    publish, late = events.publish, []
    monkeypatch.setattr(events, "publish", late.append)
    order_id = await submitted(hers)
    await hers.send(type="unsubscribe", orderId=order_id)
    await acknowledged(hers, "unsubscribe")
    monkeypatch.setattr(events, "publish", publish)

    publish(late[0])
    await execute(order_id)

    assert seqs(await hers.events(4)) == [2, 3, 4, 5]
    assert await hers.until_pong() == []


async def test_what_was_sent_is_not_heard_again_where_it_could_not_be_sent_once_more(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hear_all(hers)
    publish, late = events.publish, []
    monkeypatch.setattr(events, "publish", late.append)
    order_id = await submitted(hers)
    await hers.send(type="unsubscribe", orderId=order_id)
    await acknowledged(hers, "unsubscribe")
    away_once(monkeypatch)
    await hers.send(type="subscribe", orderId=order_id)
    await acknowledged(hers, "subscribe")
    await refusal(hers, 503)

    publish(late[0])
    await asyncio.sleep(0.2)

    assert await hers.until_pong() == []


async def test_of_many_that_ended_by_themselves_nothing_is_heard_again(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hear_all(hers)
    publish, late = events.publish, []
    monkeypatch.setattr(events, "publish", late.append)
    order_ids = [await submitted(hers) for _ in range(160)]
    orders = await database_sync_to_async(lambda: [*map(factories.load, order_ids)])()
    await asyncio.to_thread(lambda: [*map(intake.withdraw, orders)])
    await hers.events(len(order_ids), 20)  # by the poll

    for event in late:
        publish(event)
    monkeypatch.setattr(events, "publish", publish)

    last = await place(owner_id=alice.pk)
    assert [frame["orderId"] for frame in await hers.events(1)] == [last]


async def test_all_orders_are_heard_no_more_after_unsubscribing(hers: Socket, alice: User) -> None:
    await hear_all(hers)

    await hers.send(type="unsubscribe", scope="all")

    assert (await acknowledged(hers, "unsubscribe"))["scope"] == "all"
    last = await place(owner_id=alice.pk)
    await execute(last)
    await hers.send(type="subscribe", orderId=last)
    await acknowledged(hers, "subscribe")
    assert {frame["replayed"] for frame in await hers.events(5)} == {True}


async def test_an_order_submitted_where_all_are_heard_is_told_once(hers: Socket) -> None:
    await hear_all(hers)

    await hers.send(type="order.submit", order=order_body())

    frames = [await hers.receive(), await hers.receive(), *await hers.until_pong()]
    order_id = next(frame["orderId"] for frame in frames if frame["type"] == "ack")
    await execute(order_id)
    while frames[-1].get("status") != "confirmed":
        frames.append(await hers.receive())
    events = [frame for frame in frames if frame["type"] == "order.status"]
    assert seqs(events) == [1, 2, 3, 4, 5]


async def test_an_order_that_is_followed_by_itself_and_with_all_is_heard_once(
    hers: Socket, alice: User
) -> None:
    await hear_all(hers)
    order_id = await place(owner_id=alice.pk)
    assert seqs(await hers.events(1)) == [1]  # else it may come before the answer
    await hers.send(type="subscribe", orderId=order_id)
    await acknowledged(hers, "subscribe")
    await execute(order_id)
    other = await place(owner_id=alice.pk)

    frames = await hers.events(1)
    while frames[-1]["orderId"] != other:
        frames += await hers.events(1)

    assert seqs([frame for frame in frames if frame["orderId"] == order_id][-4:]) == [2, 3, 4, 5]
