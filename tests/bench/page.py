"""The table of docs/performance.md: `python -m tests.bench.page now.json fast.json`."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bench.figures import shown

OWN, ALL = "1,000 sockets with own orders", "one event to 1,000 sockets on scope: all"
# (what it is called there, the figures that it is the sum of, goal of the default and fast profile)
ROWS = [
    ("POST a second, 1 at once", ["POST, 1 at once"], "400 / 440"),
    ("16", ["POST, 16 at once"], "1,250 / 1,600"),
    ("64", ["POST, 64 at once"], "1,600 / 2,500"),
    ("an empty application on the same server, 64", ["empty application, 64 at once"], ""),
    ("POST p99 ms, 16 at once", ["POST, 16 at once, p99"], "45 / 35"),
    ("64", ["POST, 64 at once, p99"], "90 / 47"),
    ("POST a second with a key, 64", ["POST, with a key, 64 at once"], ""),
    ("POST, CPU ms of web", ["POST: CPU of web"], ""),
    ("of PostgreSQL", ["POST: CPU of postgres"], ""),
    ("batches of 50, orders/s, 1 at once", ["batch of 50, 1 at once"], ""),
    ("16", ["batch of 50, 16 at once"], "12,000"),
    ("execution with intake, orders/s", ["lifecycle with intake, 10 in execution"], "500 / 700"),
    ("placed before", ["lifecycle of orders placed before, 10 in execution"], ""),
    (
        "CPU ms an order, web + worker",
        ["lifecycle: CPU of web", "lifecycle: CPU of worker"],
        "1.9 / 1.4",
    ),
    (
        "PostgreSQL + Redis",
        ["lifecycle: CPU of postgres", "lifecycle: CPU of redis"],
        "1.1 / 1.0",
    ),
    ("100 orders at default delays, s", ["100 orders, default delays"], "28.5"),
    ("event to one of 1,000 sockets, p50 ms", [f"event to client, {OWN}, p50"], "1.5"),
    ("p99", [f"event to client, {OWN}, p99"], "5"),
    ("from publish, p50", [f"event to client, {OWN}, from publish, p50"], ""),
    ("p99", [f"event to client, {OWN}, from publish, p99"], ""),
    ("one event to all of 1,000 sockets, p50 ms", [f"{ALL}, p50"], "50"),
    ("p99", [f"{ALL}, p99"], "80"),
    ("RSS MiB, web idle", ["RSS of web, idle"], "100"),
    ("worker idle", ["RSS of worker, idle"], "100"),
    ("worker with 1,000 orders in flight", ["RSS of worker, 1,000 orders in flight"], "155"),
    ("GET an order a second, 16 at once", ["GET an order, 16 at once"], ""),
    ("p99 ms", ["GET an order, 16 at once, p99"], ""),
    ("GET a page of 50 orders, 16 at once", ["GET orders, 50 of them, 16 at once"], ""),
    ("GET stats, ms, 1,000 orders in the table", ["GET stats, 1,000 orders"], ""),
    ("1,000,000", ["GET stats, 1,000,000 orders"], "1.2 times"),
    ("GET a page of the list, ms, 1,000 orders", ["GET orders, 1,000 orders"], ""),
    ("1,000,000", ["GET orders, 1,000,000 orders"], "1.2 times"),
    ("claim, ms, 1,000 orders", ["claim, 1,000 orders"], ""),
    ("1,000,000", ["claim, 1,000,000 orders"], "1.2 times"),
    ("make up, first start, s", ["make up, first start"], ""),
    ("later start", ["make up, later start"], ""),
]


def cell(figures: Mapping[str, dict[str, Any]], names: list[str]) -> str:
    """The median and the range of the runs; of a sum the sums of medians alone."""
    found = [figures[name] for name in names if name in figures]
    if len(found) < len(names):
        return ""
    if len(found) > 1:
        return shown(sum(figure["median"] for figure in found))
    (one,) = found
    return f"{shown(one['median'])} ({shown(one['low'])}-{shown(one['high'])})"


def table(paths: list[Path]) -> str:
    """A column for each file of `make bench --json`."""
    files = [json.loads(path.read_text()) for path in paths]
    columns = [{figure["name"]: figure for figure in file["figures"]} for file in files]
    commits = [
        f"{path.stem}, `{file['commit'][:7]}`" for path, file in zip(paths, files, strict=True)
    ]
    rows = [["measure", *commits, "goal: default / fast"], ["---"] * (len(columns) + 2)]
    for title, names, goal in ROWS:
        cells = [cell(figures, names) for figures in columns]
        if any(cells):
            rows.append([title, *cells, goal])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    sys.stdout.write(table([Path(name) for name in sys.argv[1:]]))
