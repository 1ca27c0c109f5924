"""What is rung is what the channel layer itself would publish, in order, in one call."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from orders import events, loop, requestid
from orders.events import Doorbell, Event
from tests.stacks import wait_until


def an_event(seq: int, order_id: str = "ord_1") -> Event:
    return Event(
        order_id=order_id,
        owner_id=7,
        seq=seq,
        status="building",
        previous_status="routing",
        attempt=1,
        created_at=datetime(2026, 11, 8, 10, 30, tzinfo=UTC),
        data={"venue": "raydium", "quotes": [{"amountOut": "1.5"}, None]},
    )


def test_a_message_is_what_the_library_publishes(monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[tuple[str, bytes]] = []
    content = {"type": "order.events", "frames": [an_event(3).frame(replayed=False)]}

    async def publish(self: Any, channel: str, message: bytes) -> None:
        published.append((channel, message))

    monkeypatch.setattr("channels_redis.pubsub.RedisSingleShardConnection.publish", publish)
    asyncio.run(events.channel_layer().group_send("order.ord_1", content))

    assert [events.message("order.ord_1", content)] == published


def test_who_listens_through_the_library_hears_every_event_in_order() -> None:
    async def heard() -> list[tuple[str, int]]:
        layer = events.channel_layer()
        channel = await layer.new_channel()
        for group in ("order.ord_1", "owner.7"):
            await layer.group_add(group, channel)
        for seq in (1, 2, 3):
            events.publish(an_event(seq))
        received = [await asyncio.wait_for(layer.receive(channel), 5) for _ in range(2)]
        return [
            (message["group"], frame["seq"]) for message in received for frame in message["frames"]
        ]

    found = asyncio.run(heard())

    assert [seq for name, seq in found if name == "owner.7"] == [1, 2, 3]
    # Who joins this group has found the order stored, and reads its first event.
    assert [seq for name, seq in found if name == "order.ord_1"] == [2, 3]


def ring(doorbell: Doorbell, event: Event) -> None:
    loop.soon(lambda: doorbell.ring(event))


async def sending() -> bool:
    return events._doorbell()._sending is not None


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> Any:
    wait_until(lambda: not loop.run(sending()))  # what the test before has rung for
    counted = events.Counter(published=0, failed=0, dropped=0)
    monkeypatch.setattr(events, "rung", counted)
    return counted


def test_a_redis_that_fails_costs_its_events_and_no_later_ones(
    rung: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []

    async def send(waiting: Any, connection: Any) -> None:
        if waiting[0].seq == 1:
            raise redis.ConnectionError("refused")
        sent.extend(event.seq for event in waiting)

    monkeypatch.setattr(events, "send", send)
    doorbell = Doorbell()
    ring(doorbell, an_event(1))
    wait_until(lambda: rung["failed"] == 1)
    ring(doorbell, an_event(2))

    wait_until(lambda: rung["published"] == 1)
    assert sent == [2]


def test_what_is_logged_of_many_requests_is_not_under_one_of_their_ids(
    rung: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound: list[str] = []

    async def send(waiting: Any, connection: Any) -> None:
        bound.append(requestid.bound())

    async def ring_of_a_request() -> None:
        requestid.bind("req_first")
        doorbell.ring(an_event(1))

    monkeypatch.setattr(events, "send", send)
    doorbell = Doorbell()
    loop.run(ring_of_a_request())

    wait_until(lambda: bound)
    assert bound == [""]


def test_what_waits_while_redis_is_slow_goes_in_one_call_and_more_than_that_is_dropped(
    rung: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BACKLOG", 3)
    calls: list[list[int]] = []
    go_on = asyncio.Event()

    async def send(waiting: Any, connection: Any) -> None:
        calls.append([event.seq for event in waiting])
        await go_on.wait()

    monkeypatch.setattr(events, "send", send)
    doorbell = Doorbell()
    ring(doorbell, an_event(1))
    wait_until(lambda: calls)
    for seq in (2, 3, 4, 5):
        ring(doorbell, an_event(seq))
    loop.soon(go_on.set)

    wait_until(lambda: rung["published"] == 4)
    assert calls == [[1], [2, 3, 4]]
    assert rung["dropped"] == 1


async def client_id(doorbell: Doorbell) -> int:
    """Of its connection, as Redis knows it."""
    await doorbell._redis.send_command("CLIENT", "ID", check_health=False)
    return int(await doorbell._redis.read_response())


def test_nobody_notices_that_redis_has_closed_the_connection(rung: Any) -> None:
    doorbell = Doorbell()
    ring(doorbell, an_event(1))
    wait_until(lambda: rung["published"] == 1)
    with redis.Redis.from_url(events.config()["hosts"][0]["address"]) as other:
        other.client_kill_filter(_id=str(loop.run(client_id(doorbell))))

    ring(doorbell, an_event(2))

    wait_until(lambda: rung["published"] + rung["failed"] == 2)
    assert rung["failed"] == 0
    loop.run(doorbell._redis.disconnect())


def test_a_redis_that_says_nothing_is_given_up_and_asked_again(
    rung: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SEND_TIMEOUT_SECONDS", 0.2)
    doorbell = Doorbell()
    monkeypatch.setattr(doorbell._redis, "read_response", lambda: asyncio.sleep(5))
    ring(doorbell, an_event(1))
    wait_until(lambda: rung["failed"] == 1)

    monkeypatch.undo()
    before = events.rung["published"]
    ring(doorbell, an_event(2))

    wait_until(lambda: events.rung["published"] == before + 1)
    loop.run(doorbell._redis.disconnect())


def test_an_answer_that_was_given_up_is_not_that_of_the_next_call(
    rung: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SEND_TIMEOUT_SECONDS", 0.2)
    doorbell = Doorbell()
    monkeypatch.setattr(doorbell._redis, "read_response", lambda: asyncio.sleep(5))

    ring(doorbell, an_event(1))

    wait_until(lambda: rung["failed"] == 1)
    wait_until(lambda: not doorbell._redis.is_connected, seconds=5)
