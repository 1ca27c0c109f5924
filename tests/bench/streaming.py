"""How long an event takes to its clients."""

import asyncio
import time
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path

import httpx

from tests.bench import load
from tests.bench.doorbells import Published, noted
from tests.bench.figures import Figures
from tests.bench.load import BenchError
from tests.bench.measures import BATCH, EXECUTE, ORDER, Doses
from tests.bench.sockets import Socket, sockets, until_arrived
from tests.bench.stack import UNLIMITED, Stack, Target

# Sixteen orders a second, ten at a time: 65 events a second, of any number of sockets.
PACED = {**UNLIMITED, "DEX_QUOTE_LATENCY_MS": "100", "DEX_SWAP_LATENCY_MS": "400-600"}
CREATED = """
SELECT order_id, seq, extract(epoch FROM created_at)::float AS at FROM orders_orderevent
"""
BETWEEN_EVENTS_SECONDS = 0.5
MOST_IN_BATCH = 100

Arrivals = list[tuple[tuple[str, int], float, float]]  # the event, its timestamp, its arrival


async def own_orders(
    target: Target, figures: Figures, doses: Doses, count: int, home: Path
) -> None:
    """Each of `count` sockets follows an order of its own; few sockets follow several."""
    name = f"event to client, {count:,} socket{'s' * (count > 1)} with own orders"
    async with sockets(target.base_url, count, target.key) as opened:
        ids: list[str] = []
        while len(ids) < max(count, doses.followed):
            ids += await place_some(target, min(doses.followed, MOST_IN_BATCH))
        for n, order_id in enumerate(ids):
            opened[n % count].send(type="subscribe", orderId=order_id)
        await until_arrived(opened, 2)
        with listening(target, home) as published:
            since = time.time()
            await asyncio.sleep(doses.delay_seconds)
        heard = [a for socket in opened for a in live(socket, since)]
        add_delays(figures, name, target, heard, published)
    if isinstance(target, Stack):
        target.empty()


async def all_orders(
    target: Target, figures: Figures, doses: Doses, count: int, home: Path
) -> None:
    """One event at a time to `count` sockets, each of which hears of every order."""
    name = f"one event to {count:,} sockets on scope: all"
    post = load.request(target.base_url, EXECUTE, ORDER, target.key)
    async with sockets(target.base_url, count, target.key) as opened:
        for socket in opened:
            socket.send(type="subscribe", scope="all")
        await until_arrived(opened, 2)
        with listening(target, home) as published:
            since = time.time()
            for number in range(doses.events_of_all):
                await load.run(target.base_url, post, 1, load.times(1))
                await until_arrived(opened, 3 + number)
                await asyncio.sleep(BETWEEN_EVENTS_SECONDS)
        heard = [a for socket in opened for a in live(socket, since) if a[0][1] == 1]
        if len(heard) < count * doses.events_of_all:
            figures.note(f"{name}: {len(heard):,} of {count * doses.events_of_all:,} arrived")
        add_delays(figures, name, target, heard, published)
    if isinstance(target, Stack):
        target.empty()


async def place_some(target: Target, count: int) -> list[str]:
    """The ids of new orders."""
    headers = {"Authorization": f"Bearer {target.key}"} if target.key else {}
    async with httpx.AsyncClient(
        base_url=target.base_url, headers=headers, trust_env=False
    ) as http:
        answer = await http.post(BATCH, json={"orders": [ORDER] * count}, timeout=30)
    if answer.status_code != 201:
        raise BenchError(f"POST {BATCH} answered {answer.status_code}")
    return [order["orderId"] for order in answer.json()["results"]]


def listening(target: Target, home: Path) -> AbstractContextManager[Published]:
    if isinstance(target, Stack):
        return noted(target.redis_url, home / "doorbells")
    return nullcontext(Published())


def live(socket: Socket, since: float) -> Arrivals:
    """The events that were written after `since` and not read back from the rows."""
    found = []
    for arrived, frame in socket.frames():
        if frame["type"] == "order.status" and not frame["replayed"]:
            stamp = datetime.fromisoformat(frame["timestamp"]).timestamp()
            if stamp >= since:
                found.append(((frame["orderId"], frame["seq"]), stamp, arrived))
    return found


def add_delays(
    figures: Figures, name: str, target: Target, heard: Arrivals, published: Published
) -> None:
    """From the row's created_at, and from Redis; from the frame's timestamp where that is all."""
    if not heard:
        raise BenchError(f"{name}: no event arrived")
    if isinstance(target, Stack):
        created = {(row["order_id"], row["seq"]): row["at"] for row in target.sql(CREATED)}
    else:
        created = {event: stamp for event, stamp, _ in heard}
        figures.note("delays count from the frames' timestamps, in whole ms, by the server's clock")
    delays = [1000 * (arrived - created[event]) for event, _, arrived in heard]
    figures.spread(name, delays)
    after = [1000 * (at - published[event]) for event, _, at in heard if event in published]
    if after:
        figures.spread(f"{name}, from publish", after)
    elif isinstance(target, Stack):
        figures.note("no doorbell was recognised in Redis: delays from publish are missing")
