"""Between the hub and the sockets: what has happened to an order, and where it waits."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orders.events import ORDER_GROUP

INBOX_SIZE = 1000
# A bell that takes longer is lost, as Redis was away, or is of before anybody listened.
WAIT_SECONDS = 0.1
# Orders of which the newest bell is known, those heard of last: 5 MiB.
MOST_KNOWN = 20_000

Key = tuple[str, str]  # group, order id


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


def of_one_order(group: str) -> bool:
    return group.startswith(ORDER_GROUP)


class Inbox:
    """Of one socket. Of each followed order it keeps the newest bell: the rows have the rest.

    What is heard through an owner's group is kept one by one, and dropped past INBOX_SIZE.
    """

    def __init__(self) -> None:
        self._bells: dict[tuple[str, str, int], Bell] = {}
        self._rung = asyncio.Event()

    def ring(self, bell: Bell) -> None:
        if of_one_order(bell.group):
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


class InOrder:
    """Passes each order's bells on with ascending seq, each once.

    A web process announces the first event of an order and workers the others, each when it has
    time: they may overtake one another. Who follows one order reads its rows then; of all orders
    there is nothing to read, so the missing one is waited for.
    """

    def __init__(self, ring: Callable[[Bell], None]) -> None:
        self._ring = ring
        self._newest: dict[Key, int] = {}
        self._early: dict[Key, dict[int, Bell]] = {}

    def ring(self, bell: Bell) -> None:
        """Now, or as soon as those before it are heard or given up. On an event loop."""
        key = bell.group, bell.order_id
        due = self._newest.get(key, 0) + 1
        if bell.seq == due:
            self._pass(key, bell)
            self._pass_what_follows(key)
        elif bell.seq > due:
            if key not in self._early:
                asyncio.get_running_loop().call_later(WAIT_SECONDS, self._give_up, key)
            self._early.setdefault(key, {})[bell.seq] = bell

    def _pass(self, key: Key, bell: Bell) -> None:
        self._newest.pop(key, None)  # the order is now the one heard of last
        self._newest[key] = bell.seq
        if len(self._newest) > MOST_KNOWN:
            del self._newest[next(iter(self._newest))]
        self._ring(bell)

    def _pass_what_follows(self, key: Key) -> None:
        early = self._early.get(key, {})
        while following := early.pop(self._newest[key] + 1, None):
            self._pass(key, following)

    def _give_up(self, key: Key) -> None:
        for _, bell in sorted(self._early.pop(key).items()):
            self._pass(key, bell)
