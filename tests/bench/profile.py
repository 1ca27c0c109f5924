"""Where the time of web and worker goes: `python -m tests.bench.profile [--seconds 10] [--top 8]`.

py-spy looks 200 times a second at every thread; those that wait are left out. A sample counts for
the innermost frame of an area: encoding JSON for a view is the view's, a psycopg call of a Django
cursor is psycopg's. A thread that waits for the interpreter's lock counts as one that runs.
"""

import argparse
import asyncio
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import load, measures
from tests.bench.load import BenchError
from tests.bench.measures import CLIENTS, EXECUTE, ORDER
from tests.bench.stack import AT_ONCE, PROFILES, Stack, stack

PY_SPY = Path(sys.executable).with_name("py-spy")
RATE = 200
SETTLE_SECONDS = 1.0
# More than a worker ends while it is looked at.
ORDERS_A_SECOND = 700
# By a part of a frame's file; the first that fits.
AREAS = {
    "rest_framework/": "DRF",
    "psycopg": "psycopg",
    "django/": "Django",
    "asgiref/": "asgiref: threads between sync and async",
    "channels": "channel layer",
    "msgpack": "channel layer",
    "redis/": "redis client",
    "kombu/": "Celery and kombu",
    "celery/": "Celery and kombu",
    "amqp/": "Celery and kombu",
    "vine/": "Celery and kombu",
    "twisted/": "Daphne and Twisted",
    "daphne/": "Daphne and Twisted",
    "orderengine/daphne": "Daphne and Twisted",
    "autobahn/": "Daphne and Twisted",
    "uvicorn/": "uvicorn",
    "structlog/": "log lines",
    "logging/": "log lines",
    "orderengine/logs": "log lines",
    "orders/serializers": "orders: serializers",
    "orders/": "orders",
    "orderengine/": "orderengine",
    "dex/": "dex",
    "asyncio/": "asyncio",
    "concurrent/": "thread pools",
    "threading": "thread pools",
}
# Innermost functions that wait for work or for an answer.
WAITING = re.compile(
    r"_worker|.*\bwait|\w*Selector\.select|_epoll\.poll|.*_wait_for_tstate_lock|.*_read_from_socket"
    r"|Queue\.get|Counts\.keep_flushing"
)
FRAME = re.compile(r"(.+) \((.+?)(?::\d+)?\)")


def parsed(lines: Iterable[str]) -> Iterator[tuple[list[str], int]]:
    """The frames of each stack, outermost first, and how often it was seen."""
    for line in lines:
        frames, _, count = line.rpartition(" ")
        yield frames.split(";"), int(count)


def area(frames: list[str]) -> str:
    for frame in reversed(frames):
        match = FRAME.fullmatch(frame)
        where = match[2] if match else frame
        if found := next((name for part, name in AREAS.items() if part in where), None):
            return found
    return "the rest"


def waits(frames: list[str]) -> bool:
    """Also where py-spy saw nothing of a thread."""
    match = FRAME.fullmatch(frames[-1])
    return match is None or WAITING.fullmatch(match[1]) is not None


def short(frame: str) -> str:
    """Without the line's number."""
    match = FRAME.fullmatch(frame)
    return f"{match[1]} ({match[2]})" if match else frame


async def record(pid: int, seconds: int, file: Path) -> list[tuple[list[str], int]]:
    command = (str(PY_SPY), "record", "--pid", str(pid), "--duration", str(seconds))
    form = ("--rate", str(RATE), "--format", "raw", "--output", str(file))
    process = await asyncio.create_subprocess_exec(
        *command, *form, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode:
        raise BenchError(f"py-spy: {said.decode().strip().splitlines()[-1]}")
    return list(parsed(file.read_text().splitlines()))  # noqa: ASYNC240 - nothing else runs now


async def of_web(running: Stack, seconds: int, file: Path) -> list[tuple[list[str], int]]:
    post = load.request(running.base_url, EXECUTE, ORDER)
    await measures.place(running, 200)
    lasting = load.for_seconds(seconds + 2 * SETTLE_SECONDS)
    loading = asyncio.create_task(load.run(running.base_url, post, CLIENTS, lasting))
    await asyncio.sleep(SETTLE_SECONDS)
    found = await record(running.usage.of("web")[0].pid, seconds, file)
    await loading
    return found


async def of_worker(running: Stack, seconds: int, file: Path) -> list[tuple[list[str], int]]:
    await measures.warm(running)
    running.usage.pause("worker")
    await measures.place_batches(running, ORDERS_A_SECOND * seconds)
    running.usage.go_on("worker")
    await asyncio.sleep(SETTLE_SECONDS)
    return await record(running.usage.of("worker")[0].pid, seconds, file)


def show(name: str, stacks: list[tuple[list[str], int]], top: int) -> None:
    areas, leaves = Counter[str](), Counter[str]()
    for frames, count in stacks:
        if waits(frames):
            continue
        areas[area(frames)] += count
        leaves[short(frames[-1])] += count
    total = areas.total()
    table = Table(box=None, padding=(0, 2, 0, 0), title=f"{name}, {total:,} samples")
    table.add_column("%", justify="right")
    table.add_column("of the samples", no_wrap=True)
    for counts in (areas.most_common(), leaves.most_common(top)):
        for what, count in counts:
            if count >= total / 200:
                table.add_row(f"{100 * count / total:.1f}", what)
        table.add_section()
    Console(width=110, highlight=False).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--top", type=int, default=8, help="innermost functions to show")
    parser.add_argument("--profile", choices=PROFILES, default="default")
    options = parser.parse_args()
    if not PY_SPY.exists():
        sys.exit(f"{PY_SPY} is missing: install requirements-dev.txt")
    with tempfile.TemporaryDirectory(prefix="bench-profile-") as folder:
        home, file = Path(folder), Path(folder) / "stacks"
        try:
            with stack(home, AT_ONCE, profile=options.profile, workers=0) as running:
                found = asyncio.run(of_web(running, options.seconds, file))
            show(f"web, POST from {CLIENTS} connections", found, options.top)
            with stack(home, AT_ONCE, profile=options.profile) as running:
                found = asyncio.run(of_worker(running, options.seconds, file))
            show("worker, orders placed before, no delays", found, options.top)
        except BenchError as error:
            sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main()
