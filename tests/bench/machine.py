"""What it was measured on: a figure without its machine, versions and commit says little."""

import os
import platform
import re
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from orderengine.embedded.postgres import postgres_binary
from orderengine.embedded.redis import redis_binary
from tests.bench.stack import ROOT

PACKAGES = ("django", "djangorestframework", "channels", "channels-redis", "daphne", "celery",
            "kombu", "redis", "psycopg", "twisted")  # fmt: skip


def machine() -> dict[str, Any]:
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memoryGiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "cpu": cpu_model(),
        "kernel": platform.release(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


class Others:
    """What programs that are no part of the bench take of the processors meanwhile."""

    def __init__(self) -> None:
        self.begun, self.busy, self.own = time.monotonic(), busy(), own()

    def share(self) -> float:
        """From 0 to 1, of all processors; once the bench's own processes have ended."""
        seconds = (time.monotonic() - self.begun) * len(os.sched_getaffinity(0))
        return max(0.0, (busy() - self.busy - (own() - self.own)) / seconds)


def busy() -> float:
    """Seconds that the processors of this machine have worked."""
    spent = psutil.cpu_times()
    return float(spent.user + spent.nice + spent.system + spent.irq + spent.softirq)


def own() -> float:
    """Those of this process and all that it started and saw the end of."""
    return sum(os.times()[:4])


def cpu_model() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.processor()


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "postgresql": first_number(str(postgres_binary("postgres")), "--version"),
        "redis-server": first_number(str(redis_binary()), "--version"),
    }


def first_number(*command: str) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else said.strip()


def commit() -> str:
    """The commit's short name; with a plus where files differ from it."""
    name = git("rev-parse", "--short=10", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no")
    return f"{name}{'+' if changed else ''}" if name else "unknown"


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def heading(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "commit": commit(),
        "takenAt": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "machine": machine(),
        "versions": versions(),
        "settings": settings,
    }
