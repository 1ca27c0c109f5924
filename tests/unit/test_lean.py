"""What lean.py leaves out is not loaded, and nothing that is loaded misses it."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from resource import RLIM_INFINITY as INFINITY

import pytest

import lean

ROOT = Path(__file__).parents[2]
LOADED = """
import importlib, sys, lean
lean.leave_out(sys.argv[1])
import django, orderengine
django.setup()
for name in sys.argv[2:]:
    importlib.import_module(name)
print(*(name for name, module in sys.modules.items() if getattr(module, "__file__", None)))
"""


def loaded(program: str, *modules: str) -> set[str]:
    """What is there after the program has imported these."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, program, *modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_a_worker_loads_nothing_of_a_web_server() -> None:
    found = loaded("celery", "celery.bin.celery", "orderengine.consumer", "orders.tasks")

    assert {"celery.worker.consumer", "dex.signer", "orders.execution"} <= found
    assert not found & {*lean.NOWHERE, *lean.NOT_IN_BACKGROUND, *lean.STAND_INS}
    assert not found & {"daphne", "channels.auth", "django.contrib.admin", "orders.views"}
    assert not found & {"psutil", "orderengine.embedded"}


def test_the_web_loads_nothing_of_what_is_left_out() -> None:
    found = loaded("daphne", "daphne.cli", "orderengine.asgi", "orderengine.urls")

    assert {"daphne.server", "django.contrib.admin", "orders.views"} <= found
    assert not found & {*lean.NOWHERE, *lean.STAND_INS, "orders.openapi", "solders"}
    assert not found & {"psutil", "orderengine.embedded"}


@pytest.mark.parametrize(("module", "name"), lean.STAND_INS.items())
def test_a_stand_in_has_the_name_that_the_real_module_has(module: str, name: str) -> None:
    assert hasattr(import_module(module), name)


def test_what_is_left_out_says_where_that_is_decided() -> None:
    finder = lean.LeftOut({"requests"})

    with pytest.raises(ModuleNotFoundError, match=r"requests is left out .* lean\.py"):
        finder.find_spec("requests")
    assert finder.find_spec("json") is None


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["daphne", "-p", "3000", "a:b"], ["--websocket-max-message-size 65536", "-p 3000 a:b"]),
        (
            ["celery", "-A", "x", "worker", "-Q", "celery"],
            ["--quiet -A", "--pool threads", "-Q celery"],
        ),
        (["celery", "-A", "x", "flower"], ["celery --quiet -A x flower"]),
        (["manage", "dispatcher"], ["manage dispatcher"]),
    ],
)
def test_a_program_has_the_options_that_the_engine_needs(
    given: list[str], wanted: list[str]
) -> None:
    line = " ".join(lean.with_options(given))

    assert all(part in line for part in wanted)
    assert line.count("--quiet") == given.count("celery") - given.count("-Q")


def test_an_option_that_is_given_has_the_last_word() -> None:
    line = lean.with_options(["celery", "-A", "x", "worker", "--pool", "solo"])

    assert line.index("threads") < line.index("solo")
    assert line[-2:] == ["--pool", "solo"]


@pytest.mark.parametrize(
    ("granted", "most", "expected"),
    [
        (256, 4_000, (4_000, 4_000)),
        (256, 100_000, (lean.MOST_FILES, 100_000)),
        (256, INFINITY, (lean.MOST_FILES, INFINITY)),
        (90_000, 100_000, (90_000, 100_000)),
        (INFINITY, INFINITY, (INFINITY, INFINITY)),
    ],
)
def test_a_process_may_open_as_many_files_as_it_is_allowed(
    monkeypatch: pytest.MonkeyPatch, granted: int, most: int, expected: tuple[int, int]
) -> None:
    limits = (granted, most)

    def change(_: int, changed: tuple[int, int]) -> None:
        nonlocal limits
        limits = changed

    monkeypatch.setattr(lean.resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(lean.resource, "setrlimit", change)

    lean.allow_open_files()

    assert limits == expected
