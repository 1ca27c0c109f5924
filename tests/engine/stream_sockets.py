"""A client's end of a simulated socket, which holds each frame to the promise of the stream."""

import asyncio
import json
import math
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, replace
from typing import Any

from orders.consumers import CHECK_SECONDS, FAREWELL_SECONDS, OrderConsumer
from orders.hub import Hub
from orders.keys import TRUST_SECONDS
from orders.models import TERMINAL
from tests.engine.stream_servers import Rows, Stored, World, moment

# Not to be cancelled any more; too many are followed; the database is away.
EXPECTED_REFUSALS = {409, 429, 503}
GONE, REVOKED = 1006, 4401
ROUNDING = 0.001
MOST_ASKED = 4
HEARTBEAT_SECONDS = 5.0
# A check is trusted for a while; the heartbeat after that asks.
MOST_UNCHECKED_SECONDS = TRUST_SECONDS + HEARTBEAT_SECONDS + CHECK_SECONDS
MOST_FAREWELL_SECONDS = FAREWELL_SECONDS + 1.0
SERVING: ContextVar["Socket"] = ContextVar("SERVING")


@dataclass(eq=False)
class Server:
    """A web process."""

    hub: Hub
    stopping: bool = False


@dataclass(frozen=True)
class Told:
    """Of one order: what the client is to hear next, and from where on it has heard everything."""

    next: int
    first: int
    followed: bool
    ahead: bool = False  # the client says that it has what had not happened yet


class Socket:
    """One connection. `told` and `all_since` are what the server owes it after each frame."""

    def __init__(
        self,
        world: World,
        rows: Rows,
        *,
        server: Server,
        name: str,
        owner_id: int | None,
        follows: tuple[str, int] | None = None,
    ) -> None:
        """`follows` is the order and `afterSeq` of the address."""
        self._world = world
        self._rows = rows
        self.server = server
        self.name = name
        self.owner_id = owner_id
        self.code: int | None = None
        self.told: dict[str, Told] = {}
        self.all_since: float | None = None
        self._asked: dict[str, dict[str, Any]] = {}
        self.checked_at = 0.0  # the key was good
        self._asked_at: dict[str, float] = {}
        self._before: dict[str, Told | None] = {}  # a subscription, by its requestId
        self._answered = 0
        self._must_close = False
        self._close_after = ""
        self._shutdown = asyncio.Event()
        self._stopped_at: float | None = None
        self._farewell = ""  # the frame after which nothing comes but the close
        self._placing = False
        query = ""
        if follows is not None:
            self._close_after, after = follows
            query = f"orderId={self._close_after}&afterSeq={after}"
            self._follow(self._close_after, after)
        self._to_server: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.consumer = OrderConsumer()
        scope = {
            "type": "websocket",
            "headers": [],
            "query_string": query.encode(),
            "owner_id": owner_id,
            "shutdown": self._shutdown,
        }
        context = copy_context()
        context.run(SERVING.set, self)
        serving = self.consumer(scope, self._to_server.get, self._hear)
        self.serving = asyncio.create_task(serving, context=context)
        self._to_server.put_nowait({"type": "websocket.connect"})
        self._tell(f"opens {query}", self._close_after)
        if server.stopping:
            self.stop()

    def _tell(self, text: str, *about: str) -> None:
        self._world.tell(f"{self.name} {text}", self.name, *about)

    # What the client does ----------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """For the answers to more than a few frames."""
        return len(self._asked) - self._answered > MOST_ASKED

    def ask(self, **frame: Any) -> None:
        request_id = f"r{len(self._asked)}"
        self._asked[request_id] = frame
        self._asked_at[request_id] = self._world.now()
        text = json.dumps({**frame, "requestId": request_id})
        self._to_server.put_nowait({"type": "websocket.receive", "text": text})
        self._tell(f"asks {text}", frame.get("orderId", ""))

    def leave(self, *, killed: bool = False) -> None:
        """The server hears of it, or is cancelled where it waits, as Daphne does."""
        self._tell("is killed" if killed else "leaves")
        self.code = GONE
        if killed:
            self.serving.cancel()
        else:
            self._to_server.put_nowait({"type": "websocket.disconnect", "code": GONE})

    # What the server does ----------------------------------------------------------------------

    def stop(self) -> None:
        self._tell("is to hear that its server stops")
        self._stopped_at = self._world.now()
        self._shutdown.set()
        asyncio.get_running_loop().call_later(MOST_FAREWELL_SECONDS, self._check_closed)

    def _check_closed(self) -> None:
        if self.code is None:
            self._world.violate(f"{self.name} is open, and its server has stopped", self.name)

    def places(self) -> None:
        """An order, for this socket, which is to be acknowledged."""
        self._placing = True
        if self._farewell or self.code not in {None, GONE}:
            self._world.violate(f"{self.name} places an order after its end", self.name)

    # What the server says ----------------------------------------------------------------------

    async def _hear(self, message: dict[str, Any]) -> None:
        if self.code is None and message["type"] == "websocket.close":
            self._closed(message["code"])
        elif self.code is None and message["type"] == "websocket.send":
            frame = json.loads(message["text"])
            self._check_key()
            if self._farewell:
                text = f"{self.name} heard {frame} after {self._farewell}"
                self._world.violate(text, self.name)
            hear = {
                "ack": self._acknowledged,
                "error": self._refused,
                "order.status": self._event,
                "server.shutdown": self._stops,
            }
            if frame["type"] in hear:
                hear[frame["type"]](frame)
        if not self._farewell and self._world.happens(self._world.weather.slow_clients):
            await asyncio.sleep(self._world.draw.uniform(0, 0.5))

    def _closed(self, code: int) -> None:
        self._tell(f"is closed with {code}")
        self.code = code
        self._to_server.put_nowait({"type": "websocket.disconnect", "code": code})
        expected = {
            1000: self._must_close or self._is_over(),
            1001: self._farewell == "server.shutdown",
            1013: True,
            REVOKED: self._farewell == "error",
        }
        if not expected.get(code) or (self._placing and code != 1001):
            self._world.violate(f"{self.name} was closed with {code}", self.name)

    def _stops(self, frame: dict[str, Any]) -> None:
        self._tell("hears that its server stops")
        self._farewell = frame["type"]
        if self._stopped_at is None:
            self._world.violate(f"{self.name} heard {frame}", self.name)
        elif self._placing and self._world.now() < self._stopped_at + FAREWELL_SECONDS:
            text = f"{self.name} heard {frame}, and no answer to its order"
            self._world.violate(text, self.name)

    def _revoked_at(self) -> float:
        return self._rows.revoked.get(self.owner_id, math.inf)

    def _check_key(self) -> None:
        unchecked = self._world.now() - max(self._revoked_at(), self._world.quiet_since)
        if unchecked > MOST_UNCHECKED_SECONDS:
            self._world.violate(f"{self.name} is open, and its key revoked", self.name)

    def _is_over(self) -> bool:
        """All of the order of the address has been told."""
        stored, told = self._rows.orders.get(self._close_after), self.told.get(self._close_after)
        if stored is None or told is None:
            return False
        return stored.has_ended and told.next > stored.seq

    def _acknowledged(self, frame: dict[str, Any]) -> None:
        asked, order_id = self._asked[frame["requestId"]], frame.get("orderId", "")
        trusted = self._world.now() if self.owner_id is None else self.checked_at + TRUST_SECONDS
        if self._asked_at[frame["requestId"]] > trusted + ROUNDING:
            self._world.violate(f"{self.name} heard {frame} of an unchecked key", self.name)
        self._answered += 1
        self._tell(f"hears ack of {frame['requestId']} {frame['action']}", order_id)
        if asked["type"] == "order.submit":
            self._placing = False
            self.told[order_id] = Told(1, 0, followed=True)
        elif "scope" in asked:
            self._all(asked["type"] == "subscribe")
        elif asked["type"] == "unsubscribe":
            self._unfollow(order_id)
        elif asked["type"] == "subscribe":
            self._before[frame["requestId"]] = self.told.get(order_id)
            if "afterSeq" in asked or not self._follows(order_id):
                self._follow(order_id, asked.get("afterSeq", 0))

    def _all(self, subscribed: bool) -> None:
        if subscribed and self.all_since is not None:
            return  # it goes on
        self.all_since = self._world.now() if subscribed else None
        self.told = {order_id: told for order_id, told in self.told.items() if told.followed}

    def _follows(self, order_id: str) -> bool:
        told = self.told.get(order_id)
        return told is not None and told.followed

    def _follow(self, order_id: str, after: int) -> None:
        stored = self._rows.orders[order_id]
        is_over = stored.has_ended and stored.seq <= after
        self.told[order_id] = Told(after + 1, 0, followed=not is_over, ahead=after > stored.seq)
        self._must_close |= is_over and order_id == self._close_after

    def _unfollow(self, order_id: str) -> None:
        told = self.told.get(order_id)
        if self.all_since is None or (told is not None and told.ahead):
            self.told.pop(order_id, None)
        elif order_id in self.told:
            self.told[order_id] = replace(self.told[order_id], followed=False)

    def _refused(self, frame: dict[str, Any]) -> None:
        request_id = frame.get("inReplyTo", "")
        asked = self._asked.get(request_id, {})
        if self._placing and frame["status"] == 429:
            text = f"{self.name} was refused an order that is placed"
            self._world.violate(text, self.name)
        self._placing &= asked.get("type") != "order.submit"
        self._answered += request_id not in self._before
        self._tell(f"hears error {frame['code']} to {request_id}", asked.get("orderId", ""))
        if frame["status"] == 401 and self._world.now() >= self._revoked_at():
            self._farewell = frame["type"]
        elif frame["code"] == "LEFT_BEHIND":
            self._farewell = frame["code"]
        elif frame["status"] not in EXPECTED_REFUSALS:
            self._world.violate(f"{self.name} was refused: {frame}", self.name)
        if request_id in self._before:  # it goes on as before
            self._must_close = False
            before = self._before[request_id]
            if before is None:
                del self.told[asked["orderId"]]
            else:
                self.told[asked["orderId"]] = before

    def _event(self, frame: dict[str, Any]) -> None:
        order_id, seq, status = frame["orderId"], frame["seq"], frame["status"]
        self._tell(f"hears {seq} {status}", order_id)
        if frame != self._rows.orders[order_id].events[seq - 1].frame(replayed=frame["replayed"]):
            self._world.violate(f"{self.name} heard {frame}", self.name, order_id)
        followed = self._follows(order_id)
        told = self.told.get(order_id)
        if told is None or (seq > told.next and self._may_begin(told, order_id, seq)):
            told = Told(seq, seq, followed=False)
        if seq != told.next:
            self._world.violate(f"{self.name} heard {seq}, not {told.next}", self.name, order_id)
        elif not followed and self.all_since is None:
            self._world.violate(
                f"{self.name} heard {seq}, and follows nothing", self.name, order_id
            )
        over = status in TERMINAL
        self.told[order_id] = Told(seq + 1, told.first, followed=followed and not over)
        self._must_close |= over and followed and order_id == self._close_after

    def _may_begin(self, told: Told, order_id: str, seq: int) -> bool:
        """Of an order that was followed by itself, and is not any more: what `scope: all` leaves
        out then was before its beginning."""
        if told.followed or told.first or self.all_since is None:
            return False
        left_out = self._rows.orders[order_id].events[told.next - 1 : seq - 1]
        return all(event.created_at < moment(self.all_since) for event in left_out)

    # At the end --------------------------------------------------------------------------------

    def followed(self) -> dict[str, int]:
        """The orders that another socket would go on with, and `afterSeq`."""
        return {order_id: told.next - 1 for order_id, told in self.told.items() if told.followed}

    def settle(self) -> None:
        """In quiet, everything must have been told."""
        self._check_key()
        for stored in self._rows.of(self.owner_id):
            if self._is_owed(stored):
                told = self.told.get(stored.order_id)
                text = f"{self.name} has heard {told} of {stored.seq} events"
                self._world.violate(text, self.name, stored.order_id)
        if self._must_close or (self._follows(self._close_after) and self._is_over()):
            self._world.violate(f"{self.name} was not closed", self.name, self._close_after)

    def _is_owed(self, stored: Stored) -> bool:
        """What happens after an event that is to be heard is to be heard as well, whatever time it
        has."""
        told = self.told.get(stored.order_id)
        if told is not None and told.followed:
            return told.next <= stored.seq
        if self.all_since is None:
            return False
        since = moment(self.all_since)
        first = next((event.seq for event in stored.events if event.created_at >= since), None)
        if first is None:
            return False
        return told is None or told.first > first or told.next <= stored.seq
