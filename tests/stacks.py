"""Real processes for integration tests: web, worker and dispatcher on a database of their own."""

import itertools
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
from psycopg.rows import dict_row

from orderengine.embedded.server import free_port
from orderengine.management.commands.up import MANAGE, WORKER, daphne

ROOT = Path(__file__).parent.parent
redis_databases = itertools.count(1)  # one for each engine
ORDER = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5"}


def wait_until(condition: Callable[[], Any], seconds: float = 20.0, every: float = 0.05) -> Any:
    """The first truthy answer; fails after the deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s: {condition}")


@dataclass
class Running:
    """A running engine and what a client or operator can do to it."""

    port: int
    database_url: str
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/api/orders/execute"

    def start(self, name: str, argv: list[str]) -> None:
        self.processes[name] = subprocess.Popen(argv, cwd=ROOT, env=self.environment)

    def start_worker(self, name: str) -> None:
        self.start(name, [*WORKER, "-n", f"{name}@{self.port}"])

    def manage(self, *command: str) -> int:
        """Exit code of a manage.py command."""
        return subprocess.call([*MANAGE, *command], cwd=ROOT, env=self.environment)

    def place(self, **changes: Any) -> str:
        answer = httpx.post(f"{self.url}/api/orders/execute", json={**ORDER, **changes})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["orderId"])

    def place_batch(self, orders: int) -> list[str]:
        answer = httpx.post(f"{self.url}/api/orders/batch", json={"orders": [ORDER] * orders})
        assert answer.status_code == 201, answer.text
        return [order["orderId"] for order in answer.json()["results"]]

    def sql(self, query: str, *params: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.database_url, row_factory=dict_row, autocommit=True) as conn:
            return conn.execute(query, params or None).fetchall()

    def wait_for_all(self, seconds: float = 30.0) -> None:
        """Until every order is terminal."""
        unfinished = "SELECT 1 FROM orders_order WHERE completed_at IS NULL LIMIT 1"
        wait_until(lambda: not self.sql(unfinished), seconds)

    def statuses(self, order_id: str) -> list[str]:
        query = "SELECT status FROM orders_orderevent WHERE order_id = %s ORDER BY seq"
        return [row["status"] for row in self.sql(query, order_id)]


@contextmanager
def engine(database_url: str, *, workers: int = 1, **environment: str) -> Iterator[Running]:
    """The processes on a migrated database; all stopped at the end.

    Yields once the web process answers; orders wait for the others.
    """
    port = free_port()
    redis_url = urlsplit(os.environ["REDIS_URL"])._replace(path=f"/{next(redis_databases)}")
    env = {
        **os.environ,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url.geturl(),
        "PORT": str(port),
        **environment,
    }
    running = Running(port, database_url, env, {})
    try:
        for n in range(workers):
            running.start_worker(f"worker{n}")
        running.start("dispatcher", [*MANAGE, "dispatcher"])
        running.start("web", [*daphne(port), "orderengine.asgi:application"])
        wait_until(lambda: answers(f"{running.url}/health/live"), seconds=30)
        yield running
    finally:
        for process in reversed(running.processes.values()):
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
