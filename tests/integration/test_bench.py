"""The bench, in the smallest doses, at an engine that others use."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import measures, streaming
from tests.bench.figures import Figures
from tests.bench.measures import Doses
from tests.bench.stack import Target
from tests.stacks import ROOT, Running

pytestmark = pytest.mark.fleet

TINY = Doses(runs=1, load_seconds=0.1, delay_seconds=1.5, followed=4)


async def test_it_measures_intake_and_delays_through_the_api_alone(
    running: Running, tmp_path: Path
) -> None:
    target, figures = Target(running.url), Figures()
    posted = await measures.place(target, 3, connections=2)
    await asyncio.to_thread(running.wait_for_all)  # the worker is there
    await streaming.own_orders(target, figures, TINY, 2, tmp_path)

    assert dict(posted.statuses) == {b"201": 3}
    assert 0 < posted.per_second < 10_000
    assert len(posted.took) == 3
    found = {figure.name: figure.median for figure in figures}
    name = "event to client, 2 sockets with own orders"
    assert -1 < found[f"{name}, p50"] <= found[f"{name}, p99"] < 1_500


def test_a_soak_counts_what_was_lost_and_what_each_process_grew_by() -> None:
    argv = [sys.executable, "-m", "tests.bench.soak", "--minutes", "0.1", "--rate", "20"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=90)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "orders acknowledged, 0 lost" in done.stdout
    assert done.stdout.count("MiB since the first fifth") == 3
