"""What must be true afterwards, from the database and from the clients' own logs."""

import re
import statistics
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from orders import reconcile
from tests.faults.clients import TERMINAL, Clients, moment
from tests.faults.fleet import Fleet

IN_EXECUTION = {"routing", "building", "submitted"}
EVENTS = """
SELECT order_id, status, previous_status, attempt, extract(epoch FROM created_at)::float AS at,
       data ->> 'retryAt' AS retry_at
FROM orders_orderevent WHERE order_id = ANY(%s) ORDER BY order_id, seq
"""
# What no fault may bring a process to say.
BUGS = re.compile(r"execution\.bug|request\.bug|Unrecoverable error|Traceback")
FINAL = "SELECT id, status, seq FROM orders_order WHERE id = ANY(%s)"


@dataclass(frozen=True)
class Step:
    """An event of an order, and from when on the next one could have come."""

    status: str
    attempt: int
    at: float
    due: float
    starts: bool


Lives = dict[str, list[Step]]


def lives(fleet: Fleet, clients: Clients) -> Lives:
    found: Lives = defaultdict(list)
    for row in fleet.sql(EVENTS, [list(clients.order_ids.values())]):
        due = moment(row["retry_at"]) if row["retry_at"] else row["at"]
        starts = (row["previous_status"], row["status"]) == ("pending", "routing")
        step = Step(row["status"], row["attempt"], row["at"], due, starts)
        found[row["order_id"]].append(step)
    return found


def progress(lives: Lives, moments: list[float]) -> list[float]:
    """Seconds from each moment to the next event of each order that was in execution then."""
    return [
        after.at - moment
        for moment in moments
        for steps in lives.values()
        for before, after in pairwise(steps)
        if before.at <= moment < after.at and before.status in IN_EXECUTION
    ]


def ends(lives: Lives, crashed: dict[str, float], fences: dict[str, int]) -> list[float]:
    """Seconds from the crash of an order's worker to the order's end.

    Of orders that one worker was lost with: those that others were lost with as well take longer.
    So do those that come to a third attempt: the chain waits for a transaction that it dropped.
    """
    last = {order_id: lives[order_id][-1] for order_id in crashed}
    return [
        last[order_id].at - at
        for order_id, at in crashed.items()
        if last[order_id].attempt <= 2 and fences[order_id] <= last[order_id].attempt + 1
    ]


def stories(lives: Lives, crashed: dict[str, float], longest: float) -> list[str]:
    """Of the orders that ended later than so many seconds after their crash: step by step."""
    return [
        f"{order_id}: "
        + ", ".join(
            f"{step.status} {step.attempt} at {step.at - at:.1f} s" for step in lives[order_id]
        )
        for order_id, at in crashed.items()
        if lives[order_id][-1].at - at > longest
    ]


def fences(fleet: Fleet, clients: Clients) -> dict[str, int]:
    """How often each order was claimed: once an attempt, and once more for each takeover."""
    claimed = "SELECT id, fence FROM orders_order WHERE id = ANY(%s)"
    rows = fleet.sql(claimed, [list(clients.order_ids.values())])
    return {row["id"]: row["fence"] for row in rows}


def takeovers(fleet: Fleet, clients: Clients) -> int:
    """How many claims of these orders took over from another worker."""
    claimed = "SELECT sum(greatest(fence - attempt, 0)) AS n FROM orders_order WHERE id = ANY(%s)"
    return int(fleet.sql(claimed, [list(clients.order_ids.values())])[0]["n"] or 0)


def starts(lives: Lives, moments: list[float]) -> list[float]:
    """Seconds that orders waited for a start after each moment, of those that were due by then.

    Due a little later counts as well: nobody may have been there to see it. Without any moment,
    of all orders.
    """
    return [
        after.at - max(moment, before.due)
        for moment in moments or [0.0]
        for steps in lives.values()
        for before, after in pairwise(steps)
        if before.status == "pending"
        and (not moments or before.at <= moment + 5)
        and after.at > moment
    ]


def again(lives: Lives, moments: list[float]) -> list[float]:
    """Seconds from each moment to the first start of any order after it."""
    started = sorted(step.at for steps in lives.values() for step in steps if step.starts)
    firsts = ((moment, next((at for at in started if at > moment), None)) for moment in moments)
    return [at - moment for moment, at in firsts if at is not None]


def violations(fleet: Fleet, clients: Clients) -> list[str]:
    """Of the orders of these clients, and of the whole database."""
    wrong = list(clients.violations)
    final = {row["id"]: row for row in fleet.sql(FINAL, [list(clients.order_ids.values())])}
    for name, order_id in clients.order_ids.items():
        if order_id not in final:
            wrong.append(f"{order_id} ({name}) was answered with 201 and is lost")
        elif final[order_id]["status"] not in TERMINAL:
            wrong.append(f"{order_id} ({name}) is still {final[order_id]['status']}")
    for heard in clients.heard:
        row = final.get(heard.order_id)
        if heard.done and row and (heard.last, heard.statuses[-1]) != (row["seq"], row["status"]):
            wrong.append(f"{heard.order_id}: a socket heard {heard.last} events of {row['seq']}")
    return wrong + bugs(fleet) + broken_invariants(fleet)


def bugs(fleet: Fleet) -> list[str]:
    """In what the processes have said since this was asked last."""
    said = fleet.said()
    return [f"in a log: {line[:300]}" for line in said.splitlines() if BUGS.search(line)]


def broken_invariants(fleet: Fleet) -> list[str]:
    findings = reconcile.examine(fleet.sql, concurrency=fleet.concurrency, starts=fleet.starts)
    return [
        f"{finding.invariant.name}: {finding.violations}, such as {finding.examples[0]}"
        for finding in findings
        if finding.violations
    ]


def spread(seconds: list[float]) -> dict[str, Any]:
    """p50, p99 and the largest."""
    if not seconds:
        return {"p50": None, "p99": None, "max": None}
    percentiles = statistics.quantiles(seconds * 2, n=100, method="inclusive")
    return {"p50": percentiles[49], "p99": percentiles[98], "max": max(seconds)}
