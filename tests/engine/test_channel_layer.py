"""Whoever listens through the channel layer hears on when Redis was cut off."""

import asyncio
import errno
from typing import Any

import pytest
import redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from orderengine.channel_layer import ChannelLayer, FindsOut, connecting
from orders import events
from orders.bells import Inbox
from orders.events import order_group
from orders.hub import hub


@pytest.fixture
async def layer() -> Any:
    return ChannelLayer(**events.config())


async def test_a_group_that_is_left_while_redis_is_away_is_unsubscribed_from_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orders.hub.REDIS_SECONDS", 0.1)
    ear, inbox, name = hub(), Inbox(), order_group("ord_left")
    await ear.join(name, inbox)
    (shard,) = ear._layer._get_layer()._shards
    unsubscribe, asked = shard._pubsub.unsubscribe, 0

    async def away_twice(*channels: str) -> None:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise redis.ConnectionError("away")
        await unsubscribe(*channels)

    monkeypatch.setattr(shard._pubsub, "unsubscribe", away_twice)
    ear.leave(name, inbox)

    async with asyncio.timeout(10):
        while any(name in channel for channel in shard._subscribed_to):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert asked == 3


async def test_a_connection_that_the_kernel_gave_up_is_opened_again(layer: Any) -> None:
    channel = await layer.new_channel()
    await layer.group_add("owner.7", channel)
    await layer.group_send("owner.7", {"number": 1})
    assert await layer.receive(channel) == {"number": 1}

    await asyncio.sleep(0.2)  # the subscriber waits for the next message
    give_up(subscriber(layer))
    await asyncio.sleep(0)
    heard = asyncio.create_task(layer.receive(channel))
    async with asyncio.timeout(10):
        while not heard.done():
            await layer.group_send("owner.7", {"number": 2})
            await asyncio.sleep(0.1)

    assert heard.result() == {"number": 2}
    await layer.flush()


def subscriber(layer: Any) -> Connection:
    (shard,) = layer._get_layer()._shards
    connection: Connection = shard._pubsub.connection
    return connection


def give_up(connection: Any) -> None:
    """As recv() does of a peer that answers no keepalive."""
    connection._writer.transport._fatal_error(TimeoutError(errno.ETIMEDOUT, "timed out"))


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("redis://redis:6379/3", Connection),
        ("rediss://redis:6379/3", SSLConnection),
        ("unix:///run/redis.sock?db=3", UnixDomainSocketConnection),
    ],
)
def test_so_is_one_of_any_kind(address: str, kind: type) -> None:
    options = dict(connecting(address=address, socket_connect_timeout=0.5))

    made = options.pop("connection_class")

    assert issubclass(made, FindsOut)
    assert issubclass(made, kind)
    assert made(**options).db == 3
