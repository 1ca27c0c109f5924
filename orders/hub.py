"""The web process's ear: one subscriber to the channel layer on behalf of all its sockets.

Redis may be away when a socket opens, or be wiped under it: the hub joins groups when it can, and
asks the database every POLL_SECONDS for what a lost doorbell did not announce.

Of one order it rings for the newest seq, and each socket reads what it lacks. Of an owner's orders
it reads what no bell has brought itself, once for all sockets.
"""

import asyncio
import random
from collections import deque
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

import structlog

from orders import presence, queries
from orders.bells import Bell, Inbox, InOrder, Key, heard, of_one_order
from orders.events import ORDER_GROUP, channel_layer, owner_group, owner_of_group
from orders.once import once_per_loop
from orders.threads import in_socket_thread

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.5
# How long a socket waits for its group before it reads the database.
JOIN_SECONDS = 0.25
REDIS_SECONDS = 1.0
RUNG_TOGETHER = 50
READ_TOGETHER = 200
# What is committed so much later than it was begun is found by the next poll; where this role sees
# that somebody is at it, what is committed LONGEST_SECONDS later, and at any time where its COMMIT
# waits for a standby.
OVERLAP_SECONDS = 4.0
LONGEST_SECONDS = 60.0

_tasks: set[asyncio.Task[None]] = set()


def start(loop: Coroutine[Any, Any, None]) -> None:
    """It is kept for as long as it runs; asyncio logs the error that ends it."""
    task = asyncio.create_task(loop)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


@dataclass(eq=False)
class Group:
    inboxes: set[Inbox] = field(default_factory=set)
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    # Of the loop's clock, time.monotonic(); what was before is nobody's to hear.
    since: float = 0.0
    rung: int = 0  # of one order: the newest seq that its inboxes were told of


class Hub:
    def __init__(self) -> None:
        self._layer = channel_layer()
        self._groups: dict[str, Group] = {}
        self._changed = asyncio.Event()
        self._in_order = InOrder(self._ring, self._miss)
        self._missing: dict[Key, float] = {}  # since when, see _since
        self._missed = asyncio.Event()
        self._polled_at = self._now()
        for loop in (self._listen(), self._poll(), self._mend()):
            start(loop)

    async def join(self, name: str, inbox: Inbox) -> None:
        """Ring at this inbox from now on; waits a moment for Redis, not for ever.

        Who is cancelled meanwhile has not joined.
        """
        group = self._groups.setdefault(name, Group())
        if not group.inboxes:
            group.since = self._now()
            if not of_one_order(name):
                self._in_order.forget(name)
                self._missing = {k: since for k, since in self._missing.items() if k[0] != name}
        group.inboxes.add(inbox)
        group.rung = 0  # what this one reads now may be behind
        self._changed.set()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(JOIN_SECONDS):
                    await group.joined.wait()
        except asyncio.CancelledError:
            self.leave(name, inbox)
            raise

    def leave(self, name: str, inbox: Inbox) -> None:
        if group := self._groups.get(name):
            group.inboxes.discard(inbox)
            self._changed.set()

    def ring_again(self, order_id: str) -> None:
        """At the next poll: a socket that was told has not brought it to its client."""
        if group := self._groups.get(ORDER_GROUP + order_id):
            group.rung = 0

    async def _listen(self) -> None:
        channel = await self._until_redis_answers(self._layer.new_channel)
        start(self._keep_membership(channel))
        while True:
            try:
                message = await self._layer.receive(channel)
                if message["group"] not in self._groups:
                    continue  # nobody would end its waiting
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
                    if not of_one_order(name):
                        self._in_order.forget(name)
                    await self._until_redis_answers(self._discard, name, channel)
                elif not group.joined.is_set():
                    await self._until_redis_answers(self._layer.group_add, name, channel)
                    group.joined.set()

    async def _discard(self, name: str, channel: str) -> None:
        """The layer forgets a group first, and then unsubscribes: where Redis did not answer, it
        has to know the group again."""
        await self._layer.group_add(name, channel)  # asks nobody: it has subscribed
        await self._layer.group_discard(name, channel)

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
            for step in (self._ring_newest, self._find_lost, self._report):
                try:
                    await step()
                except Exception as error:  # nothing may end the poll: it makes good what was lost
                    log.warning("hub.poll_failed", step=step.__name__, error=repr(error))

    async def _report(self) -> None:
        await in_socket_thread(presence.report)  # to Redis, which may be away

    async def _ring_newest(self) -> None:
        watched = [n.removeprefix(ORDER_GROUP) for n in self._groups if of_one_order(n)]
        seqs = await in_socket_thread(queries.newest_seqs, watched) if watched else {}
        behind = [
            Bell(name, order_id, seq)
            for order_id, seq in seqs.items()
            if (group := self._groups.get(name := ORDER_GROUP + order_id)) and seq > group.rung
        ]
        for number, bell in enumerate(behind):
            if number % RUNG_TOGETHER == 0:  # what is announced meanwhile waits for so many to wake
                await asyncio.sleep(0)
            self._ring(bell)

    async def _find_lost(self) -> None:
        """What of owners' orders no bell has told of: it is lost, or on its way."""
        owners = {owner_of_group(name) for name in self._groups if not of_one_order(name)}
        began = self._now()
        if owners:
            began = await in_socket_thread(queries.oldest_writing, LONGEST_SECONDS)
            first = min(self._since(owner_group(owner)) for owner in owners)
            moved = await in_socket_thread(queries.moved, owners, first)
            keys = {(owner_group(owner_id), order_id): seq for owner_id, order_id, seq in moved}
            behind = [key for key, seq in keys.items() if self._in_order.newest(key) < seq]
            await self._read({key: self._since(key[0]) for key in behind})
        self._polled_at = began

    def _since(self, name: str) -> float:
        """What was before has been heard, or is not to be; of the loop's clock."""
        group = self._groups.get(name)
        return max(group.since if group else self._now(), self._polled_at - OVERLAP_SECONDS)

    def _is_current(self, key: Key, since: float) -> bool:
        """Whether who hears the group has heard it since then."""
        group = self._groups.get(key[0])
        return group is not None and group.since <= since

    def _miss(self, key: Key) -> None:
        self._missing.setdefault(key, self._since(key[0]))
        self._missed.set()

    async def _mend(self) -> None:
        while True:
            await self._missed.wait()
            self._missed.clear()
            missing, self._missing = self._missing, {}
            waiting = {key: self._in_order.waiting(key) for key in missing}
            try:
                await self._read(missing)
            except Exception as error:  # what waits goes on waiting
                log.warning("hub.read_failed", orders=len(missing), error=repr(error))
                self._missing |= {k: at for k, at in missing.items() if self._is_current(k, at)}
                await asyncio.sleep(POLL_SECONDS)
                self._missed.set()
            else:
                for key, last in waiting.items():
                    if self._is_current(key, missing[key]):
                        self._in_order.settle(key, last)

    async def _read(self, since: Mapping[Key, float]) -> None:
        """Bring from the rows what no bell has: all that follows what was heard of an order, or
        else its events from a moment on. What is heard of first by a bell from before that moment,
        which waits or came meanwhile, is read once more: it has no gap after that."""
        keys = deque(since)
        while some := [keys.popleft() for _ in range(min(len(keys), READ_TOGETHER))]:
            wanted = {key[1]: (self._in_order.newest(key), since[key]) for key in some}
            heard_of = {key: self._in_order.waiting(key) for key in some}
            events = await in_socket_thread(queries.events_since, wanted)
            found = {order_id: list(of) for order_id, of in groupby(events, attrgetter("order_id"))}
            rung = 0
            for key in some:
                if rung >= RUNG_TOGETHER:
                    await asyncio.sleep(0)  # for sockets to send what they have
                    rung = 0
                if not self._is_current(key, since[key]):
                    continue
                of_it = found.get(key[1], [])
                begins = of_it[0].seq if of_it else heard_of[key] + 1
                if wanted[key[1]][0] == 0 and self._in_order.begin(key, begins):
                    keys.append(key)
                    continue
                for event in of_it:
                    self._in_order.fill(heard(key[0], event.frame(replayed=False)))
                    rung += 1

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _ring(self, bell: Bell) -> None:
        if group := self._groups.get(bell.group):
            group.rung = max(group.rung, bell.seq)
            for inbox in group.inboxes:
                inbox.ring(bell)


hub = once_per_loop(Hub)
