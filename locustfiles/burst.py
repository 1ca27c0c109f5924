"""Many market orders at once, followed to the last end.

    python locustfiles/burst.py --host http://127.0.0.1:3000 --orders 100

Exits with 0 when every order was confirmed. API_KEY, if set, signs in.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from argparse import ArgumentParser
from bisect import bisect_left
from collections import Counter
from datetime import datetime
from typing import Any

import httpx
from rich.console import Console
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

Event = dict[str, Any]

PATH = "/api/orders/execute"
SELL = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "0.5"}
BUY = {"tokenIn": "USDC", "tokenOut": "SOL", "amount": "75"}
IN_EXECUTION = {"routing", "building", "submitted"}
TERMINAL = {"confirmed", "failed", "cancelled", "expired"}
MOST_ORDERS = 1000  # one socket follows them all, and may not follow more
NO_LIMITS = httpx.Limits(max_connections=None)
FEW_AT_ONCE = httpx.Limits(max_connections=4)

console = Console(highlight=False)


class Failed(Exception):
    """A sentence that ends the run."""


async def run(host: str, count: int) -> list[Event]:
    """The last event of each order."""
    begun = time.perf_counter()
    order_ids = await place(host, count)
    console.print(f"all stored after        {time.perf_counter() - begun:.2f} s")
    await follow(host, order_ids, begun)
    lives = await fetch(host, order_ids)
    summarize(lives)
    return [life[-1] for life in lives]


def sign_in() -> dict[str, str]:
    key = os.environ.get("API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


async def place(host: str, count: int) -> list[str]:
    """Posts all orders concurrently, each on a connection of its own."""
    async with httpx.AsyncClient(
        base_url=host, headers=sign_in(), limits=NO_LIMITS, timeout=60, trust_env=False
    ) as client:

        async def post(number: int) -> tuple[str, float]:
            sent = time.perf_counter()
            answer = await client.post(PATH, json=BUY if number % 2 else SELL)
            if answer.status_code != 201:
                raise Failed(f"POST answered {answer.status_code}: {answer.text}")
            return answer.json()["orderId"], time.perf_counter() - sent

        placed = await asyncio.gather(*(post(number) for number in range(count)))
    seconds = sorted(taken for _, taken in placed)
    console.print(f"POST                    {spread([1000 * s for s in seconds], 'ms')}")
    return [order_id for order_id, _ in placed]


async def follow(host: str, order_ids: list[str], begun: float) -> None:
    """Returns after the last order's end, telling of each quarter."""
    waiting = set(order_ids)
    steps = {len(order_ids) * quarter // 4 for quarter in (1, 2, 3, 4)}
    address = host.replace("http", "ws", 1) + PATH
    async with connect(address, proxy=None, additional_headers=sign_in()) as socket:
        for order_id in order_ids:
            await socket.send(json.dumps({"type": "subscribe", "orderId": order_id}))
        while waiting:
            frame = json.loads(await socket.recv())
            if frame["type"] == "error":
                raise Failed(f"the WebSocket answered {frame['code']}: {frame['detail']}")
            if frame["type"] != "order.status" or frame["status"] not in TERMINAL:
                continue
            waiting.discard(frame["orderId"])
            if (ended := len(order_ids) - len(waiting)) in steps:
                console.print(f"{ended:4} ended after        {time.perf_counter() - begun:.2f} s")


async def fetch(host: str, order_ids: list[str]) -> list[list[Event]]:
    """All events of each order, as the events API has them."""
    async with httpx.AsyncClient(
        base_url=host,
        headers=sign_in(),
        limits=FEW_AT_ONCE,
        timeout=httpx.Timeout(30, pool=None),
        trust_env=False,
    ) as client:

        async def get(order_id: str) -> list[Event]:
            answer = await client.get(f"/api/orders/{order_id}/events")
            results: list[Event] = answer.raise_for_status().json()["results"]
            return results

        return await asyncio.gather(*(get(order_id) for order_id in order_ids))


def summarize(lives: list[list[Event]]) -> None:
    ends = [life[-1] for life in lives]
    outcomes = Counter(
        f"{end['status']} {end['data'].get('code', '')}".strip() for end in ends
    ).most_common()
    life_seconds = [moment(life[-1]) - moment(life[0]) for life in lives]
    run_seconds = [moment(life[-1]) - start for life in lives if (start := first_start(life))]
    console.print(f"order, stored to end    {spread(life_seconds, 's')}")
    console.print(f"order, started to end   {spread(run_seconds, 's')}")
    console.print(f"most in execution       {most_in_execution(lives)}")
    console.print(f"most starts in 60 s     {most_starts_in_a_minute(lives)}")
    console.print(f"attempts                {sum(end['attempt'] for end in ends)}")
    console.print(f"outcomes                {', '.join(f'{n} {name}' for name, n in outcomes)}")


def spread(numbers: list[float], unit: str) -> str:
    """The median, the 95th percentile and the largest."""
    percentiles = statistics.quantiles(numbers * 2, n=100, method="inclusive")  # of one, too
    p50, p95 = percentiles[49], percentiles[94]
    return f"p50 {p50:.1f} {unit}, p95 {p95:.1f} {unit}, max {max(numbers):.1f} {unit}"


def moment(event: Event) -> float:
    """Seconds, by the server's clock."""
    return datetime.fromisoformat(event["timestamp"]).timestamp()


def first_start(life: list[Event]) -> float | None:
    return next((moment(event) for event in life if event["status"] == "routing"), None)


def most_in_execution(lives: list[list[Event]]) -> int:
    """The most orders between a start and its end or retry; an end counts before a start."""
    changes = sorted(
        (moment(event), change)
        for life in lives
        for event in life
        if (change := in_execution(event["status"]) - in_execution(event["previousStatus"]))
    )
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def in_execution(status: str | None) -> int:
    return int(status in IN_EXECUTION)


def most_starts_in_a_minute(lives: list[list[Event]]) -> int:
    starts = sorted(start for life in lives if (start := first_start(life)))
    return max((bisect_left(starts, at + 60) - n for n, at in enumerate(starts)), default=0)


def main() -> None:
    parser = ArgumentParser(description="Places many market orders at once and follows them.")
    parser.add_argument("--host", default="http://127.0.0.1:3000")
    parser.add_argument("--orders", type=int, default=100, help=f"1 to {MOST_ORDERS}")
    parser.add_argument("--timeout", type=float, default=600, help="seconds until all have ended")
    options = parser.parse_args()
    if not 1 <= options.orders <= MOST_ORDERS:
        parser.error(f"--orders: 1 to {MOST_ORDERS} are possible")
    console.print(f"{options.orders} market orders at once to {options.host}")
    try:
        work = run(options.host, options.orders)
        ends = asyncio.run(asyncio.wait_for(work, options.timeout))
    except TimeoutError:
        sys.exit(f"not all orders ended within {options.timeout:.0f} s")
    except (Failed, httpx.HTTPError, WebSocketException, OSError) as error:
        sys.exit(f"{error or repr(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(any(end["status"] != "confirmed" for end in ends))


if __name__ == "__main__":
    main()
