"""What a stack holds: memory idle and with orders in flight, orders in the table; how it starts."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.figures import Figures
from tests.bench.measures import Doses, place_batches, until_finished
from tests.bench.stack import UNLIMITED, Stack, started
from tests.faults.backlog import timed
from tests.scale import NEWEST, Engine, filled

PROCESSES = ("web", "worker", "dispatcher")
# Every order is on its way for so long that 1,000 can be; the chain forgets it after 12 s.
SLOW_SWAPS = {**UNLIMITED, "DEX_SWAP_LATENCY_MS": "10000"}
FLIGHT_SECONDS = 11.0
WARMING, SAMPLES = 10, 100
# Its recipe for .venv is left out: installing is not starting.
MAKE_UP = ["make", "--silent", "--old-file=.venv/installed", "up"]


def memory(stack: Stack, figures: Figures, when: str) -> None:
    for name, (rss, pss) in stack.usage.memory().items():
        if name in PROCESSES:
            figures.add(f"RSS of {name}, {when}", rss, "MiB")
            figures.add(f"PSS of {name}, {when}", pss, "MiB")


async def in_flight(stack: Stack, figures: Figures, orders: int) -> None:
    """The worker's memory while so many orders are in execution, or as many as it gets."""
    await place_batches(stack, orders)
    most, held = 0, (0.0, 0.0)
    deadline = time.monotonic() + FLIGHT_SECONDS
    while time.monotonic() < deadline and most < orders:
        if (flying := stack.in_execution()) >= most:
            most, held = flying, stack.usage.memory()["worker"]
        await asyncio.sleep(0.2)
    if most < orders:
        figures.note(f"of {orders:,} orders that were to be in flight at once {most:,} were")
    figures.add(f"RSS of worker, {orders:,} orders in flight", held[0], "MiB")
    figures.add(f"PSS of worker, {orders:,} orders in flight", held[1], "MiB")
    await until_finished(stack)
    stack.empty()


def tables(figures: Figures, doses: Doses) -> None:
    """With so many orders in the table."""
    for count in doses.tables:
        with filled(count) as engine:
            for _ in range(doses.runs):
                for name, call in reads(engine).items():
                    for _ in range(WARMING):
                        call()
                    median = statistics.median(call() for _ in range(SAMPLES))
                    figures.add(f"{name}, {count:,} orders", median, "ms")


def reads(engine: Engine) -> dict[str, Callable[[], float]]:
    """What they take, in ms: stats, a list's first page, and the claim."""
    newest = engine.one(NEWEST)["id"]
    return {
        "GET stats": lambda: timed(lambda: engine.get("/api/orders/stats")),
        "GET orders": lambda: timed(lambda: engine.get("/api/orders")),
        "claim": lambda: engine.claim(newest),
    }


def starts(figures: Figures, doses: Doses) -> None:
    """`make up` until /health/ready: in an empty data directory, and then in that one again."""
    for _ in range(doses.starts):
        with tempfile.TemporaryDirectory(prefix="bench-start-") as home:
            for when in ("first start", "later start"):
                with started(MAKE_UP, Path(home), {}) as running:
                    figures.add(f"make up, {when}", running.ready_after, "s")
