"""The engine beside a lean one in Node (tests/bench/lean), by turns on the same servers: the ratio.

    python -m tests.bench.beside [--profile fast] [--rounds 5] [--orders 1500] [--json FILE]
    python -m tests.bench.beside --other DIR

A machine that drifts by half within the hour makes a rate say little; what drifts for both alike
is not in a ratio. The lean engine keeps none of the promises: no claim, fence, limit, idempotency
or replay. Both have a web process and a worker, which is stopped while only POST is measured.
Needs Node 20 and npm, which fetches what package-lock.json names. Takes 30 s a round.

With --other it is beside another checkout of the engine in place of the lean one, with servers and
a virtualenv (DIR/.venv) of its own: another commit, or another Python.
"""

import argparse
import asyncio
import gc
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import redis
from rich.console import Console
from rich.table import Table

from orderengine.embedded.server import die_with_parent, free_port
from orderengine.management.commands.up import interrupt_on_signals
from tests.bench import load
from tests.bench.figures import Figure, percentile, shown
from tests.bench.load import BenchError, Load
from tests.bench.machine import heading
from tests.bench.measures import BATCH, BATCH_SIZE, CLIENTS, EXECUTE, MOST_SECONDS, ORDER
from tests.bench.stack import AT_ONCE, PROFILES, Stack, Target, stack, until_answers

LEAN = Path(__file__).parent / "lean"
LEAN_DATABASE = 7  # of Redis
WARMING = 200  # orders
POST_SECONDS = 1.5
SERVERS = ("postgres", "redis")


@dataclass
class Side:
    """One of the two engines: where its orders are, and the processes that are its own."""

    target: Target
    table: str
    stack: Stack
    empty: Callable[[], None]
    processes: Callable[[str], list[psutil.Process]]  # of a role
    name: str = "engine"
    found: dict[str, Figure] = field(default_factory=dict)

    def sql(self, query: str) -> Any:
        (row,) = self.stack.sql(f"{query} FROM {self.table}")
        return next(iter(row.values()))

    def finish(self) -> float:
        """Waits for the last order; when that ended, in seconds since 1970."""
        deadline = time.monotonic() + MOST_SECONDS
        while left := self.sql("SELECT count(*) FILTER (WHERE completed_at IS NULL)"):
            if time.monotonic() > deadline:
                raise BenchError(f"{left} orders of {self.table} have not ended")
            time.sleep(0.25)
        return float(self.sql("SELECT extract(epoch FROM max(completed_at))"))

    def cpu(self) -> tuple[float, float]:
        """Seconds so far of its own web and worker, and of the servers that both use."""
        own = [p for role in ("web", "front", "worker") for p in self.processes(role)]
        servers = [p for role in SERVERS for p in self.stack.usage.of(role)]
        return seconds(own), seconds(servers)

    def add(self, name: str, value: float, unit: str) -> None:
        self.found.setdefault(name, Figure(name, unit)).runs.append(value)

    def post(self, connections: int) -> None:
        done = self.loaded(EXECUTE, ORDER, connections)
        self.add(f"POST, {connections} at once", done.per_second, "orders/s")
        self.add(f"POST, {connections} at once, p99", 1000 * percentile(done.took, 99), "ms")

    def batches(self) -> None:
        """Of this engine alone: the lean one takes none."""
        done = self.loaded(BATCH, {"orders": [ORDER] * BATCH_SIZE}, CLIENTS)
        name = f"batch of {BATCH_SIZE}, {CLIENTS} at once"
        self.add(name, BATCH_SIZE * done.per_second, "orders/s")

    def loaded(self, path: str, body: Any, connections: int) -> Load:
        """While no worker runs, which leaves no order behind."""
        for process in self.processes("worker"):
            process.suspend()
        request = load.request(self.target.base_url, path, body)
        done = asyncio.run(
            load.run(self.target.base_url, request, connections, load.for_seconds(POST_SECONDS))
        )
        self.empty()
        for process in self.processes("worker"):
            process.resume()
        return done

    def lifecycle(self, orders: int, *, counts: bool = True) -> None:
        """From the first POST to the last order's end, intake and execution together."""
        request = load.request(self.target.base_url, EXECUTE, ORDER)
        before, begun = self.cpu(), time.time()
        asyncio.run(load.run(self.target.base_url, request, CLIENTS, load.times(orders)))
        rate = orders / (self.finish() - begun)
        own, servers = (1000 * (b - a) / orders for a, b in zip(before, self.cpu(), strict=True))
        if counts:
            self.add("lifecycle with intake, 10 in execution", rate, "orders/s")
            self.add("lifecycle: CPU of web and worker", own, "ms/order")
            self.add("lifecycle: CPU of PostgreSQL and Redis", servers, "ms/order")
        self.empty()


def seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:4]) for process in processes)


@contextmanager
def lean(running: Stack) -> Iterator[Side]:
    """The lean engine on the servers of the stack, with tables of its own."""
    installed()
    running.sql((LEAN / "schema.sql").read_text())
    address = running.redis_url.rpartition("/")[0] + f"/{LEAN_DATABASE}"
    port = free_port()
    env = {
        **os.environ,
        "DATABASE_URL": running.database_url,
        "REDIS_URL": address,
        "PORT": str(port),
        "NODE_ENV": "production",
    }
    started = {
        role: subprocess.Popen(
            ["node", "engine.js", role],
            cwd=LEAN,
            env=env,
            preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - nothing else runs here
        )
        for role in ("web", "worker")
    }

    def empty() -> None:
        running.sql("TRUNCATE lean.orders CASCADE")
        with redis.Redis.from_url(address) as client:
            client.flushdb()
        running.sql("CHECKPOINT")

    def processes(role: str) -> list[psutil.Process]:
        return [psutil.Process(started[role].pid)] if role in started else []

    target = Target(f"http://127.0.0.1:{port}")
    try:
        until_answers(target, "/health", started["web"])
        yield Side(target, "lean.orders", running, empty, processes, "lean")
    finally:
        for process in started.values():
            process.kill()
            process.wait()


def engine(running: Stack, name: str) -> Side:
    return Side(running, "orders_order", running, running.empty, running.usage.of, name)


@contextmanager
def checkout(root: Path, home: Path, profile: str) -> Iterator[Side]:
    """The engine of another checkout, with the Python of its own virtualenv."""
    python = root / ".venv" / "bin" / "python"
    if not python.exists():
        raise BenchError(f"{python} is missing: run `make .venv/installed` in {root}")
    manage = [str(python), "manage.py"]
    with stack(home, AT_ONCE, profile=profile, manage=manage, root=root) as running:
        yield engine(running, "other")


def installed() -> None:
    """Raises BenchError where Node or a package is not to be had."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise BenchError("the lean engine needs Node 20 or later, and npm")
    if not (LEAN / "node_modules").exists():
        argv = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(argv, cwd=LEAN, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"npm ci failed: {done.stderr.strip()[-300:]}")


def measure(ours: Side, other: Side, rounds: int, orders: int) -> None:
    """Each measure of both before the next one; who is first changes with the round."""
    for side in (ours, other):
        side.lifecycle(WARMING, counts=False)
        side.post(CLIENTS)
        side.found.clear()
    for number in range(rounds):
        sides = (ours, other) if number % 2 else (other, ours)
        for connections in (1, 16, 64):
            for side in sides:
                side.post(connections)
        for side in sides:
            side.lifecycle(orders)
        if other.name != "lean":
            for side in sides:
                side.batches()


def ratios(ours: Figure, other: Figure) -> list[float]:
    return [a / b for a, b in zip(ours.runs, other.runs, strict=True)]


def table(ours: Side, other: Side) -> Table:
    found = Table(box=None, padding=(0, 2, 0, 0))
    found.add_column("measure", no_wrap=True)
    for title in (ours.name, "range", other.name, "range", "ratio", "range"):
        found.add_column(title, justify="right", no_wrap=True)
    found.add_column("unit")
    for figure, its in zip(ours.found.values(), other.found.values(), strict=True):
        ratio = Figure("ratio", "", ratios(figure, its))
        cells = [cell for f in (figure, its, ratio) for cell in (shown(f.median), f.range)]
        found.add_row(figure.name, *cells, figure.unit)
    return found


def document(ours: Side, other: Side, options: argparse.Namespace) -> dict[str, Any]:
    settings = {"profile": options.profile, "orders": options.orders, "environment": AT_ONCE}
    return {
        **heading(settings),
        ours.name: [figure.as_json() for figure in ours.found.values()],
        other.name: [figure.as_json() for figure in other.found.values()],
        "ratios": {
            name: round(statistics.median(ratios(figure, other.found[name])), 3)
            for name, figure in ours.found.items()
        },
    }


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on is expected, not {text!r}")
    return int(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.beside", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--profile", choices=PROFILES, default="default")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--orders", type=positive, default=1500, help="of each lifecycle")
    parser.add_argument(
        "--other", type=Path, help="a checkout to set beside it, not the lean engine"
    )
    parser.add_argument("--json", type=Path, help="write all of it to this file")
    return parser.parse_args()


def main() -> None:
    interrupt_on_signals()
    options = parse()
    home = Path(tempfile.mkdtemp(prefix="beside-"))
    gc.freeze()
    try:
        with ExitStack() as opened:
            running = opened.enter_context(stack(home / "own", AT_ONCE, profile=options.profile))
            other = opened.enter_context(
                checkout(options.other.resolve(), home / "other", options.profile)
                if options.other
                else lean(running)
            )
            ours = engine(running, "engine")
            measure(ours, other, options.rounds, options.orders)
            found = document(ours, other, options)
    except (BenchError, OSError) as error:
        sys.exit(f"beside: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    Console(width=170, highlight=False).print(table(ours, other))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
