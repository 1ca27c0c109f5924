"""Rates, and what an order costs. Each function adds the figures of one run."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from itertools import product

from tests.bench import load
from tests.bench.figures import Figures
from tests.bench.load import BenchError, Load
from tests.bench.stack import Stack, Target
from tests.bench.usage import NAMES

ORDER = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5"}
EXECUTE, BATCH = "/api/orders/execute", "/api/orders/batch"
BATCH_SIZE = 50
CLIENTS = 16  # connections that place the orders of a lifecycle run
MOST_SECONDS = 180.0


@dataclass(frozen=True, kw_only=True)
class Doses:
    """How much of everything."""

    runs: int = 3
    load_seconds: float = 3.0
    lifecycle_seconds: float = 8.0
    hundred_runs: int = 3  # of 28 s each
    socket_runs: int = 3
    delay_seconds: float = 6.0
    followed: int = 100  # orders of a run of sockets, or one for each of them
    events_of_all: int = 10
    sockets: tuple[int, ...] = (1, 100, 1000)
    in_flight: tuple[int, ...] = (10, 100, 1000)
    tables: tuple[int, ...] = (1_000, 100_000, 1_000_000)
    starts: int = 3


FULL = Doses()
QUICK = Doses(
    load_seconds=1.0,
    lifecycle_seconds=2.5,
    hundred_runs=1,
    socket_runs=1,
    delay_seconds=3.0,
    events_of_all=5,
    sockets=(1, 1000),
    in_flight=(100,),
)


async def intake(target: Target, figures: Figures, doses: Doses) -> None:
    """POST of one order at 1, 16 and 64 connections; with a key where the target has one."""
    name = "POST, with a key" if target.key else "POST"
    post = load.request(target.base_url, EXECUTE, ORDER, target.key)
    for connections in (1, 16, 64):
        done = await loaded(target, figures, doses.load_seconds, post, connections, of=name)
        if connections == CLIENTS:
            cost = 1000 * done.client_cpu / len(done.took)
            figures.add(f"{name}: CPU of this client", cost, "ms/order")


async def batches(target: Target, figures: Figures, doses: Doses) -> None:
    post = load.request(target.base_url, BATCH, {"orders": [ORDER] * BATCH_SIZE}, target.key)
    for connections in (1, 4, 16):
        done = await load.run(
            target.base_url, post, connections, load.for_seconds(doses.load_seconds)
        )
        name = f"batch of {BATCH_SIZE}, {connections} at once"
        figures.add(name, BATCH_SIZE * done.per_second, "orders/s")


async def reads(target: Target, figures: Figures, doses: Doses) -> None:
    """GET of one order, and of a list's first page, at 1 and 16 connections."""
    newest = target.get("/api/orders?limit=1")["results"][0]["orderId"]
    paths = {"GET an order": f"/api/orders/{newest}", "GET orders, 50 of them": "/api/orders"}
    for (name, path), connections in product(paths.items(), (1, 16)):
        get = load.request(target.base_url, path, key=target.key)
        await loaded(target, figures, doses.load_seconds / 2, get, connections, of=name)


async def loaded(
    target: Target, figures: Figures, seconds: float, request: bytes, connections: int, *, of: str
) -> Load:
    """The request, again and again: the rate, what an answer took, and what it cost."""
    with Used(target) as used:
        more = load.for_seconds(seconds)
        done = await load.run(target.base_url, request, connections, more)
    each = f"{of}, {connections} at once"
    figures.add(each, done.per_second, "answers/s")
    figures.spread(each, [1000 * took for took in done.took])
    if connections == CLIENTS:
        used.add(figures, of, len(done.took))
    return done


async def lifecycle(target: Target, figures: Figures, orders: int) -> None:
    """From the first POST to the last order's end, intake and execution together."""
    with Used(target) as used:
        begun = time.time()
        await place(target, orders)
        await until_finished(target)
        took = ended(target) - begun
    figures.add("lifecycle with intake, 10 in execution", orders / took, "orders/s")
    used.add(figures, "lifecycle", orders)
    must_be_confirmed(target, figures)


async def drain(stack: Stack, figures: Figures, orders: int) -> None:
    """The same orders, all placed before the worker may take the first."""
    stack.usage.pause("worker")
    try:
        await place(stack, orders)
    finally:
        stack.usage.go_on("worker")
    begun = time.time()
    with Used(stack) as used:
        await until_finished(stack)
    figures.add(
        "lifecycle of orders placed before, 10 in execution",
        orders / (ended(stack) - begun),
        "orders/s",
    )
    used.add(figures, "lifecycle of orders placed before", orders)
    must_be_confirmed(stack, figures)


async def warm(target: Target, orders: int = 100) -> float:
    """Orders/s of a first lifecycle, which nobody counts."""
    begun = time.time()
    await place(target, orders)
    await until_finished(target)
    return orders / (time.time() - begun)


async def hundred(target: Target, figures: Figures) -> None:
    """100 orders at once; ten in execution at 2.2 to 3.2 s each take 27 s."""
    begun = time.time()
    await place(target, 100, connections=100)
    await until_finished(target)
    figures.add("100 orders, default delays", ended(target) - begun, "s")
    must_be_confirmed(target, figures)


async def place(target: Target, orders: int, connections: int = CLIENTS) -> Load:
    post = load.request(target.base_url, EXECUTE, ORDER, target.key)
    return await load.run(target.base_url, post, connections, load.times(orders))


async def place_batches(target: Target, orders: int) -> None:
    """As fast as they come."""
    for size in [100] * (orders // 100) + [orders % 100] * bool(orders % 100):
        post = load.request(target.base_url, BATCH, {"orders": [ORDER] * size}, target.key)
        await load.run(target.base_url, post, 1, load.times(1))


async def until_finished(target: Target) -> None:
    deadline = time.monotonic() + MOST_SECONDS
    every = 0.25 if isinstance(target, Stack) else 0.5
    while left := target.unfinished():
        if time.monotonic() > deadline:
            raise BenchError(f"{left} orders have not ended after {MOST_SECONDS:g} s")
        await asyncio.sleep(every)


def ended(target: Target) -> float:
    """When the last order ended, in seconds since 1970; elsewhere: when that was seen."""
    if not isinstance(target, Stack):
        return time.time()
    last = "SELECT extract(epoch FROM max(completed_at))::float AS at FROM orders_order"
    return float(target.sql(last)[0]["at"])


def must_be_confirmed(target: Target, figures: Figures) -> None:
    """Says how many orders were not, and empties the tables for the next run."""
    if isinstance(target, Stack):
        count = "SELECT count(*) AS n FROM orders_order WHERE status <> 'confirmed'"
        if others := target.sql(count)[0]["n"]:
            figures.note(f"{others} orders of a run were not confirmed")
        target.empty()


class Used:
    """The seconds of processor that each process of a target uses in a block."""

    def __init__(self, target: Target) -> None:
        self.usage = target.usage if isinstance(target, Stack) else None

    def __enter__(self) -> "Used":
        self.seconds = Counter[str]()
        if self.usage is not None:
            self.before = self.usage.cpu()
        return self

    def __exit__(self, *_: object) -> None:
        if self.usage is not None:
            self.seconds = self.usage.cpu()
            self.seconds.subtract(self.before)

    def add(self, figures: Figures, name: str, orders: int) -> None:
        """Of each order, by process; nothing of a target whose processes nobody sees."""
        for process in NAMES:
            if process in self.seconds:
                cost = 1000 * self.seconds[process] / orders
                figures.add(f"{name}: CPU of {process}", cost, "ms/order")
