"""The channel layer: channels_redis, on connections that find out that they are lost.

A kernel gives up a peer that was cut off with ETIMEDOUT, which to Python is asyncio's TimeoutError.
redis-py takes that for an answer that has not come yet. Reading raises it again at once, without a
wait: the subscriber would ask for ever, and let nothing else of its event loop run.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import redis
from channels_redis.pubsub import RedisPubSubChannelLayer
from redis.asyncio.connection import Connection, parse_url


class FindsOut:
    """Before a class of redis-py's connections: raises ConnectionError where one was lost."""

    _reader: asyncio.StreamReader | None
    disconnect: Any

    async def read_response(self, *args: Any, **options: Any) -> Any:
        if self._reader is not None and isinstance(self._reader.exception(), TimeoutError):
            await self.disconnect(nowait=True)
            raise redis.ConnectionError("the connection was lost: nothing came back")
        return await super().read_response(*args, **options)  # type: ignore[misc]  # the next class


class ChannelLayer(RedisPubSubChannelLayer):  # type: ignore[misc]  # not typed
    """`hosts` are mappings with an `address`, a URL, and options of redis-py's connections."""

    def __init__(self, *, hosts: list[dict[str, Any]], **options: Any) -> None:
        super().__init__(hosts=[connecting(**host) for host in hosts], **options)


def connecting(*, address: str, **options: Any) -> Mapping[str, Any]:
    """The options, all that the address says among them."""
    options |= parse_url(address)
    kind = options.get("connection_class", Connection)
    return options | {"connection_class": type(kind.__name__, (FindsOut, kind), {})}
