"""Clients that place orders and follow each on three sockets, and keep what they were told.

Sockets on `scope: all`, one at each web process, must hear the same.
"""

import asyncio
import itertools
import json
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

BODY = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5", "slippage": 0.01}
PATH = "/api/orders/execute"
BATCH, BATCH_SIZE = "/api/orders/batch", 100
TERMINAL = {"confirmed", "failed", "cancelled", "expired"}
REPEATED = 0.05  # of the orders are posted several times at once under one client order id
COPIES = 5
PATIENCE_SECONDS = 120.0
OVERHEARD_SECONDS = 5.0  # after the last order's end
SOCKET: dict[str, Any] = {
    "proxy": None,
    "open_timeout": 20,
    "close_timeout": 1,
    "ping_interval": None,  # the server pings
}
NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=40)


@dataclass(frozen=True)
class Answer:
    """One POST: when it was sent, how long it took, its status (0: no answer)."""

    at: float
    seconds: float
    status: int


@dataclass
class Heard:
    """What one socket, over all its reconnections, was told of its order."""

    order_id: str
    statuses: list[str] = field(default_factory=list)
    lags: list[tuple[float, float]] = field(default_factory=list)  # (event at, seconds to us)
    connections: int = 0
    done: bool = False

    @property
    def last(self) -> int:
        return len(self.statuses)


@dataclass
class Overheard:
    """What one connection on `scope: all` was told, from its subscription until it was lost."""

    since: float
    lost: bool = False
    seqs: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def told(self, order_id: str, placed: float, last: int) -> bool:
        """Each event since its subscription, once and in order, of so many that there are."""
        seqs = self.seqs[order_id]
        first = 1 if placed > self.since else next(iter(seqs), last + 1)
        until = max(seqs, default=0) if self.lost else last
        return seqs == list(range(first, until + 1))


class Clients:
    """Places and follows orders at any of the `urls`; `violations` is what must not have been."""

    def __init__(self, urls: Sequence[str], seed: str, *, name: str) -> None:
        self.urls = urls
        self.rng = random.Random(f"{seed} {name}")
        self.name = name
        self.answers: list[Answer] = []
        self.order_ids: dict[str, str] = {}  # by client order id
        self.placed: dict[str, float] = {}  # when an order was posted first
        self.heard: list[Heard] = []
        self.overheard: list[Overheard] = []
        self.events: dict[str, int] = {}  # how many there are, of orders that no socket follows
        self.violations: list[str] = []
        self.heard_at = 0.0  # the last frame of any, of time.monotonic()
        self._numbers = itertools.count(1)
        self._turn = itertools.cycle(urls)
        self._following: set[asyncio.Task[None]] = set()
        self._overhearing: list[asyncio.Task[None]] = []
        self._http = httpx.AsyncClient(trust_env=False, timeout=10, limits=NO_LIMITS)

    def use(self, urls: Sequence[str]) -> None:
        """These only, from the next connection on."""
        self._turn = itertools.cycle(urls)

    async def close(self) -> None:
        for task in (*self._following, *self._overhearing):
            task.cancel()
        await self._http.aclose()

    # Placing ------------------------------------------------------------------------------------

    async def steadily(self, rate: float, *, burst: int = 5, every: float = 10.0) -> None:
        """`rate` orders a second, and `burst` at once `every` so many seconds; until cancelled."""
        placing: set[asyncio.Task[str]] = set()
        next_burst = time.monotonic() + every / 2
        while True:
            count = 1
            if burst and time.monotonic() >= next_burst:
                count, next_burst = burst, next_burst + every
            for _ in range(count):
                task = asyncio.create_task(self.place())
                placing.add(task)
                task.add_done_callback(placing.discard)
            await asyncio.sleep(self.rng.expovariate(rate) if rate else 0.2)

    async def place_all(self, count: int, *, rate: float, kind: str = "") -> list[str]:
        """Ids of `count` orders, placed at `rate` a second."""
        placing = []
        for _ in range(count):
            placing.append(asyncio.create_task(self.place(kind)))
            await asyncio.sleep(1 / rate)
        return list(await asyncio.gather(*placing))

    async def place(self, kind: str = "") -> str:
        """Post until it is answered with 201, follow it on three sockets, return its id."""
        prefix = f"{kind}." if kind else ""
        client_order_id = f"{prefix}{self.name}.{next(self._numbers)}"
        copies = COPIES if not kind and self.rng.random() < REPEATED else 1
        begun = time.time()
        posts = [self.post_until_stored(client_order_id) for _ in range(copies)]
        answers = set(await asyncio.gather(*posts))
        if len(answers) != 1:
            self.violations.append(f"{client_order_id}: {copies} posts made {len(answers)} orders")
        order_id = answers.pop()
        self.order_ids[client_order_id] = order_id
        self.placed[order_id] = begun
        self.follow(order_id)
        return order_id

    async def post_until_stored(self, client_order_id: str) -> str:
        deadline = time.monotonic() + PATIENCE_SECONDS
        body = {**BODY, "clientOrderId": client_order_id}
        while time.monotonic() < deadline:
            at, begun = time.time(), time.monotonic()
            try:
                answer = await self._http.post(next(self._turn) + PATH, json=body)
            except httpx.HTTPError:
                status = 0
            else:
                status = answer.status_code
            self.answers.append(Answer(at, time.monotonic() - begun, status))
            if status == 201:
                return str(answer.json()["orderId"])
            if status not in {0, 503}:
                self.violations.append(f"{client_order_id}: POST answered {status}: {answer.text}")
                break
            await asyncio.sleep(0.2)
        self.violations.append(f"{client_order_id}: not stored in {PATIENCE_SECONDS:.0f} s")
        return ""

    async def place_crowd(self, count: int, deadline: float) -> list[str]:
        """Ids of `count` orders, placed in batches as fast as the engine takes them.

        No socket follows them: they are for those that hear all.
        """
        until = datetime.fromtimestamp(deadline, UTC).isoformat(timespec="milliseconds")
        names = [f"crowd.{self.name}.{next(self._numbers)}" for _ in range(count)]
        batches = [names[at : at + BATCH_SIZE] for at in range(0, count, BATCH_SIZE)]
        begun = time.time()
        for answers in await asyncio.gather(*(self.post_batch(batch, until) for batch in batches)):
            self.order_ids.update(answers)
            self.placed.update(dict.fromkeys(answers.values(), begun))
        return [self.order_ids[name] for name in names if name in self.order_ids]

    async def post_batch(self, names: list[str], deadline: str) -> dict[str, str]:
        """Order ids by client order id."""
        orders = [{**BODY, "clientOrderId": name, "deadline": deadline} for name in names]
        answer = await self._http.post(next(self._turn) + BATCH, json={"orders": orders})
        if answer.status_code != 201:
            self.violations.append(f"a batch was answered {answer.status_code}: {answer.text}")
            return {}
        results = answer.json()["results"]
        return {name: each["orderId"] for name, each in zip(names, results, strict=True)}

    # Following ----------------------------------------------------------------------------------

    def follow(self, order_id: str) -> None:
        """From the start; late; and from the start, dropping and resuming at random."""
        for delay, drops in ((0.0, 0.0), (self.rng.uniform(0.5, 4), 0.0), (0.0, 0.5)):
            heard = Heard(order_id)
            self.heard.append(heard)
            task = asyncio.create_task(self.hear(heard, delay, drops))
            self._following.add(task)
            task.add_done_callback(self._following.discard)

    async def hear(self, heard: Heard, delay: float, drops: float) -> None:
        await asyncio.sleep(delay)
        while not heard.done:
            url = f"{next(self._turn).replace('http', 'ws', 1)}{PATH}"
            address = f"{url}?orderId={heard.order_id}&afterSeq={heard.last}"
            try:
                async with connect(address, **SOCKET) as socket:
                    heard.connections += 1
                    await self.listen(socket, heard, drops)
            except (OSError, WebSocketException, TimeoutError):
                pass  # killed or stopped under us: come back
            await asyncio.sleep(self.rng.uniform(0.05, 0.3))

    async def listen(self, socket: ClientConnection, heard: Heard, drops: float) -> None:
        """Until the last event, the loss of the socket, or a drop on purpose."""
        async for message in socket:
            frame = json.loads(message)
            if frame["type"] == "error":
                if frame["status"] < 500:
                    self.violations.append(f"{heard.order_id}: refused with {frame['code']}")
                return
            if frame["type"] != "order.status":
                continue
            self.note(heard, frame)
            if heard.done or self.rng.random() < drops:
                return

    def note(self, heard: Heard, frame: dict[str, Any]) -> None:
        self.heard_at = time.monotonic()
        if frame["seq"] != heard.last + 1:
            self.violations.append(
                f"{heard.order_id}: seq {frame['seq']} came after {heard.last} on a socket"
            )
        heard.statuses.append(frame["status"])
        heard.done = frame["status"] in TERMINAL
        if not frame["replayed"] or heard.connections > 1:
            happened = moment(frame["timestamp"])
            heard.lags.append((happened, time.time() - happened))

    async def overhear(self) -> None:
        """Subscribe to all orders at each url, for as long as these clients live."""
        self._overhearing = [asyncio.create_task(self.hear_all(url)) for url in self.urls]
        async with asyncio.timeout(20):
            while len(self.overheard) < len(self.urls):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def hear_all(self, url: str) -> None:
        while True:
            try:
                async with connect(url.replace("http", "ws", 1) + PATH, **SOCKET) as socket:
                    await socket.send('{"type":"subscribe","scope":"all"}')
                    await self.listen_to_all(socket)
            except (OSError, WebSocketException, TimeoutError):
                pass
            await asyncio.sleep(self.rng.uniform(0.05, 0.3))

    async def listen_to_all(self, socket: ClientConnection) -> None:
        overheard = Overheard(float("inf"))
        try:
            async for message in socket:
                frame = json.loads(message)
                if frame["type"] == "ack":
                    overheard.since = time.time()
                    self.overheard.append(overheard)
                elif frame["type"] == "order.status":
                    overheard.seqs[frame["orderId"]].append(frame["seq"])
        finally:
            overheard.lost = True

    def not_overheard(self) -> list[str]:
        """What differs on `scope: all` from `events` and what was heard of orders one by one."""
        last = dict(self.events)
        for heard in self.heard:
            last[heard.order_id] = max(heard.last, last.get(heard.order_id, 0))
        return [
            f"{order_id}: scope: all told of {overheard.seqs[order_id]}, and there are {seq} events"
            for overheard in self.overheard
            for order_id, seq in last.items()
            if not overheard.told(order_id, self.placed[order_id], seq)
        ]

    async def ended(self, order_ids: list[str], seconds: float) -> None:
        """Until every socket has heard the end of these orders. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not all(h.done for h in self.heard if h.order_id in order_ids):  # noqa: ASYNC110
                await asyncio.sleep(0.2)

    async def settle(self, seconds: float) -> None:
        """Until every socket has heard the end of its order, or none has heard a thing for so long.

        A fault leaves a queue behind: what is at its end waits for a place.
        """
        self.heard_at = time.monotonic()
        while self._following and time.monotonic() < self.heard_at + seconds:
            await asyncio.wait(self._following, timeout=0.5)
        for heard in self.heard:
            if not heard.done:
                self.violations.append(
                    f"{heard.order_id}: a socket heard nothing after seq {heard.last} "
                    f"({', '.join(heard.statuses[-1:])}) for {seconds:.0f} s"
                )
        late = time.monotonic() + OVERHEARD_SECONDS
        while self.not_overheard() and time.monotonic() < late:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        self.violations += self.not_overheard()


def moment(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
