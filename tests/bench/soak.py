"""The stack under orders, batches, reads and sockets that come and go, for as long as you like.

    python -m tests.bench.soak --minutes 25 --rate 50

Starts a stack of its own whose venues fail now and then, and prints a line a minute. Exits with 1
where an order did not end, a socket missed an event, or a process has grown by more than
MOST_GROWTH_MIB since the first fifth of the time.
"""

import asyncio
import itertools
import json
import math
import shutil
import sys
import tempfile
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from websockets.asyncio.client import connect

from orderengine.management.commands.up import interrupt_on_signals
from tests.bench.holding import PROCESSES
from tests.bench.load import BenchError
from tests.bench.machine import heading
from tests.bench.measures import until_finished
from tests.bench.stack import AT_ONCE, PROFILES, Stack, stack
from tests.faults.clients import BATCH, PATH, SOCKET, TERMINAL
from tests.stacks import ORDER

FAULTS = {"DEX_FAULTS": "raydium.quote_unavailable=0.01,rejected=0.01", "LOG_LEVEL": "warning"}
BATCH_SIZE = 5
MOST_AT_ONCE = 300  # of clients; the pace waits for them
PATIENCE_SECONDS = 60.0
MOST_GROWTH_MIB = 15.0
TOOK = """
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY took) AS p50,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY took) AS p99
FROM (SELECT extract(epoch FROM completed_at - created_at) AS took FROM orders_order
      WHERE completed_at > now() - interval '1 minute') o
"""
console = Console(highlight=False, soft_wrap=True)


class Missed(Exception):
    """What a client was not told, or not as it was promised."""


class Clients:
    """Each kind of client does one thing and leaves."""

    def __init__(self, running: Stack, http: httpx.AsyncClient) -> None:
        self.http = http
        self.socket_url = f"ws{running.base_url[4:]}{PATH}"
        self.placed = 0
        self.wrong: Counter[str] = Counter()
        self.last = ""  # order
        self.kinds: list[Callable[[], Awaitable[None]]] = [
            self.post, self.follow, self.submit, self.batch, self.look_away, self.read,
        ]  # fmt: skip

    async def be(self, kind: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await kind()
        except Exception as error:  # the others go on
            self.wrong[f"{kind.__name__}: {error!r}"[:200]] += 1

    async def post(self) -> str:
        answer = await self.http.post(PATH, json=ORDER)
        answer.raise_for_status()
        self.placed += 1
        self.last = str(answer.json()["orderId"])
        return self.last

    async def follow(self) -> None:
        order_id = await self.post()
        async with connect(f"{self.socket_url}?orderId={order_id}", **SOCKET) as socket:
            await hear_to_the_end(socket, order_id)

    async def submit(self) -> None:
        """With what happens to all orders on the same socket."""
        async with connect(self.socket_url, **SOCKET) as socket:
            await socket.send(json.dumps({"type": "subscribe", "scope": "all"}))
            await socket.send(json.dumps({"type": "order.submit", "order": ORDER}))
            while (frame := json.loads(await socket.recv())).get("action") != "order.submit":
                pass
            self.placed += 1
            await hear_to_the_end(socket, frame["orderId"])

    async def batch(self) -> None:
        answer = await self.http.post(BATCH, json={"orders": [ORDER] * BATCH_SIZE})
        answer.raise_for_status()
        self.placed += BATCH_SIZE

    async def look_away(self) -> None:
        """And hang up without a goodbye."""
        async with connect(self.socket_url, **SOCKET) as socket:
            await socket.send(json.dumps({"type": "subscribe", "scope": "all"}))
            await asyncio.sleep(0.5)
            socket.transport.abort()

    async def read(self) -> None:
        quote = {name: ORDER[name] for name in ("tokenIn", "tokenOut", "amount")}
        for path in ("/api/orders?limit=20", "/api/orders/stats", f"/api/orders/{self.last}"):
            (await self.http.get(path)).raise_for_status()
        (await self.http.post("/api/quotes", json=quote)).raise_for_status()


async def hear_to_the_end(socket: AsyncIterable[str | bytes], order_id: str) -> None:
    """Raises Missed where the order's events are not each of them, once and in order."""
    seqs, status = [], ""
    async for text in socket:
        frame: dict[str, Any] = json.loads(text)
        if frame["type"] == "order.status" and frame["orderId"] == order_id:
            seqs.append(frame["seq"])
            if (status := frame["status"]) in TERMINAL:
                break
    if seqs != list(range(1, len(seqs) + 1)) or status not in TERMINAL:
        raise Missed(f"of {order_id} {seqs} were heard")


async def soak(running: Stack, options: Namespace) -> bool:
    """Whether everything was as promised."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=running.base_url, timeout=30, limits=limits) as http:
        clients = Clients(running, http)
        watching = asyncio.create_task(watch(running, clients, options.minutes))
        await run(clients, options)
        await until_finished(running)
        grown = await watching
    stored = int(running.sql("SELECT count(*) AS n FROM orders_order")[0]["n"])
    lost = max(0, clients.placed - stored)
    for what, times in clients.wrong.most_common(10):
        console.print(f"{times} times {what}")
    for name, mib in grown.items():
        console.print(f"{name} grew by {mib:.0f} MiB since the first fifth of the time")
    console.print(f"{clients.placed:,} orders acknowledged, {lost} lost")
    return not lost and not clients.wrong and max(grown.values()) <= MOST_GROWTH_MIB


async def run(clients: Clients, options: Namespace) -> None:
    """One client after another, at a pace that falls behind where the stack does."""
    kinds = itertools.cycle(clients.kinds)
    await clients.post()
    until, due = time.monotonic() + 60 * options.minutes, time.monotonic()
    running: set[asyncio.Task[None]] = set()
    while due < until:
        if len(running) >= MOST_AT_ONCE:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(clients.be(next(kinds)))
        running.add(task)
        task.add_done_callback(running.discard)
        due = max(due + 1 / options.rate, time.monotonic())
        await asyncio.sleep(due - time.monotonic())
    await asyncio.gather(*running)


async def watch(running: Stack, clients: Clients, minutes: float) -> dict[str, float]:
    """MiB by which each process has grown since the first fifth of the time."""
    every = min(1.0, minutes / 5)
    names = "".join(f"{name:>12}" for name in PROCESSES)
    console.print(f"minute   orders   p50 s   p99 s  {names}")
    for n in range(1, round(minutes / every) + 1):
        await asyncio.sleep(60 * every)
        memory = {name: rss for name, (rss, _) in running.usage.memory().items()}
        took = {name: float(value or 0) for name, value in running.sql(TOOK)[0].items()}
        shown = "".join(f"{memory[name]:8.0f} MiB" for name in PROCESSES)
        times = f"{took['p50']:7.2f} {took['p99']:7.2f}"
        console.print(f"{n * every:6.1f} {clients.placed:8,} {times}  {shown}")
        if n == 1 or n * every <= minutes / 5:
            before = memory
    return {name: memory[name] - before[name] for name in PROCESSES}


def number(text: str) -> float:
    with suppress(ValueError):
        if 0 < (found := float(text)) < math.inf:
            return found
    raise ArgumentTypeError(f"a number above 0 is expected, not {text!r}")


def arguments(argv: list[str]) -> Namespace:
    parser = ArgumentParser(prog="make soak")
    parser.add_argument("--minutes", type=number, default=10.0)
    parser.add_argument("--rate", type=number, default=50.0, help="clients a second")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="default")
    return parser.parse_args(argv)


def main() -> None:
    interrupt_on_signals()
    options = arguments(sys.argv[1:])
    about = heading({})
    made_on = "{cores} cores, {cpu}".format_map(about["machine"])
    console.print(f"{made_on}, commit {about['commit']}")
    home = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        with stack(home, {**AT_ONCE, **FAULTS}, profile=options.profile) as running:
            passed = asyncio.run(soak(running, options))
    except (BenchError, OSError, httpx.HTTPError) as error:
        sys.exit(f"soak: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    sys.exit(not passed)


if __name__ == "__main__":
    main()
