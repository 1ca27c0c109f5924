"""A pytest plugin: real PostgreSQL and Redis, up before Django reads its settings."""

import gc
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from orderengine.embedded import Stack

SERVERS = pytest.StashKey[Stack]()

# What a test run fixes; a test that needs something else says so.
ENVIRONMENT = {
    "DEBUG": "true",
    "DEX_SEED": "tests",
    "DEX_QUOTE_LATENCY_MS": "0",
    "DEX_SWAP_LATENCY_MS": "0",
    "DEX_FAULTS": "",
    "LOG_LEVEL": "info",
    "WORKER_RATE_LIMIT": "",
}


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    many = getattr(early_config.known_args_namespace, "numprocesses", None)  # of xdist
    if many and "PYTEST_XDIST_WORKER" not in os.environ:
        return  # each of xdist's workers has servers of its own
    # Else each of xdist's workers rewrites every assert in every run.
    sys.dont_write_bytecode = False
    os.environ.update(ENVIRONMENT)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in the background of a shell
        signal.signal(signal.SIGINT, signal.default_int_handler)  # children are told by it
    # Servers of its own, whatever DATABASE_URL says: tests empty tables.
    seed = {"DEX_SEED": ENVIRONMENT["DEX_SEED"]}
    stack = Stack(Path(tempfile.mkdtemp(prefix="orders-tests-")), environ=seed)
    if stack.postgres is not None:  # what these tests break is never the power supply
        stack.postgres.settings |= {"fsync": "off", "synchronous_commit": "off"}
    if stack.redis is not None:  # one for each engine (tests/stacks.py)
        stack.redis.settings |= {"databases": "100"}
    stack.start()
    os.environ.update(stack.env)
    os.environ["DATA_DIR"] = str(stack.data_dir)
    early_config.stash[SERVERS] = stack


def pytest_collection_finish() -> None:
    """What is there now stays: thousands of tests, Django. No collection looks at it again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    if (stack := config.stash.get(SERVERS, None)) is not None:
        stack.stop()
        shutil.rmtree(stack.data_dir, ignore_errors=True)
