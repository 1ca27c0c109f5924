"""Sockets are told everything, in order and once, in as many worlds as there are seeds.

    STREAM_SEEDS=0-5000 .venv/bin/python -m pytest -n 2 tests/engine/test_streams_simulated.py

A failure names its seed and tells its story: STREAM_SEEDS=4711 tells it again.
"""

import os

import pytest

from tests.engine.streams import Simulation

FIRST, _, END = os.environ.get("STREAM_SEEDS", "0-75").partition("-")
SEEDS = range(int(FIRST), int(END or int(FIRST) + 1))
TOGETHER = 5  # for each test has its limit of time


@pytest.mark.parametrize("first", SEEDS[::TOGETHER])
def test_every_socket_is_told_all_in_order_and_once(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(first, min(first + TOGETHER, SEEDS.stop)):
        simulation = Simulation(seed)

        simulation.run(monkeypatch)

        assert not simulation.violations, simulation.report()
