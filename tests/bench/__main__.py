"""Measures the engine and prints a table.

    python -m tests.bench [--quick] [--profile fast] [--url BASE [--key KEY]] [--json FILE]

Starts a stack of its own for each group of measures, or measures the one at --url. What other
programs do meanwhile is measured too: let the machine be quiet.
"""

import argparse
import asyncio
import gc
import json
import shutil
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from orderengine.management.commands.up import interrupt_on_signals
from tests.bench import holding, measures, server, streaming
from tests.bench.figures import Figures, medians
from tests.bench.load import BenchError
from tests.bench.machine import Others, heading
from tests.bench.measures import FULL, QUICK, Doses
from tests.bench.stack import AT_ONCE, PROFILES, UNLIMITED, Stack, Target, stack

GROUPS = (
    "starts",
    "server",
    "intake",
    "keys",
    "lifecycle",
    "sockets",
    "hundred",
    "memory",
    "tables",
)
SLOW = ("starts", "memory", "tables")  # left out of a quick run, unless asked for
FEW_ORDERS, MANY_ORDERS = 200, 10_000

progress = Console(stderr=True, highlight=False)


@dataclass
class Bench:
    """The groups of measures, each on a stack with the settings that it needs."""

    figures: Figures
    doses: Doses
    profile: str
    home: Path

    def run(self, groups: list[str]) -> None:
        for name in groups:
            progress.print(f"{name} …", end=" ")
            begun = time.monotonic()
            getattr(self, name)()
            progress.print(f"{time.monotonic() - begun:.0f} s")

    def up(self, settings: dict[str, str], workers: int = 1) -> AbstractContextManager[Stack]:
        return stack(self.home, settings, profile=self.profile, workers=workers)

    def starts(self) -> None:
        holding.starts(self.figures, self.doses)

    def server(self) -> None:
        server.measure(self.figures, self.doses, self.profile)

    def intake(self) -> None:
        with self.up(AT_ONCE, workers=0) as running:
            asyncio.run(intake(running, self.figures, self.doses))
            asyncio.run(self.sockets_of_all(running))

    async def sockets_of_all(self, running: Stack) -> None:
        """Here, because no worker adds events of its own."""
        for _ in range(self.doses.socket_runs):
            await streaming.all_orders(
                running, self.figures, self.doses, max(self.doses.sockets), self.home
            )

    def keys(self) -> None:
        with self.up({**AT_ONCE, "API_AUTH_REQUIRED": "true"}, workers=0) as running:
            running.make_key()
            asyncio.run(keyed_intake(running, self.figures, self.doses))

    def lifecycle(self) -> None:
        with self.up(AT_ONCE) as running:
            holding.memory(running, self.figures, "idle")
            asyncio.run(self.lifecycles(running))
            holding.memory(running, self.figures, "loaded")

    async def lifecycles(self, running: Stack) -> None:
        orders = await lifecycles(running, self.figures, self.doses)
        for _ in range(self.doses.runs):
            await measures.drain(running, self.figures, orders)

    def sockets(self) -> None:
        with self.up(streaming.PACED) as running:
            asyncio.run(own_orders(running, self.figures, self.doses, self.home))

    def hundred(self) -> None:
        with self.up(UNLIMITED) as running:
            for _ in range(self.doses.hundred_runs):
                asyncio.run(measures.hundred(running, self.figures))

    def memory(self) -> None:
        for orders in self.doses.in_flight:
            limit = {"QUEUE_CONCURRENCY": str(max(self.doses.in_flight))}
            with self.up({**holding.SLOW_SWAPS, **limit}) as running:
                asyncio.run(holding.in_flight(running, self.figures, orders))

    def tables(self) -> None:
        holding.tables(self.figures, self.doses)


async def intake(target: Target, figures: Figures, doses: Doses) -> None:
    await measures.place(target, FEW_ORDERS)
    for _ in range(doses.runs):
        await measures.intake(target, figures, doses)
        await measures.batches(target, figures, doses)
        await measures.reads(target, figures, doses)
        if isinstance(target, Stack):
            target.empty()


async def keyed_intake(target: Target, figures: Figures, doses: Doses) -> None:
    await measures.place(target, FEW_ORDERS)
    for _ in range(doses.runs):
        await measures.intake(target, figures, doses)


async def lifecycles(target: Target, figures: Figures, doses: Doses) -> int:
    """Returns how many orders a run had: as many as end in the time it is to take."""
    rate = await measures.warm(target)
    rate = await measures.warm(target, max(FEW_ORDERS, int(rate)))
    orders = min(max(FEW_ORDERS, int(rate * doses.lifecycle_seconds)), MANY_ORDERS)
    if isinstance(target, Stack):
        target.empty()
    for _ in range(doses.runs):
        await measures.lifecycle(target, figures, orders)
    return orders


async def own_orders(target: Target, figures: Figures, doses: Doses, home: Path) -> None:
    for _ in range(doses.socket_runs):
        for count in doses.sockets:
            await streaming.own_orders(target, figures, doses, count, home)


def measure_elsewhere(target: Target, figures: Figures, doses: Doses, groups: list[str]) -> None:
    """What the API shows. Its worker runs meanwhile, with whatever limits and delays it has."""
    figures.note(
        f"measured at {target.base_url}, with its own limits and delays, its worker at work"
    )
    figures.note(
        "left out: what its processes use, scope: all, orders placed before, tables, starts"
    )
    home = Path()
    if "lifecycle" in groups:
        asyncio.run(lifecycles(target, figures, doses))
    if "hundred" in groups:
        asyncio.run(measures.hundred(target, figures))
    if "sockets" in groups:
        asyncio.run(own_orders(target, figures, doses, home))
    if "intake" in groups:  # last: what it leaves behind runs for a while
        asyncio.run(intake(target, figures, doses))


def document(figures: Figures, options: argparse.Namespace, doses: Doses) -> dict[str, Any]:
    settings = {
        "profile": options.profile,
        "quick": options.quick,
        "url": options.url,
        "doses": asdict(doses),
        "environment": AT_ONCE,
    }
    return {**heading(settings), "notes": figures.notes, "figures": figures.as_json()}


def show(figures: Figures, found: dict[str, Any], before: dict[str, float]) -> None:
    console = Console(width=170, highlight=False)
    machine, versions = found["machine"], found["versions"]
    console.print(
        f"commit {found['commit']}, {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['memoryGiB']} GiB, load {machine['load'][0]} at the start; "
        + ", ".join(f"{name} {number}" for name, number in versions.items()),
        soft_wrap=True,
    )
    console.print(figures.table(before))
    for note in figures.notes:
        console.print(f"note: {note}", soft_wrap=True)


def chosen(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(GROUPS):
        raise argparse.ArgumentTypeError(
            f"no such measures: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}"
        )
    return [name for name in GROUPS if name in names]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="small doses, under 3 minutes")
    parser.add_argument("--only", type=chosen, help=", ".join(GROUPS))
    parser.add_argument("--profile", choices=PROFILES, default="default")
    parser.add_argument("--url", default="", help="measure this API, start nothing")
    parser.add_argument("--key", default="", help="the API key for --url")
    parser.add_argument("--json", type=Path, help="write all of it to this file")
    parser.add_argument("--before", type=Path, help="a file of --json to set beside it")
    options = parser.parse_args()
    if options.only is None:
        options.only = [name for name in GROUPS if not (options.quick and name in SLOW)]
    return options


def main() -> None:
    interrupt_on_signals()
    options = parse()
    doses = QUICK if options.quick else FULL
    before = medians(json.loads(options.before.read_text())) if options.before else {}
    figures = Figures()
    home = Path(tempfile.mkdtemp(prefix="bench-"))
    gc.freeze()
    found: dict[str, Any] = {}
    others = Others()
    try:
        found = document(figures, options, doses)
        if options.url:
            target = Target(options.url.rstrip("/"), options.key)
            measure_elsewhere(target, figures, doses, options.only)
        else:
            Bench(figures, doses, options.profile, home).run(options.only)
    except (BenchError, OSError, httpx.HTTPError) as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if not options.url:
        figures.note(f"other programs used {others.share():.0%} of the processors meanwhile")
    found |= {"notes": figures.notes, "figures": figures.as_json()}
    show(figures, found, before)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
