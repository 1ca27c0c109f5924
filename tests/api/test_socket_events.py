"""The WebSocket: every event of an order from seq 1, in order, whenever the socket opens."""

import asyncio
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from channels.layers import channel_layers
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.test import Client

from dex.errors import OrderRejected
from orders import database, events, execution, hub, lifecycle, queries
from orders.bells import Bell
from orders.consumers import OrderConsumer
from orders.models import Order, Status
from tests import factories
from tests.api.http import order_body
from tests.api.sockets import (
    FINISHED,
    FRAME_MEMBERS,
    PATIENCE,
    Connect,
    execute,
    place,
    seqs,
)

pytestmark = pytest.mark.usefixtures("no_orders")

DOORBELL_LOST_SECONDS = 2.5


async def executed() -> str:
    order_id = await place()
    await execute(order_id)
    return order_id


async def cancel(order_id: str) -> None:
    def withdraw() -> None:
        found = database.row("SELECT * FROM orders_order WHERE id = %(id)s", {"id": order_id})
        lifecycle.advance(factories.Order(**found), Status.CANCELLED, data={})

    await asyncio.to_thread(withdraw)


async def test_hello_comes_first(connect: Connect) -> None:
    socket = await connect()

    hello = await socket.hello()

    assert (hello["type"], await socket.until_pong()) == ("hello", [])


async def test_a_finished_order_is_replayed_from_the_first_event_and_closed(
    connect: Connect,
) -> None:
    order_id = await executed()

    socket = await connect(f"?orderId={order_id}")

    await socket.hello()
    frames = await socket.events(5)
    assert [frame["status"] for frame in frames] == FINISHED
    assert seqs(frames) == [1, 2, 3, 4, 5]
    assert {frame["replayed"] for frame in frames} == {True}
    assert {frame["orderId"] for frame in frames} == {order_id}
    assert await socket.close_code() == 1000


async def test_a_socket_that_is_closed_takes_no_order(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would hear of it. The close is sent, and the client has not seen it yet."""
    order_id = await place()
    socket = await connect(f"?orderId={order_id}")
    await socket.hello()
    closing, close = asyncio.Event(), OrderConsumer.close

    async def slow_close(self: OrderConsumer, *args: Any) -> None:
        closing.set()
        await asyncio.sleep(0.3)
        await close(self, *args)

    monkeypatch.setattr(OrderConsumer, "close", slow_close)
    await execute(order_id)
    await closing.wait()
    before = await sync_to_async(Order.objects.count)()

    await socket.send(type="order.submit", order=order_body())

    assert seqs(await socket.events(5)) == [1, 2, 3, 4, 5]
    assert await socket.close_code() == 1000
    await asyncio.sleep(0.3)  # none is placed a little later
    assert await sync_to_async(Order.objects.count)() == before


async def test_the_frames_are_the_events_of_the_rest_api(connect: Connect, client: Client) -> None:
    order_id = await executed()

    socket = await connect(f"?orderId={order_id}")

    await socket.hello()
    frames = await socket.events(5)
    assert all(set(frame) == FRAME_MEMBERS for frame in frames)
    rest = await sync_to_async(client.get)(f"/api/orders/{order_id}/events")
    assert frames == rest.json()["results"]


async def test_live_events_follow_the_stored_ones_without_gap_or_repeat(connect: Connect) -> None:
    order_id = await place()
    socket = await connect(f"?orderId={order_id}")
    await socket.hello()
    stored = await socket.events(1)

    await execute(order_id)

    live = await socket.events(4)
    assert seqs(stored + live) == [1, 2, 3, 4, 5]
    assert [frame["replayed"] for frame in stored + live] == [True] + [False] * 4
    assert [frame["status"] for frame in stored + live] == FINISHED
    assert await socket.close_code() == 1000


async def test_live_events_are_not_read_from_the_rows(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = await place()
    socket = await connect(f"?orderId={order_id}")
    await socket.hello()
    await socket.events(1)
    reads: list[int] = []

    def read(order_id: str, owner_id: int | None, after: int) -> list[events.Event]:
        reads.append(after)
        return []

    monkeypatch.setattr(queries, "events_after", read)
    monkeypatch.setattr(queries, "newest_seqs", lambda order_ids: {})

    await execute(order_id)

    assert seqs(await socket.events(4)) == [2, 3, 4, 5]
    assert reads == []


async def test_live_events_carry_what_the_stored_ones_will(connect: Connect) -> None:
    order_id = await place()
    socket = await connect(f"?orderId={order_id}")
    await socket.hello()
    await execute(order_id)
    live = await socket.events(5)

    later = await connect(f"?orderId={order_id}")
    await later.hello()

    replayed = [{**frame, "replayed": True} for frame in live]
    assert await later.events(5) == replayed


@pytest.mark.parametrize("sockets", [12])
async def test_a_socket_that_opens_in_the_middle_misses_and_repeats_nothing(
    connect: Connect, sockets: int
) -> None:
    order_id = await place()
    running = asyncio.create_task(execute(order_id))

    opened = []
    for _ in range(sockets):
        opened.append(await connect(f"?orderId={order_id}"))
        await asyncio.sleep(0.005)  # spreads them over the execution
    await running

    for socket in opened:
        await socket.hello()
        assert seqs(await socket.events(5)) == [1, 2, 3, 4, 5]
        assert await socket.close_code() == 1000


@pytest.mark.parametrize(("after", "expected"), [(0, [1, 2, 3, 4, 5]), (2, [3, 4, 5]), (4, [5])])
async def test_a_socket_may_start_after_a_seq(
    connect: Connect, after: int, expected: list[int]
) -> None:
    order_id = await executed()

    socket = await connect(f"?orderId={order_id}&afterSeq={after}")

    await socket.hello()
    assert seqs(await socket.events(len(expected))) == expected
    assert await socket.close_code() == 1000


async def test_a_socket_that_starts_after_a_seq_hears_the_rest_live(connect: Connect) -> None:
    order_id = await place()
    socket = await connect(f"?orderId={order_id}&afterSeq=1")
    await socket.hello()
    assert await socket.until_pong() == []

    await execute(order_id)

    frames = await socket.events(4)
    assert seqs(frames) == [2, 3, 4, 5]
    assert {frame["replayed"] for frame in frames} == {False}


@pytest.mark.parametrize("after", [5, 6, 2**31 - 1])
async def test_a_socket_that_has_the_last_event_already_is_closed(
    connect: Connect, after: int
) -> None:
    order_id = await executed()

    socket = await connect(f"?orderId={order_id}&afterSeq={after}")

    await socket.hello()
    assert await socket.close_code() == 1000


@pytest.mark.parametrize(("after", "expected"), [(3, [4, 5]), (4, [5]), (5, []), (2**31 - 1, [])])
@pytest.mark.parametrize("doorbells", ["rung", "lost"])
async def test_a_seq_that_the_order_has_not_reached_is_waited_for(
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    expected: list[int],
    doorbells: str,
) -> None:
    if doorbells == "lost":  # what was lost is found at once, so to say
        monkeypatch.setattr(hub, "POLL_SECONDS", 0.1)
    order_id = await place()
    socket = await connect(f"?orderId={order_id}&afterSeq={after}")
    await socket.hello()
    assert await socket.until_pong() == []
    if doorbells == "lost":
        monkeypatch.setattr(events, "publish", lambda event: None)

    await execute(order_id)

    assert seqs(await socket.events(len(expected))) == expected
    assert await socket.close_code() == 1000


async def test_a_socket_is_closed_after_its_order_and_not_after_another(connect: Connect) -> None:
    waiting, done = await place(), await executed()
    socket = await connect(f"?orderId={waiting}")
    await socket.hello()
    await socket.events(1)

    await socket.send(type="subscribe", orderId=done)
    assert (await socket.receive())["type"] == "ack"
    await socket.events(5)

    await execute(waiting)
    assert seqs(await socket.events(4)) == [2, 3, 4, 5]
    assert await socket.close_code() == 1000


async def test_a_socket_without_an_order_stays_after_the_end_of_one(connect: Connect) -> None:
    done = await executed()
    socket = await connect()
    await socket.hello()

    await socket.send(type="subscribe", orderId=done)

    assert (await socket.receive())["type"] == "ack"
    assert seqs(await socket.events(5)) == [1, 2, 3, 4, 5]
    assert await socket.until_pong() == []


async def test_who_follows_again_while_the_last_event_is_on_its_way_hears_all(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = await place()
    socket = await connect()
    await socket.hello()
    await socket.send(type="subscribe", orderId=order_id)
    await socket.receive()
    sent, send = asyncio.Event(), OrderConsumer.send

    async def send_slowly(self: OrderConsumer, text_data: str) -> None:
        await send(self, text_data=text_data)
        if '"confirmed"' in text_data:
            await sent.wait()

    monkeypatch.setattr(OrderConsumer, "send", send_slowly)
    await execute(order_id)
    assert seqs(await socket.events(5)) == [1, 2, 3, 4, 5]

    await socket.send(type="subscribe", orderId=order_id)
    await asyncio.sleep(0.1)
    sent.set()

    assert (await socket.said())["type"] == "ack"
    assert seqs(await socket.events(5)) == [1, 2, 3, 4, 5]


async def test_a_retry_and_a_failure_are_told_too(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = factories.StubExchange(factories.dead())
    monkeypatch.setattr(execution, "exchange", lambda: dead)
    order_id = await place()
    socket = await connect(f"?orderId={order_id}")
    await socket.hello()
    with pytest.raises(execution.RetryLater):
        await execute(order_id)
    retried = (await socket.events(5))[-1]

    gone = factories.StubExchange(route=OrderRejected("NO_ROUTE", "no venue trades it"))
    monkeypatch.setattr(execution, "exchange", lambda: gone)
    await asyncio.to_thread(factories.make_due, order_id)
    await execute(order_id)

    assert (retried["status"], retried["previousStatus"]) == ("pending", "submitted")
    assert retried["data"]["error"]["code"] == "TX_EXPIRED"
    assert retried["data"]["retryAt"].endswith("Z")
    routing, failed = await socket.events(2)
    assert (routing["status"], routing["attempt"]) == ("routing", 2)
    assert (failed["status"], failed["data"]["code"]) == ("failed", "NO_ROUTE")
    assert failed["data"]["message"] == "no venue trades it"
    assert await socket.close_code() == 1000


async def test_many_sockets_hear_of_the_same_order(connect: Connect) -> None:
    order_id = await place()
    sockets = [await connect(f"?orderId={order_id}") for _ in range(5)]
    for socket in sockets:
        await socket.hello()

    await execute(order_id)

    for socket in sockets:
        assert seqs(await socket.events(5)) == [1, 2, 3, 4, 5]


async def test_a_burst_of_orders_is_told_in_order_on_one_socket(connect: Connect) -> None:
    order_ids = [await place() for _ in range(8)]
    socket = await connect()
    await socket.hello()
    for order_id in order_ids:
        await socket.send(type="subscribe", orderId=order_id)

    await asyncio.gather(*(execute(order_id) for order_id in order_ids))

    heard: dict[str, list[int]] = {order_id: [] for order_id in order_ids}
    while sum(map(len, heard.values())) < 5 * len(order_ids):
        frame = await socket.receive()
        if frame["type"] == "order.status":
            heard[frame["orderId"]].append(frame["seq"])
    assert heard == {order_id: [1, 2, 3, 4, 5] for order_id in order_ids}


# Doorbells and Redis -----------------------------------------------------------------------------


async def test_events_arrive_although_every_doorbell_was_lost(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = await place()
    socket = await connect(f"?orderId={order_id}")
    await socket.hello()
    await socket.events(1)
    monkeypatch.setattr(events, "publish", lambda event: None)

    await execute(order_id)

    assert seqs(await socket.events(4, DOORBELL_LOST_SECONDS)) == [2, 3, 4, 5]
    assert await socket.close_code() == 1000


async def test_a_poll_that_finds_nothing_new_wakes_no_socket(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls, woken = 0, []
    newest_seqs, deliver = queries.newest_seqs, OrderConsumer.deliver

    def counted(order_ids: list[str]) -> dict[str, int]:
        nonlocal polls
        polls += 1
        return newest_seqs(order_ids)

    async def noted(consumer: OrderConsumer, bell: Bell) -> None:
        woken.append(bell.seq)
        await deliver(consumer, bell)

    monkeypatch.setattr(hub, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(queries, "newest_seqs", counted)
    monkeypatch.setattr(OrderConsumer, "deliver", noted)
    order_id = await place()
    socket = await connect(f"?orderId={order_id}")
    await socket.hello()
    await socket.events(1)

    async with asyncio.timeout(PATIENCE):
        while polls < 10:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    assert woken == [1]  # once, for what was before it joined


def behind_once(monkeypatch: pytest.MonkeyPatch, seq: int) -> None:
    """The next read of the rows is answered as of a moment ago, up to `seq`."""
    read, first = queries.events_after, iter([True])

    def answer(*asked: Any) -> list[events.Event]:
        found = read(*asked)
        return [event for event in found if event.seq <= seq] if next(first, None) else found

    monkeypatch.setattr(queries, "events_after", answer)


async def test_a_read_that_is_behind_is_made_good(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = await place()
    socket = await connect(f"?orderId={order_id}")
    await socket.hello()
    await socket.events(1)
    publish = events.publish
    monkeypatch.setattr(events, "publish", lambda event: publish(event) if event.seq == 5 else None)
    behind_once(monkeypatch, 1)

    await execute(order_id)

    assert seqs(await socket.events(4, DOORBELL_LOST_SECONDS)) == [2, 3, 4, 5]


async def test_who_joins_others_with_a_read_that_is_behind_hears_the_rest(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = await place()
    first = await connect(f"?orderId={order_id}")
    await first.hello()
    await first.events(1)
    await asyncio.to_thread(factories.claim, order_id)
    assert seqs(await first.events(1)) == [2]
    behind_once(monkeypatch, 1)

    second = await connect(f"?orderId={order_id}")

    await second.hello()
    assert seqs(await second.events(2, DOORBELL_LOST_SECONDS)) == [1, 2]


async def test_one_lost_doorbell_is_made_good_by_the_next(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = await place()
    socket = await connect(f"?orderId={order_id}")
    await socket.hello()
    publish = events.publish
    monkeypatch.setattr(events, "publish", lambda event: publish(event) if event.seq != 3 else None)

    await execute(order_id)

    assert seqs(await socket.events(5)) == [1, 2, 3, 4, 5]


async def test_a_doorbell_that_rings_twice_is_heard_once(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = await place()
    socket = await connect()
    await socket.hello()
    await socket.send(type="subscribe", orderId=order_id)
    publish = events.publish

    def twice(event: events.Event) -> None:
        publish(event)
        publish(event)

    monkeypatch.setattr(events, "publish", twice)

    await execute(order_id)

    assert (await socket.receive())["type"] == "ack"
    assert seqs(await socket.events(5)) == [1, 2, 3, 4, 5]
    assert await socket.until_pong() == []


@pytest.fixture
def redis_away(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    closed = "redis://127.0.0.1:1/0"
    layer = RedisPubSubChannelLayer(hosts=[{"address": closed, "socket_connect_timeout": 0.5}])
    monkeypatch.setitem(channel_layers.backends, "default", layer)
    settings.REDIS_URL = closed


@pytest.mark.usefixtures("redis_away")
async def test_stored_events_arrive_while_redis_is_away(connect: Connect) -> None:
    order_id = await executed()

    socket = await connect(f"?orderId={order_id}")

    await socket.hello()
    assert seqs(await socket.events(5, seconds=2)) == [1, 2, 3, 4, 5]
    assert await socket.close_code() == 1000


@pytest.mark.usefixtures("redis_away")
async def test_new_events_arrive_while_redis_is_away(connect: Connect) -> None:
    order_id = await place()
    socket = await connect(f"?orderId={order_id}")
    await socket.hello()
    await socket.events(1)

    await execute(order_id)

    assert seqs(await socket.events(4, DOORBELL_LOST_SECONDS)) == [2, 3, 4, 5]


async def test_a_read_that_fails_once_is_made_good(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = await place()
    socket = await connect(f"?orderId={order_id}")
    await socket.hello()
    await socket.events(1)
    monkeypatch.setattr(events, "publish", lambda event: None)
    await execute(order_id)
    rows, failures = database.rows, iter([psycopg.OperationalError("away")])

    def away_once(sql: str, params: dict[str, Any]) -> list[Any]:
        if "orders_orderevent" in sql and (error := next(failures, None)):
            raise error
        return rows(sql, params)

    monkeypatch.setattr(database, "rows", away_once)

    assert seqs(await socket.events(4, PATIENCE)) == [2, 3, 4, 5]
    assert next(failures, None) is None
