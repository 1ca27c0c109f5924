"""`manage.py demo`: a stack of its own, one order step by step, then ten at once."""

import asyncio
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from orderengine.embedded.files import set_by_user
from orderengine.embedded.server import HOST, die_with_parent, free_port
from orderengine.supervisor import ending_signals

Event = dict[str, Any]

ORDER = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5", "slippage": 0.01}
BURST = 10
STATES = ["pending", "routing", "building", "submitted", "confirmed", "failed"]
TERMINAL = {"confirmed", "failed", "cancelled", "expired"}
START_SECONDS = 45.0
ORDERS_SECONDS = 60.0


class Command(BaseCommand):
    help = "Starts a stack, runs one order and then ten at once, and stops it."
    requires_system_checks = []

    def handle(self, *_: Any, **__: Any) -> None:
        for signum in ending_signals():
            signal.signal(signum, signal.default_int_handler)
        console = Console(highlight=False)
        try:
            with running_stack(console) as base_url:
                orders = asyncio.run(show(console, base_url))
        except KeyboardInterrupt:
            sys.exit(130)
        except TimeoutError as error:
            message = f"orders were not finished within {ORDERS_SECONDS:.0f} s"
            raise CommandError(message) from error
        except (httpx.HTTPError, WebSocketException) as error:
            raise CommandError(f"the stack went away: {error!r}") from error
        if any(order.status != "confirmed" for order in orders):
            raise CommandError("not every order was confirmed")


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


@contextmanager
def running_stack(console: Console) -> Iterator[str]:
    """The base URL of a new stack in a temporary directory; nothing of it is left afterwards."""
    data_dir = Path(tempfile.mkdtemp(prefix="order-engine-demo-"))
    port = free_port()
    base_url = f"http://{HOST}:{port}"
    try:
        process = start_stack(data_dir, port)
        try:
            with console.status("starting PostgreSQL, Redis, web, worker, dispatcher and Flower"):
                wait_until_ready(process, data_dir, base_url)
            yield base_url
        finally:
            with console.status("stopping"):
                end(process)
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


def start_stack(data_dir: Path, port: int) -> "subprocess.Popen[bytes]":
    """`manage.py up` with servers of its own, whatever this environment or .env names."""
    own = {
        "DATA_DIR": str(data_dir),
        "PORT": str(port),
        "FLOWER_PORT": str(free_port()),
        "DEBUG": "true",
        "API_AUTH_REQUIRED": "false",
        "DATABASE_URL": "",
        "REDIS_URL": "",
        "ALLOWED_HOSTS": "",
    }
    with (data_dir / "up.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=settings.BASE_DIR,
            env=set_by_user(os.environ, settings.DATA_DIR) | own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C comes here first
            preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509
        )


def wait_until_ready(process: "subprocess.Popen[bytes]", data_dir: Path, base_url: str) -> None:
    """Returns when /health is green, a worker included."""
    deadline = time.monotonic() + START_SECONDS
    while not healthy(base_url):
        if process.poll() is not None or time.monotonic() > deadline:
            log = (data_dir / "up.log").read_text(errors="replace")
            raise CommandError(f"the stack did not become ready; it wrote:\n{log}")
        time.sleep(0.1)


def healthy(base_url: str) -> bool:
    try:
        return httpx.get(f"{base_url}/health", timeout=3, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def end(process: "subprocess.Popen[bytes]") -> None:
    """Stops the stack; a second Ctrl-C, or 12 s, is the end of its patience."""
    process.terminate()
    try:
        process.wait(12)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.terminate()
        process.wait(5)


async def show(console: Console, base_url: str) -> list[Followed]:
    """Both parts of the demo, over one WebSocket."""
    path = "/api/orders/execute"
    async with (
        asyncio.timeout(ORDERS_SECONDS),
        httpx.AsyncClient(base_url=base_url, trust_env=False, timeout=10) as client,
        connect(base_url.replace("http", "ws") + path, proxy=None) as socket,
    ):
        console.rule("one market order: 1.5 SOL for USDC")
        single = await place(client, socket, 1)
        await follow(socket, single, lambda _, event: explain(console, single[0], event))
        console.rule(f"{BURST} orders at once")
        burst = await place(client, socket, BURST)
        await follow_burst(console, socket, burst)
    console.print(summary([*single, *burst], most_at_once(burst)))
    return [*single, *burst]


async def place(client: httpx.AsyncClient, socket: ClientConnection, count: int) -> list[Followed]:
    """Posts the order `count` times at once and subscribes to each."""
    posts = [client.post("/api/orders/execute", json=ORDER) for _ in range(count)]
    answers = await asyncio.gather(*posts)
    for answer in answers:
        if answer.status_code != 201:
            raise CommandError(f"POST answered {answer.status_code}: {answer.text}")
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
            raise CommandError(f"the WebSocket answered {frame}")
        if frame["type"] == "order.status":
            order = by_id[frame["orderId"]]
            order.events.append(frame)
            on_event(order, frame)


def explain(console: Console, order: Followed, event: Event) -> None:
    """One state of the single order, with what is new in it."""
    data, status = event["data"], event["status"]
    offset = moment(event) - moment(order.events[0])
    console.print(f"[dim]{offset:6.2f} s[/]  [bold]{status:<10}[/] {in_short(order, event)}")
    if status == "building":
        console.print(comparison(data))
        console.print(f"          {data['reason']['text']}")
    if status == "confirmed":
        console.print(f"          [dim]{'failed':<10} not entered[/]")


def in_short(order: Followed, event: Event) -> str:
    data = event["data"]
    if event["status"] == "building":
        return f"{data['venue']}, {data['expectedAmountOut']} expected"
    if event["status"] == "submitted":
        return f"tx {data['txHash']}"
    if event["status"] == "confirmed":
        return (
            f"{data['amountOut']} {ORDER['tokenOut']} from {data['venue']} at"
            f" {data['executedPrice']}, realized slippage {data['realizedSlippage']}"
        )
    if event["status"] == "failed":
        return f"{data['code']}: {data['message']}"
    return order.order_id if event["seq"] == 1 else ""


def comparison(data: Event) -> Table:
    """What each venue offered; the better one is marked."""
    table = Table("venue", "amount out", "effective price", "price impact", "fee", "")
    for quote in data["quotes"]:
        if "error" in quote:
            table.add_row(quote["venue"], f"no quote: {quote['error']['code']}")
            continue
        table.add_row(
            quote["venue"],
            quote["amountOut"],
            quote["effectivePrice"],
            quote["priceImpact"],
            f"{quote['fee']} {quote['feeToken']}",
            "better" if quote["venue"] == data["venue"] else "",
        )
    return table


async def follow_burst(console: Console, socket: ClientConnection, orders: list[Followed]) -> None:
    """A bar per order in a terminal, a line per event elsewhere."""
    if not console.is_terminal:
        await follow(socket, orders, lambda order, event: print(line(orders, order, event)))
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[status]:<10} {task.fields[venue]}"),
    )
    with Progress(*columns, console=console) as progress:
        bars = {
            order.order_id: progress.add_task(order.order_id, total=4, status="", venue="")
            for order in orders
        }

        def draw(order: Followed, event: Event) -> None:
            step = min(STATES.index(event["status"]), 4) if event["status"] in STATES else 4
            progress.update(
                bars[order.order_id],
                completed=step,
                status=event["status"],
                venue=event["data"].get("venue") or "",
            )

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
