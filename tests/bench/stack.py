"""What is measured: a stack of the bench's own, or any base URL with the same API."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import redis
from psycopg.rows import dict_row

from orderengine.embedded.server import die_with_parent, free_port
from orderengine.files import STACK_FILE, read_env
from orderengine.management.commands.up import MANAGE
from tests.bench.load import BenchError
from tests.bench.usage import Usage

ROOT = Path(__file__).parent.parent.parent
READY_SECONDS = 60.0
STOP_SECONDS = 20.0
# What `manage.py up` is told for each profile.
PROFILES: dict[str, Sequence[str]] = {"default": (), "fast": ("--fast",)}
# The fleet's limits on starts, off: their code runs all the same. Ten in execution stay.
UNLIMITED = {"QUEUE_RATE_LIMIT": "0", "WORKER_RATE_LIMIT": "", "DEX_SEED": "bench"}
AT_ONCE = {**UNLIMITED, "DEX_QUOTE_LATENCY_MS": "0", "DEX_SWAP_LATENCY_MS": "0"}
# The tables that hold orders; what else there is stays.
EMPTY = "TRUNCATE orders_order, orders_tally, orders_measure, chain.transaction CASCADE"
UNFINISHED = "SELECT count(*) AS count FROM orders_order WHERE completed_at IS NULL"
IN_EXECUTION = f"{UNFINISHED} AND status <> 'pending'"


@dataclass
class Target:
    """An API somewhere, which tells of itself only what the API says."""

    base_url: str
    key: str = ""

    def get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        answer = httpx.get(f"{self.base_url}{path}", headers=headers, timeout=10, trust_env=False)
        if answer.status_code != 200:
            raise BenchError(f"GET {path} answered {answer.status_code}: {answer.text[:200]}")
        return answer.json()

    def unfinished(self) -> int:
        queue = self.get("/api/orders/stats")["queue"]
        return int(queue["waiting"] + queue["active"])


@dataclass
class Stack(Target):
    """A running `manage.py up` of this checkout."""

    env: Mapping[str, str] = None  # type: ignore[assignment]
    usage: Usage = None  # type: ignore[assignment]
    ready_after: float = 0.0  # seconds from the start of the command to /health/ready

    @property
    def database_url(self) -> str:
        return self.env["DATABASE_URL"]

    @property
    def redis_url(self) -> str:
        return self.env["REDIS_URL"]

    def sql(self, query: str, *params: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.database_url, row_factory=dict_row, autocommit=True) as conn:
            found = conn.execute(query, params or None)
            return found.fetchall() if found.description else []

    def unfinished(self) -> int:
        """Not through the API: its answer would cost the web process what is measured."""
        return int(self.sql(UNFINISHED)[0]["count"])

    def in_execution(self) -> int:
        return int(self.sql(IN_EXECUTION)[0]["count"])

    def empty(self) -> None:
        """No orders and no hints, as at the start. A worker that executes one gives it up."""
        self.sql(EMPTY)
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushdb()
        self.sql("CHECKPOINT")

    def make_key(self) -> None:
        """Every request is signed from here on."""
        argv = [*MANAGE, "apikey", "create", "bench", "--new-user"]
        done = subprocess.run(
            argv, cwd=ROOT, env=self.env, capture_output=True, text=True, check=True
        )
        self.key = done.stdout.split()[-1]


def clean_environment() -> dict[str, str]:
    """Without what the shell says about engines: .env.example names it all."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    ours = {line.split("=")[0] for line in lines if "=" in line and not line.startswith("#")}
    return {name: value for name, value in os.environ.items() if name not in ours}


@contextmanager
def stack(
    home: Path,
    settings: Mapping[str, str],
    *,
    profile: str = "default",
    workers: int = 1,
    manage: Sequence[str] = MANAGE,
    root: Path = ROOT,
) -> Iterator[Stack]:
    """`manage.py up` on a free port with its data in `home`; stopped, and empty, at the end."""
    argv = [*manage, "up", "--no-flower", "--workers", str(workers), *PROFILES[profile]]
    with started(argv, home, settings, root) as running:
        if workers:
            until_answers(running, "/health")
        try:
            yield running
        finally:
            running.empty()


@contextmanager
def started(
    argv: Sequence[str], home: Path, settings: Mapping[str, str], root: Path = ROOT
) -> Iterator[Stack]:
    """The command, once its /health/ready is green."""
    port = free_port()
    env = {**clean_environment(), **settings, "DATA_DIR": str(home), "PORT": str(port)}
    log = home / "up.log"
    home.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv,
            cwd=root,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - nothing else runs here
        )
    try:
        running = Stack(f"http://127.0.0.1:{port}")
        until_answers(running, "/health/ready", process, log)
        running.ready_after = time.perf_counter() - begun
        running.env = {**env, **read_env(home / STACK_FILE)}
        running.usage = Usage(process.pid)
        yield running
    finally:
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def until_answers(
    target: Target,
    path: str,
    process: "subprocess.Popen[bytes] | None" = None,
    log: Path | None = None,
) -> None:
    """Until it answers 200; raises BenchError when that takes too long, or the stack ended."""
    deadline = time.perf_counter() + READY_SECONDS
    why = ""
    while time.perf_counter() < deadline:
        if process is not None and process.poll() is not None:
            said = log.read_text().splitlines()[-1:] if log else []
            raise BenchError(f"the stack did not start: {' '.join(said)}")
        try:
            target.get(path)
        except (httpx.HTTPError, BenchError) as error:
            why = str(error)
            time.sleep(0.05)
        else:
            return
    raise BenchError(f"{target.base_url}{path} was not ready after {READY_SECONDS:g} s: {why}")
