"""The web process's ear: one subscriber to the channel layer on behalf of all its sockets.

Redis may be away when a socket opens, or be wiped under it: the hub joins groups when it can, and
asks the database every POLL_SECONDS for what a lost doorbell did not announce.
"""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import structlog

from orders import presence, queries
from orders.events import ORDER_GROUP, channel_layer
from orders.once import once_per_loop

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.5
# How long a socket waits for its group before it reads the database.
JOIN_SECONDS = 0.25
REDIS_SECONDS = 1.0
INBOX_SIZE = 1000

T = TypeVar("T")

# Channels runs all database calls of all sockets in one thread: one slow query would freeze them.
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="socket-reads")
_tasks: set[asyncio.Task[None]] = set()


async def in_thread(call: Callable[..., T], *args: Any) -> T:
    """Run a blocking call in the threads that sockets share."""
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(call, *args))


@dataclass(frozen=True, slots=True)
class Bell:
    """Something happened to an order. `frame` is None when only its newest seq is known."""

    group: str
    order_id: str
    seq: int
    frame: dict[str, Any] | None = None
    text: str = ""  # the frame as each client gets it


def heard(group: str, frame: dict[str, Any]) -> Bell:
    """The bell that a frame rings, encoded once for all that hear it."""
    return Bell(group, frame["orderId"], frame["seq"], frame, json.dumps(frame))


class Inbox:
    """Of one socket. Of each followed order it keeps the newest bell: the rows have the rest.

    What is heard through an owner's group is kept one by one, and dropped past INBOX_SIZE.
    """

    def __init__(self) -> None:
        self._bells: dict[tuple[str, str, int], Bell] = {}
        self._rung = asyncio.Event()

    def ring(self, bell: Bell) -> None:
        if bell.group.startswith(ORDER_GROUP):
            key = bell.group, bell.order_id, 0
            waiting = self._bells.get(key)
            if waiting is not None and waiting.seq >= bell.seq:
                return
        elif len(self._bells) >= INBOX_SIZE:
            return
        else:
            key = bell.group, bell.order_id, bell.seq
        self._bells[key] = bell
        self._rung.set()

    async def get(self) -> Bell:
        while not self._bells:
            self._rung.clear()
            await self._rung.wait()
        return self._bells.pop(next(iter(self._bells)))


@dataclass(eq=False)
class Group:
    inboxes: set[Inbox] = field(default_factory=set)
    joined: asyncio.Event = field(default_factory=asyncio.Event)


class Hub:
    def __init__(self) -> None:
        self._layer = channel_layer()
        self._groups: dict[str, Group] = {}
        self._changed = asyncio.Event()
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
                self._ring(heard(message["group"], message["frame"]))
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
                await asyncio.sleep(REDIS_SECONDS)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await in_thread(presence.report)
                await self._ring_newest()
            except Exception as error:  # nothing may end the poll: it makes good what was lost
                log.warning("hub.poll_failed", error=repr(error))

    async def _ring_newest(self) -> None:
        watched = [n.removeprefix(ORDER_GROUP) for n in self._groups if n.startswith(ORDER_GROUP)]
        seqs = await in_thread(queries.newest_seqs, watched) if watched else {}
        for order_id, seq in seqs.items():
            self._ring(Bell(ORDER_GROUP + order_id, order_id, seq))

    def _ring(self, bell: Bell) -> None:
        if group := self._groups.get(bell.group):
            for inbox in group.inboxes:
                inbox.ring(bell)


hub = once_per_loop(Hub)
