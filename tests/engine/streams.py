"""One run of the simulated stream: hubs and sockets as they are, and all that they meet drawn.

The seed says when events are committed and which time they have, what a reading answers and when,
which doorbells come, and what clients do. There is no thread and no real time.
"""

import asyncio
import itertools
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from orders import (
    bells,
    connecting,
    consumers,
    events,
    hub,
    intake,
    keys,
    lookups,
    presence,
    problems,
    queries,
)
from orders.keys import TRUST_SECONDS, Caller
from orders.models import TERMINAL, TRANSITIONS, Order, Status
from orders.placement import Placed
from orders.problems import Problem
from orders.queries import Found
from tests.engine.stream_servers import (
    BUSY_SECONDS,
    Redis,
    Rows,
    Stored,
    Weather,
    World,
)
from tests.engine.stream_sockets import HEARTBEAT_SECONDS, REVOKED, SERVING, Server, Socket
from tests.engine.virtual import VirtualLoop

CALM_SECONDS = 12.0  # in which everything must have been told
QUIET_SECONDS = 2.0
NEVER = 1e6
KEYS = (7, 8)
OWNERS = (None, *KEYS)  # nobody has no key
MOST_EVENTS = 8
# What clients do, and how often; each does some of it.
ACTIONS = {
    "subscribe": 4,
    "unsubscribe": 3,
    "submit": 1,
    "follow": 2,
    "resume": 2,
    "unfollow": 2,
    "cancel": 1,
    "leave": 0.3,
    "be killed": 0.3,
}
ONE_ORDER = {"follow": "subscribe", "unfollow": "unsubscribe", "cancel": "order.cancel"}
# What the hub and the sockets may meet and log; anything else is a fault of theirs.
EXPECTED_ERRORS = ("OperationalError", "ConnectionError", "TimeoutError")


class Simulation:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.draw = Random(seed)
        self.violations: list[tuple[str, tuple[str, ...]]] = []
        self._story: list[tuple[str, tuple[str, ...]]] = []
        self._servers: list[Server] = []
        self._stopped: list[Server] = []
        self._names = itertools.count(1)
        self._sockets: list[Socket] = []
        self._lives: list[asyncio.Task[None]] = []
        self._loop = VirtualLoop()
        self.world = World(
            self.draw, Weather.drawn(self.draw), self._loop.time, self._tell, self._violate
        )
        self.redis = Redis(self.world)
        self.rows = Rows(self.world, self.redis.ring)
        self._loop.in_thread = self.rows.in_thread

    def run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._loop.set_exception_handler(lambda _, context: self._violate(str(context)))
        try:
            with monkeypatch.context() as patched:
                self._install(patched)
                self._loop.run_until_complete(self._play(patched))
        finally:
            self._loop.close()

    def report(self) -> str:
        """The first violation, and what had to do with it."""
        text, about = self.violations[0]
        told = [line for line, of in self._story if not of or set(of) <= {*about, ""}]
        return "\n".join([f"seed {self.seed}: {text}", *told])

    def _violate(self, text: str, *about: str) -> None:
        self._tell(f"VIOLATION: {text}", *about)
        self.violations.append((text, about))

    def _tell(self, text: str, *about: str) -> None:
        self._story.append((f"{self._loop.time():8.3f} {text}", about))

    # What the engine asks ----------------------------------------------------------------------

    def _install(self, patched: pytest.MonkeyPatch) -> None:
        numbers = itertools.count()

        class Inbox(bells.Inbox):
            """A set of them has the same order in each run."""

            def __init__(self) -> None:
                super().__init__()
                self._number = next(numbers)

            def __hash__(self) -> int:
                return self._number

        async def nothing() -> None: ...

        log = SimpleNamespace(debug=self._log, warning=self._log, error=self._log)
        for module in (events, hub, consumers, problems):
            patched.setattr(module, "log", log)
        patched.setattr(consumers, "Inbox", Inbox)
        patched.setattr(consumers, "HEARTBEAT_SECONDS", HEARTBEAT_SECONDS)
        patched.setattr(consumers, "hub", lambda: SERVING.get().server.hub)
        patched.setattr(consumers, "MAX_FOLLOWED", self.world.weather.most_followed)
        patched.setattr(bells, "INBOX_SIZE", self.world.weather.inbox_size)
        patched.setattr(bells, "MOST_BEHIND", self.world.weather.most_behind)
        patched.setattr(hub, "READ_TOGETHER", self.draw.choice([1, 2, 200]))
        patched.setattr(hub, "RUNG_TOGETHER", self.draw.choice([1, 50]))
        patched.setattr(hub, "channel_layer", self.redis.layer)
        patched.setattr(hub, "random", self.draw)
        patched.setattr(events, "open_connection", lambda: None)
        patched.setattr(events, "message", lambda group, content: (group, content))
        patched.setattr(events, "call", self.redis.call)
        patched.setattr(events, "TOGETHER", self.draw.choice([2, 100]))
        patched.setattr(queries, "time", SimpleNamespace(monotonic=self.rows.monotonic))
        patched.setattr(queries, "database", SimpleNamespace(rows=self.rows.answer))
        patched.setattr(lookups, "read", self._look_up)
        patched.setattr(connecting, "authenticate", self._authenticate)
        patched.setattr(keys, "check_still_good", self._check_still_good)
        patched.setattr(intake, "place", self._place)
        patched.setattr(intake, "withdraw", self._withdraw)
        patched.setattr(presence, "report", lambda: None)
        for name in ("channels.consumer", "channels.generic.websocket"):
            patched.setattr(f"{name}.aclose_old_connections", nothing)

    def _log(self, event: str, error: str = "", **fields: Any) -> None:
        self._tell(f"log: {event} {error} {fields}")
        if not any(name in error for name in EXPECTED_ERRORS) and event != "database.away":
            self._violate(f"{event} {error} {fields}")

    async def _authenticate(self, scope: dict[str, Any]) -> Caller:
        """A web process may trust a key for as long as it may a socket's."""
        await self.rows.pause()
        self.rows.check_key(scope["owner_id"], TRUST_SECONDS)
        SERVING.get().checked_at = self._loop.time()
        return Caller(scope["owner_id"])

    def _check_still_good(self, caller: Caller) -> None:
        self.rows.read_key(caller.owner_id)
        socket = SERVING.get()
        socket.checked_at = max(socket.checked_at, self.rows.monotonic())

    async def _look_up(self, wanted: list[lookups.Wanted]) -> list[Found | None]:
        await self.rows.pause()
        self.rows.require()
        orders = [self.rows.orders[one.order_id] for one in wanted]
        found = [Order(id=one.order_id, status=one.status, seq=one.seq) for one in orders]
        await self.rows.pause()
        return [Found(order, []) for order in found]

    async def _place(self, body: Any, owner_id: int | None, pointer: str) -> Placed:
        SERVING.get().places()
        await self.rows.pause()
        self.rows.require()
        placing = asyncio.create_task(self._placed(owner_id))  # it is not taken back
        moment = self._loop.time() + intake.PLACE_SECONDS
        stored = await intake.before(moment, asyncio.shield(placing))
        await self.rows.pause()
        self.rows.require()
        return Placed(stored.order_id, stored.events[0].created_at)

    async def _placed(self, owner_id: int | None) -> Stored:
        stored = await self.rows.place(owner_id)
        self._lives.append(asyncio.create_task(self._live(stored)))
        return stored

    def _withdraw(self, order: Order) -> None:
        stored = self.rows.orders[order.id]
        if stored.is_locked or stored.status != Status.PENDING:
            raise Problem(status=409, code="NOT_CANCELLABLE", detail="has left pending")
        self.rows.commit(stored, Status.CANCELLED, self._loop.time())

    # What happens ------------------------------------------------------------------------------

    async def _play(self, patched: pytest.MonkeyPatch) -> None:
        self._tell(repr(self.world.weather))
        self._servers = [Server(hub.Hub()) for _ in range(self.draw.choice([1, 2]))]
        self._lives += [asyncio.create_task(self._placed_later()) for _ in range(10)]
        if self.world.happens(0.3):
            self.rows.revoked[self.draw.choice(KEYS)] = self.draw.uniform(0, 2 * BUSY_SECONDS)
        await asyncio.gather(self._stop_servers(), *(self._client() for _ in range(4)))
        await self._all_end()
        self.world.weather = Weather()
        self._tell("calm")
        await asyncio.sleep(CALM_SECONDS)  # what clients have asked for and was not looked at
        await self._all_end()
        self.world.quiet_since = self._loop.time()
        await asyncio.sleep(CALM_SECONDS)
        self._settle()
        patched.setattr(hub, "POLL_SECONDS", NEVER)
        await self._ring_through()
        self._settle()
        for socket in self._open():
            socket.leave()
        await asyncio.sleep(1)
        for server in (*self._servers, *self._stopped):
            self._check_nothing_is_left(server.hub)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(1)

    def _settle(self) -> None:
        for socket in self._open():
            socket.settle()

    async def _ring_through(self) -> None:
        """In calm, bells alone bring everything: nothing else does after the last poll. Several
        events of several orders go together."""
        await asyncio.sleep(CALM_SECONDS)
        self.world.weather = Weather(ringing=0.05)
        placed = [await self.rows.place(owner_id) for owner_id in OWNERS * 2]
        for socket in self._open():
            for stored in placed:
                if stored.owner_id == socket.owner_id and self.world.happens(0.5):
                    self._ask_of(socket, "follow", stored)
        await asyncio.sleep(QUIET_SECONDS)  # for the hub to join their groups
        self._lives += [asyncio.create_task(self._live(stored, fast=True)) for stored in placed]
        await self._all_end()
        await asyncio.sleep(QUIET_SECONDS)

    async def _all_end(self) -> None:
        for life in self._lives:  # there come more
            await life

    def _check_nothing_is_left(self, ear: hub.Hub) -> None:
        tasks = [task for one in self._sockets for task in (one.serving, *one.consumer.tasks)]
        left = {
            "sockets": presence.here(),
            "groups": list(ear._groups),
            "subscriptions": ear._layer.subscribed,
            "bells": ear._in_order._early,
            "timers": ear._in_order._patience,
            "tasks": [task for task in tasks if not task.done()],
        }
        if any(left.values()):
            self._violate(f"left: {left}")
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                self._violate(f"a task ended with {error!r}")

    async def _stop_servers(self) -> None:
        """Another web process takes its place; who comes to it meanwhile had connected before."""
        for _ in range(self.draw.choice([0, 0, 1, 2])):
            await asyncio.sleep(self.draw.uniform(0, BUSY_SECONDS / 2))
            server = self.draw.choice(self._servers)
            server.stopping = True
            self._stopped.append(server)
            for socket in self._open():
                if socket.server is server:
                    socket.stop()
            await asyncio.sleep(self.draw.uniform(0, 0.5))
            self._servers[self._servers.index(server)] = Server(hub.Hub())

    def _open(self) -> list[Socket]:
        return [socket for socket in self._sockets if socket.code is None]

    async def _placed_later(self) -> None:
        await asyncio.sleep(self.draw.uniform(0, BUSY_SECONDS))
        await self._live(await self.rows.place(self.draw.choice(OWNERS)))

    async def _live(self, stored: Stored, *, fast: bool = False) -> None:
        pace = 0.01 if fast else self.draw.choice([0.01, 0.1, 0.5, 1.0])
        while not stored.has_ended:
            await asyncio.sleep(self.world.delay(pace))
            if not stored.has_ended:  # it may have been cancelled
                await self.rows.move(stored, self._next(stored))

    def _next(self, stored: Stored) -> Status:
        """CANCELLED is its owner's."""
        legal = sorted(TRANSITIONS[stored.status] - {Status.CANCELLED})
        goes_on = [status for status in legal if status not in TERMINAL]
        if stored.seq >= MOST_EVENTS or not goes_on or self.world.happens(0.15):
            return self.draw.choice([status for status in legal if status in TERMINAL])
        return self.draw.choice(goes_on)

    # What a client does ------------------------------------------------------------------------

    async def _client(self) -> None:
        """One socket after another; the last one stays."""
        owner_id, pace = self.draw.choice(OWNERS), self.draw.choice([0.1, 0.3, 1.0])
        likes = {one: often for one, often in ACTIONS.items() if self.world.happens(0.6)}
        await asyncio.sleep(self.draw.uniform(0, BUSY_SECONDS / 2))
        followed: dict[str, int] = {}
        while self._loop.time() < BUSY_SECONDS:
            socket = self._opened(owner_id, by_address="follow" in likes)
            for order_id, after in followed.items():
                socket.ask(type="subscribe", orderId=order_id, afterSeq=after)
            while socket.code is None and self._loop.time() < BUSY_SECONDS:
                if likes and not socket.waits:
                    self._do(socket, *self.draw.choices([*likes], [*likes.values()]))
                await asyncio.sleep(self.world.delay(pace))
            if socket.code == REVOKED:
                break
            followed = socket.followed() if "resume" in likes else {}
            await asyncio.sleep(self.draw.uniform(0, 1))

    def _opened(self, owner_id: int | None, *, by_address: bool) -> Socket:
        orders, follows = self.rows.of(owner_id), None
        if orders and by_address and self.world.happens(0.5):
            stored = self.draw.choice(orders)
            follows = stored.order_id, self.draw.choice([0, self.draw.randint(0, stored.seq + 2)])
        name = f"socket {next(self._names)}"
        server = self.draw.choice(self._servers)
        socket = Socket(
            self.world, self.rows, server=server, name=name, owner_id=owner_id, follows=follows
        )
        self._sockets.append(socket)
        return socket

    def _do(self, socket: Socket, does: str) -> None:
        orders = self.rows.of(socket.owner_id)
        if does in {"subscribe", "unsubscribe"}:
            socket.ask(type=does, scope="all")
        elif does == "submit":
            socket.ask(type="order.submit", order={})
        elif does in {"leave", "be killed"}:
            socket.leave(killed=does == "be killed")
        elif orders:
            self._ask_of(socket, does, self.draw.choice(orders[-3:]))

    def _ask_of(self, socket: Socket, does: str, stored: Stored) -> None:
        if does == "resume":
            after = self.draw.randint(0, stored.seq)
            socket.ask(type="subscribe", orderId=stored.order_id, afterSeq=after)
        else:
            socket.ask(type=ONE_ORDER[does], orderId=stored.order_id)
