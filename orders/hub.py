"""The web process's ear: one subscriber to the channel layer on behalf of all its sockets.

Redis may be away when a socket opens, or be wiped under it: the hub joins groups when it can, and
asks the database every POLL_SECONDS for what a lost doorbell did not announce.
"""

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import structlog

from orders import presence, queries
from orders.bells import Bell, Inbox, InOrder, heard, of_one_order
from orders.events import ORDER_GROUP, channel_layer
from orders.once import once_per_loop

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.5
# How long a socket waits for its group before it reads the database.
JOIN_SECONDS = 0.25
REDIS_SECONDS = 1.0

T = TypeVar("T")

# Channels runs all database calls of all sockets in one thread: one slow query would freeze them.
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="socket-reads")
_tasks: set[asyncio.Task[None]] = set()


async def in_thread(call: Callable[..., T], *args: Any) -> T:
    """Run a blocking call in the threads that sockets share."""
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(call, *args))


@dataclass(eq=False)
class Group:
    inboxes: set[Inbox] = field(default_factory=set)
    joined: asyncio.Event = field(default_factory=asyncio.Event)


class Hub:
    def __init__(self) -> None:
        self._layer = channel_layer()
        self._groups: dict[str, Group] = {}
        self._changed = asyncio.Event()
        self._in_order = InOrder(self._ring)
        for loop in (self._listen(), self._poll()):
            task = asyncio.create_task(loop)
            _tasks.add(task)
            task.add_done_callback(_tasks.discard)

    async def join(self, name: str, inbox: Inbox) -> None:
        """Ring at this inbox from now on; waits a moment for Redis, not for ever."""
        group = self._groups.setdefault(name, Group())
        group.inboxes.add(inbox)
        self._changed.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(JOIN_SECONDS):
                await group.joined.wait()

    def leave(self, name: str, inbox: Inbox) -> None:
        if group := self._groups.get(name):
            group.inboxes.discard(inbox)
            self._changed.set()

    async def _listen(self) -> None:
        channel = await self._until_redis_answers(self._layer.new_channel)
        members = asyncio.create_task(self._keep_membership(channel))
        _tasks.add(members)
        while True:
            try:
                message = await self._layer.receive(channel)
                ring = self._ring if of_one_order(message["group"]) else self._in_order.ring
                for frame in message.get("frames", ()):  # those of another release have none
                    ring(heard(message["group"], frame))
            except Exception as error:  # a message that is not ours must not end the listening
                log.warning("hub.message_dropped", error=repr(error))
                await asyncio.sleep(0.1)

    async def _keep_membership(self, channel: str) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            for name, group in list(self._groups.items()):
                if not group.inboxes:
                    # Forgotten first: a socket that joins meanwhile makes a new group.
                    del self._groups[name]
                    await self._until_redis_answers(self._layer.group_discard, name, channel)
                elif not group.joined.is_set():
                    await self._until_redis_answers(self._layer.group_add, name, channel)
                    group.joined.set()

    async def _until_redis_answers(self, call: Any, *args: Any) -> Any:
        while True:
            try:
                async with asyncio.timeout(REDIS_SECONDS):
                    return await call(*args)
            except Exception as error:  # the layer raises whatever its client raises
                log.warning("hub.redis_away", error=repr(error))
                # Not at the moment at which the layer itself tries again, on the same connection.
                await asyncio.sleep(REDIS_SECONDS * random.uniform(0.3, 0.8))  # noqa: S311

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await in_thread(presence.report)
                await self._ring_newest()
            except Exception as error:  # nothing may end the poll: it makes good what was lost
                log.warning("hub.poll_failed", error=repr(error))

    async def _ring_newest(self) -> None:
        watched = [n.removeprefix(ORDER_GROUP) for n in self._groups if of_one_order(n)]
        seqs = await in_thread(queries.newest_seqs, watched) if watched else {}
        for order_id, seq in seqs.items():
            self._ring(Bell(ORDER_GROUP + order_id, order_id, seq))

    def _ring(self, bell: Bell) -> None:
        if group := self._groups.get(bell.group):
            for inbox in group.inboxes:
                inbox.ring(bell)


hub = once_per_loop(Hub)
