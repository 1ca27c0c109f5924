"""Breaks the running engine on purpose and prints what it found.

    python -m tests.faults [--long] [--seed N] [--only TEXT] [--list] [--json FILE]

Exits with 0 when nothing that was promised was broken, and every negative control was found out.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.faults import controls, verify
from tests.faults.clients import Clients
from tests.faults.fleet import Fleet
from tests.faults.scenarios import SCENARIOS, Run, Scenario

# A dropped transaction is waited for until it expires, 12 s: in the short form they are rare.
SHORT = {
    "DEX_FAULTS": "rejected=0.05,dropped=0.004,reply_lost=0.05,quote_unavailable=0.02",
    "ORDER_LEASE_SECONDS": "4",
    "DEX_QUOTE_LATENCY_MS": "50",
    "DEX_SWAP_LATENCY_MS": "800-1500",
}
LONG = {
    "DEX_FAULTS": "rejected=0.05,dropped=0.02,reply_lost=0.05,quote_unavailable=0.02",
    "ORDER_LEASE_SECONDS": "15",
    "DEX_QUOTE_LATENCY_MS": "200",
    "DEX_SWAP_LATENCY_MS": "2000-3000",
}
DEFAULT_LEASE = 15

console = Console(highlight=False, width=132 if not sys.stdout.isatty() else None)


@dataclass
class Measured:
    """Seconds, of so many orders or events."""

    name: str
    bound: float
    count: int
    p50: float | None
    p99: float | None
    max: float | None


@dataclass
class Row:
    """What one scenario showed."""

    fault: str
    orders: int
    faults: int
    measured: list[Measured]
    violations: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def wrong(self) -> list[str]:
        return self.violations + self.late


def measure(name: str, run: Run, lives: verify.Lives) -> list[float]:
    """What a scenario is held to."""
    fences = verify.fences(run.fleet, run.clients)
    match name:
        case "ends":  # from the crash of an order's process to the order's end
            return verify.ends(lives, run.crashed, fences)
        case "taken over":  # from a fault to the next event, of orders that changed their worker
            lost = {i: steps for i, steps in lives.items() if fences[i] > steps[-1].attempt}
            return verify.progress(lost, run.moments)
        case "progress":  # from a fault to the next event, of orders in execution
            return verify.progress(lives, run.moments)
        case "starts":  # from a fault, or its end, to the start of orders that were due
            return verify.starts(lives, run.moments)
        case "running again":  # from the end of a fault to the first start of any order
            return verify.again(lives, run.moments)
        case _:  # lags: from an event to the arrival of its frame
            since = min(run.moments, default=0.0)
            return [lag for heard in run.clients.heard for at, lag in heard.lags if at >= since]


async def carry_out(scenario: Scenario, fleet: Fleet, seed: str, *, long: bool) -> Row:
    """Load, faults, quiet, and the questions."""
    begun = time.monotonic()
    clients = Clients(fleet.urls, seed, name=f"{SCENARIOS.index(scenario)}-{os.getpid()}")
    run = Run(fleet, clients, long)
    await clients.overhear()
    if scenario.rate:
        run.load = asyncio.create_task(clients.steadily(scenario.rate))
    try:
        await scenario.act(run)
    except TimeoutError as error:
        run.late.append(f"the scenario could not go on: {error!r}")
    await run.quiet()
    row = Row(scenario.name, len(clients.order_ids), run.faults, [], late=run.late, notes=run.notes)
    row.violations = await asyncio.to_thread(verify.violations, fleet, clients)
    lives = verify.lives(fleet, clients)
    sooner = DEFAULT_LEASE - float(fleet.environment["ORDER_LEASE_SECONDS"])
    for name, bound in scenario.bounds.items():
        taken = measure(name, run, lives)
        least = bound - sooner if name in {"ends", "taken over", "progress"} else bound
        found = Measured(name, least, len(taken), **verify.spread(taken))
        row.measured.append(found)
        worst = found.p99 if name == "lags" else found.max
        if worst is None:
            row.late.append(f"{name}: there was nothing to measure")
        elif worst > least:
            row.late.append(f"{name}: {worst:.1f} s, more than {least:g} s")
            row.late += [f"{name}: {story}" for story in verify.stories(lives, run.crashed, least)]
    await clients.close()
    row.seconds = time.monotonic() - begun
    return row


async def faults(chosen: list[Scenario], seed: str, *, long: bool, lanes: int) -> list[Row]:
    """One scenario after the other; in each lane on a fleet of its own."""
    left = list(chosen)
    rows: list[Row] = []

    async def lane() -> None:
        environment = {**(LONG if long else SHORT), "DEX_SEED": seed}
        async with Fleet(environment, starts=250 if long else 600).running() as fleet:
            while left:
                row = await carry_out(left.pop(0), fleet, seed, long=long)
                rows.append(row)
                tell(row)
                await fleet.until_ready()

    await asyncio.gather(*(lane() for _ in range(min(lanes, len(chosen)))))
    return sorted(rows, key=lambda row: [s.name for s in SCENARIOS].index(row.fault))


async def negative_controls(
    chosen: list[controls.Control], seed: str, *, long: bool
) -> list[controls.Outcome]:
    """One after the other, in the long form on the unbroken engine as well."""
    found = []
    for control in chosen:
        for broken in (True, False) if long else (True,):
            outcome = await controls.try_out(control, seed, broken=broken)
            console.print(str(outcome), style=None if outcome.as_expected else "red")
            found.append(outcome)
    return found


def tell(row: Row) -> None:
    verdict = "ok" if not row.wrong else f"BROKEN ({len(row.wrong)})"
    console.print(
        f"{row.fault:<26} {verdict:<12} {row.orders:4} orders, {row.faults:4} faults, "
        f"{row.seconds:4.0f} s  {'; '.join(row.notes)}"
    )
    for violation in row.wrong[:10]:
        console.print(f"    {violation}", style="red")


def only_late(row: Row) -> bool:
    """What was promised holds, and its time does not: of a machine with two cores that carries
    three stacks that may be the machine's, so it counts only if it happens again alone."""
    return bool(row.late) and not row.violations


def report(rows: list[Row]) -> Table:
    columns = ("fault", "orders", "faults", "measured", "of", "p50", "p99", "max", "bound", "wrong")
    table = Table(*columns)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        first = [row.fault, str(row.orders), str(row.faults)]
        last = [str(len(row.wrong))]
        for found in row.measured:
            seconds = ["-" if s is None else f"{s:.2f}" for s in (found.p50, found.p99, found.max)]
            table.add_row(*first, found.name, str(found.count), *seconds, f"{found.bound:g}", *last)
            first, last = ["", "", ""], [""]
    return table


def commit() -> str:
    """Of the tree that is tested, with a + where it was changed."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "unknown"


async def work(options: argparse.Namespace) -> int:
    """The number of scenarios and controls that did not turn out as they should."""
    begun = time.monotonic()
    if this := asyncio.current_task():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    chosen = [s for s in SCENARIOS if options.only.lower() in s.name.lower()]
    broken = [c for c in controls.CONTROLS if options.only.lower() in str(c).lower()]
    if not chosen and not broken:
        sys.exit(f"--only {options.only}: no scenario or control is called so; --list names them")
    console.print(f"seed {options.seed}, commit {commit()}, {os.cpu_count()} cores")
    rows, found = await asyncio.gather(
        faults(chosen, options.seed, long=options.long, lanes=options.lanes),
        negative_controls(broken, options.seed, long=options.long),
    )
    if late := [s for s in chosen if s.name in {r.fault for r in rows if only_late(r)}]:
        console.print("over a bound of time beside the others; once more, alone:")
        rows = [row for row in rows if not only_late(row)]
        rows += await faults(late, options.seed, long=options.long, lanes=1)
    if unseen := {outcome.name for outcome in found if outcome.broken and not outcome.as_expected}:
        console.print("a bug was put in and not seen; once more, alone:")
        found = [outcome for outcome in found if outcome.name not in unseen]
        again = [control for control in broken if control.name in unseen]
        found += await negative_controls(again, options.seed, long=options.long)
    if rows:
        console.print(report(rows))
    minutes = (time.monotonic() - begun) / 60
    for row in rows:
        if row.wrong:
            tell(row)  # again: whoever reads the end of a log alone is to know why
    console.print(f"seed {options.seed}, {minutes:.1f} minutes")
    if options.json:
        results: dict[str, Any] = {"seed": options.seed, "commit": commit(), "long": options.long}
        results["rows"] = [asdict(row) for row in rows]
        results["controls"] = [asdict(outcome) for outcome in found]
        options.json.write_text(json.dumps(results, indent=1))
    failed = sum(bool(row.wrong) for row in rows) + sum(not o.as_expected for o in found)
    print(f"{len(rows) + len(found) - failed} passed, {failed} failed")  # noqa: T201
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--long", action="store_true", help="the whole dose, at default delays")
    parser.add_argument("--lanes", type=int, default=2, help="scenarios at once (default 2)")
    parser.add_argument("--seed", default=str(random.randrange(10**6)))
    parser.add_argument("--only", default="", help="scenarios and controls with this in their name")
    parser.add_argument("--list", action="store_true", help="name them and stop")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    if options.list:
        console.print("\n".join([*(s.name for s in SCENARIOS), *map(str, controls.CONTROLS)]))
        return
    try:
        sys.exit(asyncio.run(work(options)) > 0)
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)


if __name__ == "__main__":
    main()
