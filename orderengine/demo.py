"""The demo's client: it places orders, follows them over one WebSocket and shows what it sees."""

import asyncio
import itertools
import json
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect

Event = dict[str, Any]

SELL = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5", "slippage": 0.01}
BUY = {"tokenIn": "USDC", "tokenOut": "SOL", "amount": "250", "slippage": 0.01}
BURST = [SELL, BUY] * 5  # where selling is better at one venue, buying is at the other
STEPS = {"pending": 0, "routing": 1, "building": 2, "submitted": 3}
TERMINAL = {"confirmed", "failed", "cancelled", "expired"}
ORDERS_SECONDS = 60.0


class DemoError(Exception):
    """The API answered what it should not; the message says what."""


@dataclass
class Followed:
    """An order and the events that have arrived of it."""

    order_id: str
    events: list[Event] = field(default_factory=list)

    @property
    def status(self) -> str:
        return str(self.events[-1]["status"]) if self.events else ""

    @property
    def venue(self) -> str:
        return str(self.events[-1]["data"].get("venue") or "none")

    @property
    def seconds(self) -> float:
        """From the first event to the last, by the server's clock."""
        return moment(self.events[-1]) - moment(self.events[0])


async def show(console: Console, base_url: str) -> list[Followed]:
    """Both parts of the demo, over one WebSocket."""
    path = "/api/orders/execute"
    async with (
        asyncio.timeout(ORDERS_SECONDS),
        httpx.AsyncClient(base_url=base_url, trust_env=False, timeout=10) as client,
        connect(base_url.replace("http", "ws") + path, proxy=None) as socket,
    ):
        console.rule("one market order: 1.5 SOL for USDC")
        single = await place(client, socket, [SELL])
        await follow(socket, single, lambda _, event: explain(console, single[0], event))
        console.rule(f"{len(BURST)} orders at once, half of them the other way round")
        burst = await place(client, socket, BURST)
        await follow_burst(console, socket, burst)
    console.print(summary([*single, *burst], most_at_once(burst)))
    return [*single, *burst]


async def place(
    client: httpx.AsyncClient, socket: ClientConnection, bodies: list[dict[str, Any]]
) -> list[Followed]:
    """Posts orders all at once and subscribes to each."""
    posts = [client.post("/api/orders/execute", json=body) for body in bodies]
    answers = await asyncio.gather(*posts)
    for answer in answers:
        if answer.status_code != 201:
            raise DemoError(f"POST answered {answer.status_code}: {answer.text}")
    orders = [Followed(answer.json()["orderId"]) for answer in answers]
    for order in orders:
        await socket.send(json.dumps({"type": "subscribe", "orderId": order.order_id}))
    return orders


async def follow(
    socket: ClientConnection, orders: list[Followed], on_event: Callable[[Followed, Event], None]
) -> None:
    """Returns after the last event of the last order."""
    by_id = {order.order_id: order for order in orders}
    while any(order.status not in TERMINAL for order in orders):
        frame = json.loads(await socket.recv())
        if frame["type"] == "error":
            raise DemoError(f"the WebSocket answered {frame}")
        if frame["type"] == "order.status":
            order = by_id[frame["orderId"]]
            order.events.append(frame)
            on_event(order, frame)


def explain(console: Console, order: Followed, event: Event) -> None:
    """One state of the single order, with what is new in it."""
    data, status = event["data"], event["status"]
    offset = moment(event) - moment(order.events[0])
    text = f"[dim]{offset:6.2f} s[/]  [bold]{status:<10}[/] {in_short(order, event)}"
    console.print(text, soft_wrap=True)
    if status == "building":
        console.print(Padding(comparison(data), (0, 0, 0, 6)))
        console.print(f"          {data['reason']['text']}", soft_wrap=True)
    if status == "confirmed":
        console.print(f"          [dim]{'failed':<10} not entered[/]")


def in_short(order: Followed, event: Event) -> str:
    data = event["data"]
    if event["status"] == "building":
        return f"{data['venue']}, {data['expectedAmountOut']} {SELL['tokenOut']} expected"
    if event["status"] == "submitted":
        return f"tx {data['txHash']}"
    if event["status"] == "confirmed":
        return (
            f"{data['amountOut']} {SELL['tokenOut']} from {data['venue']} at"
            f" {data['executedPrice']}, realized slippage {data['realizedSlippage']}"
        )
    if event["status"] == "failed":
        return f"{data['code']}: {data['message']}"
    return order.order_id if event["seq"] == 1 else ""


def comparison(data: Event) -> Table:
    """What each venue offered; the better one is marked."""
    table = Table("venue", "amount out", "price", "impact", "fee", "", box=box.SIMPLE)
    for quote in data["quotes"]:
        if "error" in quote:
            table.add_row(quote["venue"], f"no quote: {quote['error']['code']}")
            continue
        table.add_row(
            quote["venue"],
            quote["amountOut"],
            f"{Decimal(quote['effectivePrice']):.4f}",
            f"{Decimal(quote['priceImpact']):.4%}",
            f"{quote['fee']} {quote['feeToken']}",
            "better" if quote["venue"] == data["venue"] else "",
        )
    return table


async def follow_burst(console: Console, socket: ClientConnection, orders: list[Followed]) -> None:
    """A bar per order in a terminal, a line per event elsewhere."""
    if not console.is_terminal:
        await follow(socket, orders, lambda order, event: console.out(line(orders, order, event)))
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[status]:<10} {task.fields[venue]}"),
    )
    with Progress(*columns, console=console) as progress:
        total = progress.add_task("", total=len(orders), status="", venue="")
        bars = {
            order.order_id: progress.add_task(order.order_id, total=len(STEPS), status="", venue="")
            for order in orders
        }

        def draw(order: Followed, event: Event) -> None:
            status, venue = event["status"], event["data"].get("venue") or ""
            step = STEPS.get(status, len(STEPS))
            progress.update(bars[order.order_id], completed=step, status=status, venue=venue)
            done = sum(each.status in TERMINAL for each in orders)
            at_once = f"in execution at once: max {most_at_once(orders)}"
            progress.update(total, completed=done, description=at_once)

        await follow(socket, orders, draw)


def line(orders: list[Followed], order: Followed, event: Event) -> str:
    begun = min(moment(each.events[0]) for each in orders if each.events)
    offset = moment(event) - begun
    return f"{offset:6.2f} s  {order.order_id}  {event['status']:<10} {order.venue}"


def moment(event: Event) -> float:
    """The time of an event in seconds."""
    return datetime.fromisoformat(event["timestamp"]).timestamp()


def most_at_once(orders: list[Followed]) -> int:
    """How many orders were in execution at the same time at most."""
    changes = []
    for order in orders:
        for before, event in itertools.pairwise(order.events):
            was, runs = (each["status"] not in {"pending", *TERMINAL} for each in (before, event))
            changes.append((moment(event), runs - was))
    return max(itertools.accumulate(change for _, change in sorted(changes)), default=0)


def summary(orders: list[Followed], at_once: int) -> Table:
    """The outcome in numbers."""
    seconds = sorted(order.seconds for order in orders)
    venues = Counter(order.venue for order in orders)
    table = Table(title="summary", show_header=False)
    table.add_row("orders", str(len(orders)))
    table.add_row("confirmed", str(sum(order.status == "confirmed" for order in orders)))
    table.add_row("venues", ", ".join(f"{name} {count}" for name, count in venues.most_common()))
    table.add_row("total latency p50", f"{statistics.median(seconds):.2f} s")
    p95 = statistics.quantiles(seconds, n=20, method="inclusive")[-1]
    table.add_row("total latency p95", f"{p95:.2f} s")
    table.add_row("in execution at once", f"max {at_once}")
    return table
