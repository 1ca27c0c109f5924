"""Between the hub and the sockets: what has happened to an order, and where it waits."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from orders.events import ORDER_GROUP

INBOX_SIZE = 1000
MOST_BEHIND = 5000
# A bell that takes longer is lost, as Redis was away, or comes after those that overtook it.
WAIT_SECONDS = 0.25
# Orders of which is known what was heard, those heard of last: 25 MiB where so many move. The poll
# looks back for 6 s: what moved in them and is forgotten would be heard again.
MOST_KNOWN = 100_000

Key = tuple[str, str]  # group, order id


class Bell(NamedTuple):
    """Something happened to an order. Without a `frame`, `seq` is all that is known of it: in the
    order's own group its newest seq, in its owner's the first that an inbox had no room for."""

    group: str
    order_id: str
    seq: int
    frame: dict[str, Any] | None = None
    text: str = ""  # the frame as each client gets it


def heard(group: str, frame: dict[str, Any]) -> Bell:
    """The bell that a frame rings, encoded once for all that hear it."""
    return Bell(group, frame["orderId"], frame["seq"], frame, json.dumps(frame))


def without_frame(bell: Bell) -> Bell:
    return bell._replace(frame=None, text="")


def of_one_order(group: str) -> bool:
    return group.startswith(ORDER_GROUP)


class Inbox:
    """Of one socket. Of each followed order it keeps the newest bell and those it directly follows:
    the rows have the rest.

    What is heard through an owner's group is kept one by one; past INBOX_SIZE only, for each order,
    where that begins. Past MOST_BEHIND the inbox has `overflowed`: something is lost.
    """

    def __init__(self) -> None:
        self._bells: dict[tuple[str, str, int], deque[Bell]] = {}
        self._rung = asyncio.Event()
        self.overflowed = False

    def ring(self, bell: Bell) -> None:
        if of_one_order(bell.group):
            waiting = self._bells.setdefault((bell.group, bell.order_id, 0), deque())
            if waiting and bell.seq <= waiting[-1].seq:
                return
            if waiting and bell.seq != waiting[-1].seq + 1:
                waiting.clear()
            waiting.append(bell)
        elif (bell.group, bell.order_id, 0) in self._bells:
            return
        elif len(self._bells) < INBOX_SIZE:
            self._bells[bell.group, bell.order_id, bell.seq] = deque([bell])
        elif len(self._bells) < MOST_BEHIND:
            self._bells[bell.group, bell.order_id, 0] = deque([without_frame(bell)])
        else:
            self.overflowed = True
        self._rung.set()

    def put_back(self, bell: Bell) -> None:
        """One of an owner's group that was not brought to the client: it comes next."""
        behind = (bell.group, bell.order_id, 0)
        self._bells.pop(behind, None)  # of what came meanwhile
        self._bells = {behind: deque([without_frame(bell)])} | self._bells
        self._rung.set()

    def forget(self, group: str) -> None:
        """What was heard through it and waits: it is followed no more."""
        self._bells = {key: bells for key, bells in self._bells.items() if key[0] != group}

    async def filled(self) -> None:
        while self.is_empty():
            self._rung.clear()
            await self._rung.wait()

    def is_empty(self) -> bool:
        return not self._bells

    def take(self) -> Bell:
        """The next of those that wait."""
        key, waiting = next(iter(self._bells.items()))
        bell = waiting.popleft()
        if not waiting:
            del self._bells[key]
        return bell


class InOrder:
    """Passes each order's bells on once, and waits a moment for one that others have overtaken.

    A web process announces the first event of an order and workers the others, each when it has
    time. What does not come in time is lost: `miss` is told, which reads it from the rows, passes
    it on with `fill`, and with `settle` ends the waiting of those that had come before it read.
    """

    def __init__(self, ring: Callable[[Bell], None], miss: Callable[[Key], None]) -> None:
        self._ring = ring
        self._miss = miss
        self._newest: dict[Key, int] = {}  # the seq that was passed on last
        self._early: dict[Key, dict[int, Bell]] = {}
        self._patience: dict[Key, asyncio.TimerHandle] = {}

    def ring(self, bell: Bell) -> None:
        """Now, or as soon as the one before it is heard or given up. On an event loop."""
        if bell.seq <= self.newest((bell.group, bell.order_id)) + 1:
            self.fill(bell)
        else:
            self._wait(bell)

    def newest(self, key: Key) -> int:
        """The highest seq that was passed on; 0 where none is known."""
        return self._newest.get(key, 0)

    def fill(self, bell: Bell) -> None:
        """Now, whatever is missing before it; what waits is passed on where it belongs."""
        key = bell.group, bell.order_id
        waiting = self._early.get(key, {})
        for seq in sorted(waiting):
            if seq < bell.seq:
                self._pass(key, waiting.pop(seq))
        self._pass(key, bell)
        while following := waiting.pop(self.newest(key) + 1, None):
            self._pass(key, following)
        if not waiting:
            self._wait_no_more(key)

    def waiting(self, key: Key) -> int:
        """The highest seq that waits; 0 where none does."""
        return max(self._early.get(key, ()), default=0)

    def begin(self, key: Key, seq: int) -> bool:
        """Of an order of which nothing was heard, nothing before this seq is to be had: one that
        waits and is lower is the first. Whether something is heard of it now."""
        waiting = self._early.get(key, {})
        if not self.newest(key) and (first := min(waiting, default=seq)) < seq:
            self.fill(waiting.pop(first))
        return self.newest(key) > 0

    def settle(self, key: Key, last: int) -> None:
        """Nothing more is to be had of what those up to `last` wait for: they go without. Those
        that came later wait anew."""
        waiting = self._early.get(key, {})
        self._wait_no_more(key)
        for seq, bell in sorted(waiting.items()):
            (self.fill if seq <= last else self.ring)(bell)

    def forget(self, group: str) -> None:
        """What was heard through it: who hears it from now on has heard nothing."""
        for key in [key for key in self._newest if key[0] == group]:
            del self._newest[key]
        for key in [key for key in self._early if key[0] == group]:
            self._wait_no_more(key)

    def _pass(self, key: Key, bell: Bell) -> None:
        """Once, and never after one that follows it."""
        if bell.seq <= self.newest(key):
            return
        self._newest.pop(key, None)  # the order is now the one heard of last
        self._newest[key] = bell.seq
        if len(self._newest) > MOST_KNOWN:
            del self._newest[next(iter(self._newest))]
        self._ring(bell)

    def _wait(self, bell: Bell) -> None:
        key = bell.group, bell.order_id
        if key not in self._early:
            loop = asyncio.get_running_loop()
            self._patience[key] = loop.call_later(WAIT_SECONDS, self._give_up, key)
        self._early.setdefault(key, {})[bell.seq] = bell

    def _wait_no_more(self, key: Key) -> None:
        self._early.pop(key, None)
        if patience := self._patience.pop(key, None):
            patience.cancel()

    def _give_up(self, key: Key) -> None:
        del self._patience[key]
        self._miss(key)
