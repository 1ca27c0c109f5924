"""The WebSocket: what a client may say, and the answers."""

import asyncio
import json
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import Any

import psycopg
import pytest
from channels.db import database_sync_to_async
from django.contrib.auth.models import User
from psycopg.sql import SQL

from orderengine.asgi import application
from orders import (
    bells,
    consumers,
    database,
    events,
    execution,
    hub,
    intake,
    parsing,
    placement,
    queries,
)
from orders.bells import INBOX_SIZE
from orders.consumers import OrderConsumer
from tests import factories
from tests.api.http import ORDER_ID, TIMESTAMP, bearer, order_body, pointers, stored_orders
from tests.api.sockets import FINISHED, Socket, refusal, seqs

pytestmark = pytest.mark.usefixtures("no_orders")

Connect = Callable[..., Awaitable[Socket]]
UNKNOWN = "ord_1700000000000_abcdefghij"


@pytest.fixture
async def socket(connect: Connect) -> Socket:
    opened = await connect()
    await opened.hello()
    return opened


@pytest.fixture
async def hers(connect: Connect, alice: User) -> Socket:
    """A socket of a new user: nothing of the test before reaches its `scope: all`."""
    opened = await connect(Authorization=bearer(alice))
    await opened.hello()
    return opened


async def place(**changes: Any) -> str:
    return await asyncio.to_thread(factories.place, **changes)


async def execute(order_id: str) -> None:
    await asyncio.to_thread(execution.execute_order, order_id)


async def status_of(order_id: str) -> str:
    order = await asyncio.to_thread(
        factories.database.row,
        "SELECT status FROM orders_order WHERE id = %(id)s",
        {"id": order_id},
    )
    status: str = order["status"]
    return status


async def acknowledged(socket: Socket, action: str) -> dict[str, Any]:
    frame = await socket.receive()
    assert (frame["type"], frame["action"]) == ("ack", action), frame
    return frame


async def test_a_ping_is_answered(socket: Socket) -> None:
    await socket.send(type="ping")

    frame = await socket.receive()

    assert frame["type"] == "pong"
    assert re.fullmatch(TIMESTAMP, frame["timestamp"])


# Subscribing -------------------------------------------------------------------------------------


async def test_a_subscription_is_acknowledged_and_replayed(socket: Socket) -> None:
    order_id = await place()

    await socket.send(type="subscribe", orderId=order_id)

    assert (await acknowledged(socket, "subscribe"))["orderId"] == order_id
    stored = await socket.events(1)
    await execute(order_id)
    live = await socket.events(4)
    assert [frame["status"] for frame in stored + live] == FINISHED
    assert [frame["replayed"] for frame in stored + live] == [True] + [False] * 4


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
@pytest.mark.parametrize("of", ["order", "all"])
async def test_an_acknowledgement_has_what_was_said(socket: Socket, kind: str, of: str) -> None:
    said = {"scope": "all"} if of == "all" else {"orderId": await place()}

    await socket.send(type=kind, requestId="r-1", **said)

    expected = {"type": "ack", "action": kind, "requestId": "r-1", **said}
    assert await acknowledged(socket, kind) == expected


async def test_a_refused_subscription_names_its_request_id(socket: Socket) -> None:
    await socket.send(type="subscribe", orderId="ord_1000000000000_aaaaaaaaaa", requestId="r-2")

    assert (await refusal(socket, 404, "NOT_FOUND"))["inReplyTo"] == "r-2"


async def test_a_subscription_may_start_after_a_seq(socket: Socket) -> None:
    order_id = await place()
    await execute(order_id)

    await socket.send(type="subscribe", orderId=order_id, afterSeq=3)

    await acknowledged(socket, "subscribe")
    assert seqs(await socket.events(2)) == [4, 5]
    assert await socket.until_pong() == []


async def test_after_unsubscribing_nothing_more_comes(socket: Socket) -> None:
    order_id = await place()
    await socket.send(type="subscribe", orderId=order_id)
    await acknowledged(socket, "subscribe")
    await socket.events(1)

    await socket.send(type="unsubscribe", orderId=order_id)

    assert (await acknowledged(socket, "unsubscribe"))["orderId"] == order_id
    other = await place()
    await socket.send(type="subscribe", orderId=other)
    await acknowledged(socket, "subscribe")
    await execute(order_id)
    await execute(other)
    assert {frame["orderId"] for frame in await socket.events(5)} == {other}
    assert await socket.until_pong() == []


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


@pytest.fixture
def soon_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lost is looked for at once, so to say."""
    monkeypatch.setattr(hub, "POLL_SECONDS", 0.1)


@pytest.mark.usefixtures("soon_found")
@pytest.mark.parametrize("lost", ["all", "the first two", "the last", "every other", "by chance"])
async def test_all_orders_are_heard_whatever_doorbells_were_lost(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    before = await place(owner_id=alice.pk)
    await execute(before)
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
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
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")

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
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
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
async def test_what_is_committed_long_after_it_was_begun_is_heard(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "OVERLAP_SECONDS", 0.1)
    monkeypatch.setattr(queries, "LATE_SECONDS", 0.5)
    monkeypatch.setattr(events, "publish", lambda event: None)
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
    order_id = await place(owner_id=alice.pk)

    with psycopg.connect(database.conninfo()) as conn:  # one transaction, without a doorbell
        conn.execute(SLOWLY, {"id": order_id})
        await of_orders(hers, [order_id], 1)
        await asyncio.sleep(1.5)  # fifteen polls

    (frame,) = await of_orders(hers, [order_id], 1)
    assert (frame["seq"], frame["status"]) == (2, "cancelled")


@pytest.fixture
def standby() -> Iterator[Callable[[str], None]]:
    """Names the standby that a COMMIT waits for which is to wait (this server's are not)."""
    with psycopg.connect(database.conninfo(), autocommit=True) as conn:

        def name(standby: str) -> None:
            conn.execute(SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(standby))
            conn.execute("SELECT pg_reload_conf()")

        yield name
        name("")


@pytest.mark.usefixtures("soon_found")
async def test_what_a_standby_kept_from_being_committed_is_heard_however_long_it_took(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch, standby: Callable[[str], None]
) -> None:
    for name in ("OVERLAP_SECONDS", "LONGEST_SECONDS"):
        monkeypatch.setattr(hub, name, 0.1)
    monkeypatch.setattr(queries, "LATE_SECONDS", 0.5)
    monkeypatch.setattr(events, "publish", lambda event: None)
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
    order_id = await place(owner_id=alice.pk)
    await of_orders(hers, [order_id], 1)
    standby("missing")

    with psycopg.connect(database.conninfo()) as conn:
        conn.execute("SET LOCAL synchronous_commit = on")
        conn.execute(SLOWLY, {"id": order_id})
        committing = asyncio.create_task(asyncio.to_thread(conn.commit))
        await asyncio.sleep(1.5)  # fifteen polls
        assert not committing.done()
        standby("")
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
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
    order_id = await place(owner_id=alice.pk)
    assert seqs(await of_orders(hers, [order_id], 1)) == [1]
    await hers.send(type="unsubscribe", scope="all")
    await acknowledged(hers, "unsubscribe")
    await execute(order_id)
    await asyncio.sleep(0.5)

    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
    await asyncio.sleep(0.5)  # five polls

    assert not [f for f in await hers.until_pong() if f.get("orderId") == order_id]


async def test_an_order_that_was_heard_of_has_no_gap_from_before_the_subscription(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, kept = events.publish, []
    monkeypatch.setattr(events, "publish", kept.append)
    order_id = await place(owner_id=alice.pk)
    await execute(order_id)
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")

    for event in (kept[0], kept[2]):  # late; the one between them is lost
        publish(event)

    assert seqs(await hers.events(5)) == [1, 2, 3, 4, 5]


async def test_what_was_lost_comes_before_what_follows_it(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
    publish = events.publish
    lost = {1, 2, 4}
    monkeypatch.setattr(events, "publish", lambda one: one.seq in lost or publish(one))

    await execute(await place(owner_id=alice.pk))

    assert seqs(await hers.events(5)) == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("soon_found")
async def test_of_another_owners_orders_nothing_is_found(
    hers: Socket, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
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
    await socket.send(type="subscribe", scope="all")
    await acknowledged(socket, "subscribe")
    monkeypatch.setattr(events, "publish", lambda event: None)

    order_id = await place()
    order = await database_sync_to_async(factories.load)(order_id)
    await asyncio.to_thread(intake.withdraw, order)

    frames = [f for f in await socket.events(2) if f["orderId"] == order_id]
    assert [frame["status"] for frame in frames] == ["pending", "cancelled"]


async def test_an_order_heard_twice_over_is_told_once(hers: Socket, alice: User) -> None:
    order_id = await place(owner_id=alice.pk)
    await hers.send(type="subscribe", orderId=order_id)
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
    await hers.events(1)
    await acknowledged(hers, "subscribe")

    await execute(order_id)

    assert seqs(await hers.events(4)) == [2, 3, 4, 5]
    assert await hers.until_pong() == []


async def test_of_a_burst_whose_doorbells_are_lost_every_order_is_heard_once(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
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
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
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
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
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
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
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


async def test_of_many_that_ended_by_themselves_nothing_is_heard_again(
    hers: Socket, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
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


async def test_a_second_subscription_goes_on_and_begins_again_where_it_says_so(
    socket: Socket,
) -> None:
    order_id = await place()
    await socket.send(type="subscribe", orderId=order_id)
    await acknowledged(socket, "subscribe")
    await socket.events(1)

    await socket.send(type="subscribe", orderId=order_id)
    await acknowledged(socket, "subscribe")
    assert await socket.until_pong() == []

    await socket.send(type="subscribe", orderId=order_id, afterSeq=0)
    await acknowledged(socket, "subscribe")
    await execute(order_id)
    assert seqs(await socket.events(5)) == [1, 2, 3, 4, 5]


async def test_all_orders_are_heard_no_more_after_unsubscribing(hers: Socket, alice: User) -> None:
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")

    await hers.send(type="unsubscribe", scope="all")

    assert (await acknowledged(hers, "unsubscribe"))["scope"] == "all"
    last = await place(owner_id=alice.pk)
    await execute(last)
    await hers.send(type="subscribe", orderId=last)
    await acknowledged(hers, "subscribe")
    assert {frame["replayed"] for frame in await hers.events(5)} == {True}


async def test_subscribing_to_an_order_that_is_not_there_is_refused(socket: Socket) -> None:
    await socket.send(type="subscribe", orderId=UNKNOWN)

    await refusal(socket, 404, "NOT_FOUND")
    assert await socket.until_pong() == []


async def test_a_subscription_whose_events_could_not_be_read_is_none(
    socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id, other = await place(), await place()

    def away(*_: Any) -> None:
        raise psycopg.OperationalError("away")

    with monkeypatch.context() as while_away:
        while_away.setattr(queries, "events_after", away)
        await socket.send(type="subscribe", orderId=order_id)
        await acknowledged(socket, "subscribe")
        await refusal(socket, 503)
    await execute(order_id)

    await socket.send(type="subscribe", orderId=other)
    await acknowledged(socket, "subscribe")
    assert {frame["orderId"] for frame in await socket.events(1)} == {other}
    assert await socket.until_pong() == []


async def test_finished_orders_do_not_use_up_the_socket(
    socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orders.consumers.MAX_FOLLOWED", 2)
    for _ in range(3):
        order_id = await place()
        await execute(order_id)
        await socket.send(type="subscribe", orderId=order_id)
        await acknowledged(socket, "subscribe")
        assert seqs(await socket.events(5)) == [1, 2, 3, 4, 5]


async def test_an_order_that_could_not_be_followed_is_not_placed(
    socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orders.consumers.MAX_FOLLOWED", 1)
    await socket.send(type="order.submit", requestId="a", order=order_body())
    first = await acknowledged(socket, "order.submit")
    await socket.events(1)

    await socket.send(type="order.submit", requestId="b", order=order_body())

    assert (await refusal(socket, 429, "TOO_MANY_SUBSCRIPTIONS"))["inReplyTo"] == "b"
    assert await asyncio.to_thread(stored_orders) == [first["orderId"]]


@pytest.mark.usefixtures("soon_found")
async def test_an_order_that_was_acknowledged_is_followed_whatever_happens(
    socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise psycopg.OperationalError("away")

    with monkeypatch.context() as while_away:
        while_away.setattr(queries, "events_after", away)
        await socket.send(type="order.submit", requestId="a", order=order_body())
        placed = await acknowledged(socket, "order.submit")
        assert await socket.until_pong() == []
    await execute(placed["orderId"])

    assert seqs(await socket.events(5)) == [1, 2, 3, 4, 5]


async def test_a_subscription_stays_where_its_second_one_fails(
    socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = await place()
    await socket.send(type="subscribe", orderId=order_id)
    await acknowledged(socket, "subscribe")
    await socket.events(1)

    def away(*_: Any) -> None:
        raise psycopg.OperationalError("away")

    with monkeypatch.context() as while_away:
        while_away.setattr(queries, "events_after", away)
        await socket.send(type="subscribe", orderId=order_id, afterSeq=0)
        await acknowledged(socket, "subscribe")
        await refusal(socket, 503)
    await execute(order_id)

    assert seqs(await socket.events(4)) == [2, 3, 4, 5]


async def test_too_many_orders_at_once_are_refused(
    socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orders.consumers.MAX_FOLLOWED", 2)
    order_ids = [await place() for _ in range(3)]
    for order_id in order_ids[:2]:
        await socket.send(type="subscribe", orderId=order_id)
        await acknowledged(socket, "subscribe")
        await socket.events(1)

    await socket.send(type="subscribe", orderId=order_ids[2])

    await refusal(socket, 429)
    assert await socket.until_pong() == []


# Submitting and cancelling -----------------------------------------------------------------------


@pytest.mark.parametrize("amount", ["1.5", '"1.5"'], ids=["number", "string"])
async def test_a_submitted_order_is_acknowledged_and_followed(socket: Socket, amount: str) -> None:
    order = f'{{"tokenIn":"SOL","tokenOut":"USDC","amount":{amount},"slippage":0.005}}'
    await socket.send_text(f'{{"type":"order.submit","requestId":"r-1","order":{order}}}')

    ack = await acknowledged(socket, "order.submit")

    assert ack["requestId"] == "r-1"
    assert re.fullmatch(ORDER_ID, ack["orderId"])
    assert ack["status"] == "pending"
    assert re.fullmatch(TIMESTAMP, ack["timestamp"])
    stored = await socket.events(1)
    assert (stored[0]["data"]["amount"], stored[0]["data"]["slippage"]) == ("1.5", "0.005")
    await execute(ack["orderId"])
    assert seqs(stored + await socket.events(4)) == [1, 2, 3, 4, 5]


async def test_a_submitted_number_loses_no_digit(socket: Socket) -> None:
    order = '{"tokenIn":"SOL","tokenOut":"USDC","amount":9007199.254740993}'
    await socket.send_text(f'{{"type":"order.submit","order":{order}}}')

    await acknowledged(socket, "order.submit")

    assert (await socket.events(1))[0]["data"]["amount"] == "9007199.254740993"


async def test_a_submit_repeated_gets_the_first_answer_again(socket: Socket) -> None:
    order = order_body(clientOrderId="once")
    await socket.send(type="order.submit", requestId="1", order=order)
    first = await acknowledged(socket, "order.submit")
    await socket.events(1)

    await socket.send(type="order.submit", requestId="2", order=order)

    again = await acknowledged(socket, "order.submit")
    assert again["orderId"] == first["orderId"]
    assert again["timestamp"] == first["timestamp"]
    assert await asyncio.to_thread(stored_orders) == [first["orderId"]]


async def test_a_repeated_submit_repeats_no_event(socket: Socket) -> None:
    order = order_body(clientOrderId="once")
    for _ in range(2):
        await socket.send(type="order.submit", order=order)

    frames = await socket.until_pong()

    events = [frame for frame in frames if frame["type"] == "order.status"]
    assert seqs(events) == [1]


async def test_an_order_submitted_where_all_are_heard_is_told_once(hers: Socket) -> None:
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")

    await hers.send(type="order.submit", order=order_body())

    frames = [await hers.receive(), await hers.receive(), *await hers.until_pong()]
    order_id = next(frame["orderId"] for frame in frames if frame["type"] == "ack")
    await execute(order_id)
    while frames[-1].get("status") != "confirmed":
        frames.append(await hers.receive())
    events = [frame for frame in frames if frame["type"] == "order.status"]
    assert seqs(events) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("order", "found"),
    [
        (order_body(amount="0"), {"/order/amount"}),
        (order_body(tokenIn="DOGE"), {"/order/tokenIn"}),
        (order_body(tokenOut="SOL"), {"/order/tokenOut"}),
        (order_body(limit=1), {"/order/limit"}),
        ({}, {"/order/tokenIn", "/order/tokenOut", "/order/amount"}),
    ],
)
async def test_a_bad_order_is_refused_and_not_stored(
    socket: Socket, order: dict[str, Any], found: set[str]
) -> None:
    await socket.send(type="order.submit", requestId="r-9", order=order)

    frame = await refusal(socket, 400, "VALIDATION")
    assert pointers(frame) == found
    assert all(f"{pointer}: " in frame["detail"] for pointer in found)
    assert frame["inReplyTo"] == "r-9"
    assert await asyncio.to_thread(stored_orders) == []
    assert await socket.until_pong() == []


async def test_an_id_submitted_for_another_order_is_refused(socket: Socket) -> None:
    await socket.send(type="order.submit", order=order_body(clientOrderId="once"))
    await acknowledged(socket, "order.submit")
    await socket.events(1)

    await socket.send(type="order.submit", order=order_body(clientOrderId="once", amount="2"))

    frame = await refusal(socket, 409, "CLIENT_ORDER_ID_REUSED")
    assert pointers(frame) == {"/order/clientOrderId"}


async def test_an_order_whose_deadline_has_passed_is_refused(socket: Socket) -> None:
    await socket.send(type="order.submit", order=order_body(deadline="2020-01-01T00:00:00Z"))

    assert pointers(await refusal(socket, 400, "VALIDATION")) == {"/order/deadline"}


async def test_a_waiting_order_is_cancelled(socket: Socket) -> None:
    order_id = await place()

    await socket.send(type="order.cancel", orderId=order_id)

    ack = await acknowledged(socket, "order.cancel")
    assert (ack["orderId"], ack["status"]) == (order_id, "cancelled")
    assert await status_of(order_id) == "cancelled"


async def test_a_followed_order_that_is_cancelled_is_told(connect: Connect) -> None:
    order_id = await place()
    socket = await connect(f"?orderId={order_id}")
    await socket.hello()
    await socket.events(1)
    other = await connect()
    await other.hello()

    await other.send(type="order.cancel", orderId=order_id)

    (frame,) = await socket.events(1)
    assert (frame["status"], frame["seq"]) == ("cancelled", 2)
    assert await socket.close_code() == 1000


async def test_an_order_that_has_left_pending_is_not_cancelled(socket: Socket) -> None:
    order_id = await place()
    await execute(order_id)

    await socket.send(type="order.cancel", orderId=order_id)

    await refusal(socket, 409)
    assert await status_of(order_id) == "confirmed"


async def test_an_order_that_is_not_there_is_not_cancelled(socket: Socket) -> None:
    await socket.send(type="order.cancel", orderId=UNKNOWN)

    await refusal(socket, 404, "NOT_FOUND")


# What is wrong with a frame ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "{",
        "null",
        "[]",
        "5",
        '"ping"',
        "{}",
        '{"type":null}',
        '{"type":5}',
        '{"type":["ping"]}',
        '{"type":{"ping":1}}',
        '{"type":"PING"}',
        '{"type":"__init__"}',
        '{"type":"ping","type":"ping"}',
        '{"type":"ping","extra":1}',
        '{"type":"subscribe"}',
        '{"type":"subscribe","orderId":""}',
        '{"type":"subscribe","orderId":["a"]}',
        '{"type":"subscribe","orderId":"a","scope":"all"}',
        '{"type":"subscribe","scope":"everything"}',
        '{"type":"subscribe","orderId":"a","afterSeq":-1}',
        '{"type":"subscribe","orderId":"a","afterSeq":"x"}',
        '{"type":"subscribe","orderId":"a","afterSeq":1e9999999999999999999}',
        '{"type":"subscribe","orderId":"a\\u0000"}',
        '{"type":"unsubscribe"}',
        '{"type":"order.cancel"}',
        '{"type":"order.submit"}',
        '{"type":"order.submit","order":null}',
        '{"type":"order.submit","order":[]}',
        '{"type":"order.submit","order":"x"}',
        '{"type":"order.submit","order":{"amount":NaN}}',
        pytest.param('{"type":' + "[" * 100_000, id="deep"),
        pytest.param('{"type":"subscribe","orderId":"' + "x" * 100_000 + '"}', id="long"),
        pytest.param(
            '{"type":"order.submit","order":{"amount":' + "[" * 850 + "]" * 850 + "}}",
            id="deep-order",
        ),
    ],
)
async def test_a_wrong_frame_is_answered_and_the_socket_stays(socket: Socket, text: str) -> None:
    await socket.send_text(text)

    await refusal(socket, 400)
    assert await socket.until_pong() == []


@pytest.mark.parametrize(
    "members",
    [
        '"type":"order.submit"',
        '"type":"order.submit","order":[]',
        '"type":"order.cancel","orderId":""',
        '"type":"subscribe"',
        '"type":"ping","seq":1',
        '"type":"nonsense"',
        '"type":5',
        '"order":{}',
    ],
)
async def test_the_answer_to_a_wrong_frame_names_its_request_id(
    socket: Socket, members: str
) -> None:
    await socket.send_text(f'{{"requestId":"r-7",{members}}}')

    assert (await refusal(socket, 400))["inReplyTo"] == "r-7"


@pytest.mark.parametrize(
    "request_id",
    [
        "null",
        "true",
        '""',
        "5",
        "1.5",
        "[]",
        '["r"]',
        '{"r":1}',
        '"\\u0000"',
        '"\\ud800"',
        "9" * 65,
    ]
    + ['"' + "x" * length + '"' for length in (65, 60_000)],
    ids=lambda text: text[:10],
)
@pytest.mark.parametrize("members", ['"type":"order.cancel","orderId":"x"', '"type":"nonsense"'])
async def test_what_is_no_request_id_is_not_repeated(
    socket: Socket, members: str, request_id: str
) -> None:
    await socket.send_text(f'{{"requestId":{request_id},{members}}}')

    assert "inReplyTo" not in await refusal(socket, 400)
    assert await socket.until_pong() == []


@pytest.mark.parametrize("order_id", ["\\ud800", "ord_\\udfff"])
async def test_half_a_surrogate_is_no_order(socket: Socket, order_id: str) -> None:
    await socket.send_text(f'{{"type":"subscribe","orderId":"{order_id}"}}')

    frame = await socket.receive()
    assert (frame["type"], frame["status"] in {400, 404}) == ("error", True)
    assert await socket.until_pong() == []


@pytest.mark.parametrize("data", [b"\x00\xff", json.dumps({"type": "ping"}).encode()])
async def test_a_binary_frame_is_answered_and_the_socket_stays(socket: Socket, data: bytes) -> None:
    await socket.send_bytes(data)

    assert "not a binary one" in (await refusal(socket, 400))["detail"]
    assert await socket.until_pong() == []


async def test_a_hundred_wrong_frames_leave_the_socket_open(socket: Socket) -> None:
    for _ in range(100):
        await socket.send_text("nonsense")

    frames = await socket.until_pong()

    assert [frame["type"] for frame in frames] == ["error"] * 100


async def test_a_fault_of_ours_is_an_error_frame_without_a_word_of_it(
    socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("the secret inside")

    monkeypatch.setattr("orders.intake.place", broken)
    await socket.send(type="order.submit", requestId="r", order=order_body())

    frame = await refusal(socket, 500, "INTERNAL")
    assert "secret" not in json.dumps(frame)
    assert await socket.until_pong() == []


async def test_every_few_seconds_there_is_a_heartbeat(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orders.consumers.HEARTBEAT_SECONDS", 0.02)
    socket = await connect()
    await socket.hello()

    frames = [await socket.receive() for _ in range(3)]

    assert [frame["type"] for frame in frames] == ["heartbeat"] * 3


# When the process stops ---------------------------------------------------------------------------


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    monkeypatch.setattr(application, "stopping", False)  # as it is again after the test
    return application.stop


@pytest.fixture
def slow_intake(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, ...]]:
    """Set when an order is being placed; to be set for it to go on."""
    begun, go_on = threading.Event(), threading.Event()
    place_order = intake.place

    async def slowly(*args: Any) -> Any:
        begun.set()
        assert await asyncio.to_thread(go_on.wait, 5)
        return await place_order(*args)

    monkeypatch.setattr("orders.intake.place", slowly)
    yield begun, go_on
    go_on.set()


async def test_a_socket_is_told_that_the_process_stops(
    socket: Socket, stop: Callable[[], None]
) -> None:
    stop()

    frame = await socket.receive()
    assert frame["type"] == "server.shutdown"
    assert re.fullmatch(TIMESTAMP, frame["timestamp"])
    assert await socket.close_code() == 1001


async def test_a_socket_that_opens_while_the_process_stops_is_told(
    connect: Connect, stop: Callable[[], None]
) -> None:
    stop()

    socket = await connect()

    await socket.hello()
    assert (await socket.receive())["type"] == "server.shutdown"
    assert await socket.close_code() == 1001


async def test_an_order_in_hand_is_acknowledged_before_the_goodbye_and_the_next_not_placed(
    socket: Socket, stop: Callable[[], None], slow_intake: tuple[threading.Event, ...]
) -> None:
    begun, go_on = slow_intake
    await socket.send(type="order.submit", requestId="1", order=order_body())
    await socket.send(type="order.submit", requestId="2", order=order_body())
    await asyncio.to_thread(begun.wait, 5)

    stop()
    go_on.set()

    assert (await acknowledged(socket, "order.submit"))["requestId"] == "1"
    assert seqs(await socket.events(1)) == [1]
    assert (await socket.receive())["type"] == "server.shutdown"
    assert await socket.close_code() == 1001
    await socket.disconnect()
    assert len(await asyncio.to_thread(stored_orders)) == 1


async def test_an_order_that_waits_while_the_goodbye_is_said_is_not_placed(
    socket: Socket, stop: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    delivering, go_on, submitted = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def deliver_slowly(*_: object) -> None:
        delivering.set()
        await go_on.wait()

    def loads_and_tells(text: str) -> Any:
        submitted.set()
        return parsing.loads(text)

    order_id = await place()
    await socket.send(type="subscribe", orderId=order_id)
    await acknowledged(socket, "subscribe")
    await socket.events(1)
    monkeypatch.setattr(OrderConsumer, "deliver", deliver_slowly)
    monkeypatch.setattr("orders.consumers.loads", loads_and_tells)
    await execute(order_id)
    await delivering.wait()

    stop()
    await socket.send(type="order.submit", order=order_body())
    await submitted.wait()
    go_on.set()

    assert (await socket.receive())["type"] == "server.shutdown"
    assert await socket.close_code() == 1001
    await socket.disconnect()
    assert await asyncio.to_thread(stored_orders) == [order_id]


async def test_an_order_that_takes_too_long_does_not_hold_up_the_goodbye(
    socket: Socket,
    stop: Callable[[], None],
    slow_intake: tuple[threading.Event, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orders.consumers.FAREWELL_SECONDS", 0.05)
    begun, go_on = slow_intake
    await socket.send(type="order.submit", order=order_body())
    await asyncio.to_thread(begun.wait, 5)

    stop()

    assert (await socket.receive())["type"] == "server.shutdown"
    assert await socket.close_code() == 1001
    go_on.set()


async def test_an_order_that_is_followed_by_itself_and_with_all_is_heard_once(
    hers: Socket, alice: User
) -> None:
    await hers.send(type="subscribe", scope="all")
    await acknowledged(hers, "subscribe")
    order_id = await place(owner_id=alice.pk)
    await hers.send(type="subscribe", orderId=order_id)
    await acknowledged(hers, "subscribe")
    await execute(order_id)
    other = await place(owner_id=alice.pk)

    frames = await hers.events(1)
    while frames[-1]["orderId"] != other:
        frames += await hers.events(1)

    assert seqs([frame for frame in frames if frame["orderId"] == order_id][-4:]) == [2, 3, 4, 5]
