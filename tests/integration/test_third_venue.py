"""A venue more is a file and a name in the registry: nothing else names it, and all of it works."""

import os
import subprocess
import sys

import pytest

from tests.stacks import ROOT

TESTS = (
    "tests/api/test_every_route.py",
    "tests/api/test_asyncapi.py",
    "tests/dex/test_venue_conformance.py",
)


@pytest.mark.fleet
@pytest.mark.timeout(200)
def test_a_third_venue_is_routed_stored_listed_and_described() -> None:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    plugins = ("-p", "tests.third_venue", "-p", "no:cacheprovider")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", *plugins, *TESTS],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    assert "test_every_filter_lists_it[meteora+orca_whirlpool] PASSED" in done.stdout
