"""What was measured: one number a run, its median and range, as a table and as JSON."""

import itertools
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

PERCENTS = (50, 95, 99)
PERCENTILE = re.compile(r"(.*), p\d+$")


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all are not above (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


def shown(value: float) -> str:
    """Three digits that say something: 1,234 · 12.3 · 0.123."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


@dataclass
class Figure:
    """One measure, with a value for each run."""

    name: str
    unit: str
    runs: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    @property
    def range(self) -> str:
        """Empty for a single run."""
        if len(self.runs) < 2:
            return ""
        return f"{shown(min(self.runs))}-{shown(max(self.runs))}"

    def as_json(self) -> dict[str, Any]:
        rounded = [float(f"{run:.4g}") for run in self.runs]
        return {
            "name": self.name,
            "unit": self.unit,
            "median": float(f"{self.median:.4g}"),
            "low": min(rounded),
            "high": max(rounded),
            "runs": rounded,
        }


class Figures:
    """All measures, in the order in which they were first taken."""

    def __init__(self) -> None:
        self._found: dict[str, Figure] = {}
        self.notes: list[str] = []

    def add(self, name: str, value: float, unit: str) -> None:
        self._found.setdefault(name, Figure(name, unit)).runs.append(value)

    def spread(self, name: str, values: Sequence[float]) -> None:
        """A figure for each of PERCENTS, of the milliseconds that one run had."""
        for percent in PERCENTS:
            self.add(f"{name}, p{percent}", percentile(values, percent), "ms")

    def note(self, text: str) -> None:
        """Something that a reader of the table must know; said once."""
        if text not in self.notes:
            self.notes.append(text)

    def __iter__(self) -> Iterator[Figure]:
        return iter(self._found.values())

    def as_json(self) -> list[dict[str, Any]]:
        return [figure.as_json() for figure in self]

    def table(self, before: Mapping[str, float] | None = None) -> Table:
        """With medians of an earlier run beside those of this one, if there are any."""
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("measure", no_wrap=True)
        for title in ("median", "range of runs", *(["before", "ratio"] if before else [])):
            table.add_column(title, justify="right", no_wrap=True)
        table.add_column("unit")
        for name, group in itertools.groupby(self, row):
            figures = list(group)
            columns = [[shown(f.median) for f in figures], [f.range for f in figures]]
            if before:
                pairs = [(f, before[f.name]) for f in figures if before.get(f.name)]
                columns += [[shown(e) for _, e in pairs], [f"{f.median / e:.2f}" for f, e in pairs]]
            cells = [" / ".join(filter(None, column)) for column in columns]
            table.add_row(name, *cells, figures[0].unit)
        return table


def row(figure: Figure) -> str:
    """The percentiles of one thing share a row."""
    found = PERCENTILE.match(figure.name)
    return f"{found[1]}, p{' / p'.join(map(str, PERCENTS))}" if found else figure.name


def medians(document: Mapping[str, Any]) -> dict[str, float]:
    """By name, of what `as_json` wrote."""
    return {figure["name"]: figure["median"] for figure in document["figures"]}
