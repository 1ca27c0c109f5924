"""PostgreSQL and Redis of the simulated stream: slow, away, and forgetful as its weather has it."""

import asyncio
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

import psycopg
import redis

from orders import queries
from orders.events import EPOCH, Doorbell, Event
from orders.models import TERMINAL, Status
from orders.problems import not_authenticated

BUSY_SECONDS = 20.0  # in which orders are placed and clients do something
# A statement that waits longer, for the lock of an order or for anything, is ended.
STATEMENT_SECONDS = 2.0
PUBLISHERS = 3  # processes that ring

Row = dict[str, Any]


@dataclass(frozen=True)
class Weather:
    """What goes wrong: shares of all, mean seconds, and (from, to) in seconds of the run."""

    lost: float = 0
    doubled: float = 0
    late: float = 0
    ringing: float = 0.002
    reading: float = 0.002
    inbox_size: int = 1000
    most_behind: int = 5000
    most_followed: int = 1000
    unread: float = 0
    slow_commits: float = 0
    slow_clients: float = 0
    redis_away: tuple[float, float] = (0, 0)
    database_away: tuple[float, float] = (0, 0)

    @classmethod
    def drawn(cls, draw: Random) -> "Weather":
        def away() -> tuple[float, float]:
            begins = draw.uniform(0, BUSY_SECONDS)
            return (begins, begins + draw.choice([0, 0, 1, 4]))

        inbox_size = draw.choice([0, 2, 1000, 1000, 1000])
        return cls(
            lost=draw.choice([0, 0.2, 0.5, 0.8, 1]),
            doubled=draw.choice([0, 0.3]),
            late=draw.choice([0, 0.3, 0.7]),
            ringing=draw.choice([0.002, 0.05, 0.3]),
            reading=draw.choice([0.002, 0.02, 0.1, 0.5]),
            inbox_size=inbox_size,
            most_behind=inbox_size + draw.choice([2, 5000, 5000]),
            most_followed=draw.choice([2, 1000, 1000]),
            unread=draw.choice([0, 0, 0, 0.1] if inbox_size == 1000 else [0.1, 0.3]),
            slow_commits=draw.choice([0, 0.1, 0.5]),
            slow_clients=draw.choice([0, 0, 0.2]),
            redis_away=away(),
            database_away=away(),
        )


@dataclass
class World:
    """What all that is simulated shares. `tell` adds to the story of an order or a socket, and
    `violate` a broken promise."""

    draw: Random
    weather: Weather
    now: Callable[[], float]
    tell: Callable[..., None]
    violate: Callable[..., None]
    quiet_since: float = math.inf

    def happens(self, share: float) -> bool:
        return self.draw.random() < share

    def is_away(self, period: tuple[float, float]) -> bool:
        return period[0] <= self.now() < period[1]

    def delay(self, mean: float) -> float:
        return self.draw.expovariate(1 / mean)


class Redis:
    """What processes publish, and web processes hear of it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._layers: list[Layer] = []
        self._doorbells: list[Doorbell] = []

    def layer(self) -> "Layer":
        """In place of hub.channel_layer: of one more web process."""
        self._layers.append(Layer(self._world))
        return self._layers[-1]

    def ring(self, event: Event) -> None:
        """Each event of an order may be another process's."""
        if not self._doorbells:
            self._doorbells = [Doorbell() for _ in range(PUBLISHERS)]
        self._world.draw.choice(self._doorbells).ring(event)

    async def call(self, connection: Any, *command: Any) -> None:
        """In place of events.call. What a doorbell is rung for meanwhile goes together."""
        await answer_of_redis(self._world)
        messages = command[3:]  # after EVAL, the script and the number of keys
        for group, content in zip(messages[::2], messages[1::2], strict=True):
            for layer in self._layers:
                self._publish(layer, group, content)

    def _publish(self, layer: "Layer", group: str, content: dict[str, Any]) -> None:
        world, weather = self._world, self._world.weather
        if world.happens(weather.lost):
            return
        for _ in range(1 + world.happens(weather.doubled)):
            late = world.draw.uniform(0, 4) if world.happens(weather.late) else 0
            seconds = world.delay(weather.ringing) + late
            asyncio.get_running_loop().call_later(seconds, layer.deliver, group, content)


class Layer:
    """A channel layer of one channel, as channels_redis.pubsub is one: it knows a group before
    Redis does, and forgets it first."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._groups: set[str] = set()
        self.subscribed: set[str] = set()
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def deliver(self, group: str, content: dict[str, Any]) -> None:
        if group in self._groups and group in self.subscribed and not redis_is_away(self._world):
            for frame in content["frames"]:
                self._world.tell(f"bell {frame['seq']} at {group}", frame["orderId"])
            self._messages.put_nowait(content)

    async def new_channel(self) -> str:
        await answer_of_redis(self._world)
        return "channel"

    async def receive(self, channel: str) -> dict[str, Any]:
        return await self._messages.get()

    async def group_add(self, name: str, channel: str) -> None:
        self._groups.add(name)
        if name not in self.subscribed:
            await answer_of_redis(self._world)
            self.subscribed.add(name)

    async def group_discard(self, name: str, channel: str) -> None:
        if name in self._groups:
            self._groups.remove(name)
            await answer_of_redis(self._world)
            self.subscribed.remove(name)


async def answer_of_redis(world: World) -> None:
    await asyncio.sleep(world.delay(world.weather.ringing))
    if redis_is_away(world):
        await asyncio.sleep(world.draw.choice([0, 5]))
        raise redis.ConnectionError("away")


def redis_is_away(world: World) -> bool:
    return world.is_away(world.weather.redis_away)


@dataclass(eq=False)
class Stored:
    """An order, as far as it is committed."""

    order_id: str
    owner_id: int | None
    events: list[Event] = field(default_factory=list)
    placed_at: float = 0.0
    is_locked: bool = False

    @property
    def seq(self) -> int:
        return len(self.events)

    @property
    def status(self) -> Status:
        return Status(self.events[-1].status)

    @property
    def has_ended(self) -> bool:
        return self.status in TERMINAL


class Rows:
    """What is committed, and the answers to the statements of queries.py."""

    def __init__(self, world: World, ring: Callable[[Event], None]) -> None:
        self._world = world
        self._ring = ring
        self.orders: dict[str, Stored] = {}
        self.revoked: dict[int | None, float] = {}  # since when an owner's key is good no more
        self._writing: list[float] = []  # when those began that a role is shown
        self._numbers = itertools.count()
        self._clock = 0.0  # of the thread that makes a call
        self._answers: dict[str, Callable[..., Iterator[Row]]] = {
            queries.EVENTS: self._events,
            queries.EVENTS_SINCE: self._events_since,
            queries.MOVED: self._moved,
            queries.WRITING: self._oldest_writing,
            queries.SEQS: self._seqs,
        }

    def of(self, owner_id: int | None) -> list[Stored]:
        return [stored for stored in self.orders.values() if stored.owner_id == owner_id]

    # Who writes --------------------------------------------------------------------------------

    async def place(self, owner_id: int | None) -> Stored:
        stored = Stored(f"ord_1700000000000_{next(self._numbers):010d}", owner_id)
        await self.move(stored, Status.PENDING)
        return stored

    async def move(self, stored: Stored, status: Status) -> None:
        """It has the time of its transaction's beginning, which may have waited for the order's
        lock since before the event before it; its COMMIT takes as long as a standby does."""
        now, draw = self._world.now(), self._world.draw
        waited = draw.choice([0, 0, 0, 0, draw.uniform(0, STATEMENT_SECONDS)])
        began = max(now - waited, stored.placed_at) if stored.events else now
        is_shown = self._world.happens(0.8)
        with self._transaction(stored, began, is_shown=is_shown):
            if self._world.happens(self._world.weather.slow_commits):
                await asyncio.sleep(draw.uniform(0, 10 if is_shown else 1.5))
            self.commit(stored, status, began)

    @contextmanager
    def _transaction(self, stored: Stored, began: float, *, is_shown: bool) -> Iterator[None]:
        shown = [began] * is_shown
        self._writing += shown
        stored.is_locked = True
        try:
            yield
        finally:
            stored.is_locked = False
            for one in shown:
                self._writing.remove(one)

    def commit(self, stored: Stored, status: Status, began: float) -> None:
        event = Event(
            order_id=stored.order_id,
            owner_id=stored.owner_id,
            seq=stored.seq + 1,
            status=status,
            previous_status=stored.status if stored.events else "",
            attempt=1,
            created_at=moment(began),
            data={},
        )
        stored.placed_at = stored.placed_at or self._world.now()
        stored.events.append(event)
        self.orders[stored.order_id] = stored
        self._world.tell(f"{event.seq} {status} committed, begun {began:.3f}", event.order_id)
        self._ring(event)

    # Who reads ---------------------------------------------------------------------------------

    async def in_thread(self, call: Callable[[], Any]) -> Any:
        """Its one statement sees the rows between two delays; time.monotonic() goes with them."""
        asked = self._world.now()
        await self.pause()
        self._clock = asked
        try:
            return call()
        finally:
            await asyncio.sleep(max(0, self._clock - self._world.now()))

    def monotonic(self) -> float:
        return self._clock

    def answer(self, sql: str, params: dict[str, Any]) -> list[Row]:
        """In place of database.rows."""
        self._clock = self._world.now() + self._delay()
        self.require()
        return list(self._answers[sql](**params))

    def read_key(self, owner_id: int | None) -> None:
        self._clock = self._world.now() + self._delay()
        self.require()
        self.check_key(owner_id)

    def check_key(self, owner_id: int | None, trusted: float = 0) -> None:
        """Raises Problem where it was revoked longer ago than it is trusted."""
        if self._world.now() >= self.revoked.get(owner_id, math.inf) + trusted:
            raise not_authenticated("revoked")

    async def pause(self) -> None:
        await asyncio.sleep(self._delay())

    def require(self) -> None:
        """Raises psycopg.OperationalError where the database does not answer."""
        weather = self._world.weather
        if self._world.happens(weather.unread) or self._world.is_away(weather.database_away):
            raise psycopg.OperationalError("away")

    def _delay(self) -> float:
        return min(self._world.delay(self._world.weather.reading), STATEMENT_SECONDS)

    def _events(self, order_id: str, owner_id: int | None, after: int) -> Iterator[Row]:
        stored = self.orders[order_id]
        if stored.owner_id == owner_id:
            yield from (event._asdict() for event in stored.events[after:])

    def _events_since(self, ids: list[str], after: list[int]) -> Iterator[Row]:
        now = moment(self._world.now())
        for order_id, seq in zip(ids, after, strict=True):
            for event in self.orders[order_id].events[seq:]:
                yield {**event._asdict(), "age": (now - event.created_at).total_seconds()}

    def _moved(self, owners: list[int], seconds: float) -> Iterator[Row]:
        since = moment(self._world.now() - seconds)
        for stored in self.orders.values():
            if (stored.owner_id or 0) in owners and stored.events[-1].created_at >= since:
                yield {"owner_id": stored.owner_id, "id": stored.order_id, "seq": stored.seq}

    def _oldest_writing(self, most: float) -> Iterator[Row]:
        ages = [min(self._world.now() - began, most) for began in self._writing]
        yield {"seconds": max(ages, default=0.0)}

    def _seqs(self, ids: list[str]) -> Iterator[Row]:
        yield from ({"id": order_id, "seq": self.orders[order_id].seq} for order_id in ids)


def moment(seconds: float) -> datetime:
    """Of the loop's clock, as the rows have it."""
    return EPOCH + timedelta(seconds=seconds)
