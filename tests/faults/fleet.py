"""The real stack under a supervisor: what a fault is done to."""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import redis
from psycopg.rows import dict_row

import lean
from orderengine import supervisor
from orderengine.embedded import EmbeddedError, Stack
from orderengine.embedded.server import free_port
from orderengine.management.commands.up import MANAGE, WORKER, daphne, manage
from orderengine.supervisor import Child, Supervisor, command

ROOT = Path(__file__).parent.parent.parent


def injected(argv: Sequence[str]) -> list[str]:
    """The same command with tests/faults/inject.py around it."""
    argv = list(argv)
    if "-m" in argv:
        place = argv.index("-m") + 1
        program = [word for word in argv[place:] if word != "lean"]  # inject.py needs it whole
        return [*argv[:place], "tests.faults.inject", *lean.with_options(program)]
    return [argv[0], "-m", "tests.faults.inject", *argv[1:]]


@dataclass
class Fleet:
    """`webs` Daphnes, `workers` workers, `dispatchers`, PostgreSQL and Redis, all kept alive.

    `environment` is what the engine's processes are told beyond where their servers are;
    `concurrency` and `starts` are the limits that must hold, and hold by the claim.
    """

    environment: dict[str, str]
    concurrency: int = 10
    starts: int = 600
    webs: int = 2
    workers: int = 2
    dispatchers: int = 2
    home: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="faults-")))

    def __post_init__(self) -> None:
        self.marks = self.home / "marks"
        self.marks.mkdir(mode=0o755)
        self.stack = Stack(self.home, environ={})
        self.ports = [free_port() for _ in range(self.webs)]
        self.held: set[str] = set()
        self._read = 0
        self.extra: dict[str, dict[str, str]] = {}  # environment of one process from its next start
        self.children: dict[str, Child] = {}
        self.start_seconds = 0.0  # that all processes took, at once, on this machine today

    @property
    def env(self) -> dict[str, str]:
        own = {
            "FAULTS_DIR": str(self.marks),
            "PYTHONPATH": str(ROOT),
            "DEBUG": "true",
            "LOG_LEVEL": "info",
            "QUEUE_CONCURRENCY": str(self.concurrency),
            "QUEUE_RATE_LIMIT": str(self.starts),
        }
        return {**self.stack.env, **own, **self.environment}

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    # What is done to it -------------------------------------------------------------------------

    def pid(self, name: str) -> int:
        """0 while it is not running."""
        child = self.children[name]
        return child.process.pid if child.process is not None and child.alive else 0

    def kill(self, name: str) -> bool:
        """False when it was not running."""
        return self._signal(name, signal.SIGKILL)

    def freeze(self, name: str) -> None:
        """Stops a process and its children; they keep their connections and say nothing."""
        for process in self._family(name):
            process.send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        for process in self._family(name):
            process.send_signal(signal.SIGCONT)

    def hold_down(self, name: str) -> None:
        """Killed, and not started again before let_up()."""
        self.held.add(name)
        self.kill(name)

    def let_up(self, name: str) -> None:
        self.held.discard(name)

    def restart_with(self, name: str, **environment: str) -> None:
        self.extra[name] = environment
        self.kill(name)

    def flush_redis(self) -> None:
        with redis.Redis.from_url(self.stack.env["REDIS_URL"]) as client:
            client.flushall()

    def counted(self, mark: Path) -> int:
        """How often a fault of inject.py happened."""
        counted = self.marks / f"{mark.name}.counted"
        return counted.stat().st_size if counted.exists() else 0

    def output(self) -> str:
        return (self.home / "fleet.log").read_text()

    def said(self) -> str:
        """What came since the last time this was asked."""
        output = self.output()
        news, self._read = output[self._read :], len(output)
        return news

    def memory_mib(self, name: str) -> float:
        return float(psutil.Process(self.pid(name)).memory_info().rss / 2**20)

    def names(self, kind: str) -> list[str]:
        return [name for name in self.children if name.startswith(kind)]

    def _signal(self, name: str, signum: int) -> bool:
        pid = self.pid(name)
        if pid:
            os.kill(pid, signum)
        return bool(pid)

    def _family(self, name: str) -> list[psutil.Process]:
        first = psutil.Process(self.pid(name))
        return [first, *first.children(recursive=True)]

    # What it says -------------------------------------------------------------------------------

    def sql(self, query: str, params: Any = None) -> list[dict[str, Any]]:
        """On a connection of the harness, which waits as long as it takes."""
        with psycopg.connect(
            self.stack.env["DATABASE_URL"], row_factory=dict_row, autocommit=True
        ) as conn:
            cursor = conn.execute(query, params)
            return cursor.fetchall() if cursor.description else []

    # Its life -----------------------------------------------------------------------------------

    def commands(self) -> dict[str, list[str]]:
        table = {
            f"web{n}": [*daphne(port), "orderengine.asgi:application"]
            for n, port in enumerate(self.ports, 1)
        }
        for n in range(1, self.workers + 1):
            table[f"worker{n}"] = [
                *WORKER,
                "--concurrency",
                "10",
                "-n",
                f"worker{n}@{self.ports[0]}",
            ]
        for n in range(1, self.dispatchers + 1):
            table[f"dispatcher{n}"] = [*MANAGE, "dispatcher"]
        return {name: injected(argv) for name, argv in table.items()}

    def spawner(self, name: str, spawn: Callable[[], Any]) -> Callable[[], Any]:
        def unless_held() -> Any:
            if name in self.held:
                raise EmbeddedError("held down")
            return spawn()

        return unless_held

    def make_children(self) -> None:
        for server in self.stack.servers:
            spawn = self.spawner(server.name, server.spawn)
            self.children[server.name] = Child(
                name=server.name, spawn=spawn, process=server.process, owned=False
            )
        for name, argv in self.commands().items():

            def spawn(name: str = name, argv: list[str] = argv) -> Any:
                return command(argv, {**self.env, **self.extra.get(name, {})}, ROOT)()

            self.children[name] = Child(name=name, spawn=self.spawner(name, spawn))

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Fleet"]:
        """From nothing to ready, and back to nothing."""
        supervisor.FIRST_PAUSE = supervisor.LONGEST_PAUSE = 0.5
        try:
            # In a thread: other fleets are at work meanwhile. It must outlive what it starts.
            await asyncio.to_thread(self.stack.start)
            migrate = ("migrate", "--no-input", "--verbosity", "0")
            await asyncio.to_thread(manage, self.stack.env, *migrate)
            self.make_children()
            with (self.home / "fleet.log").open("w", buffering=1) as log:
                keeper = Supervisor(list(self.children.values()), output=log)
                begun = time.monotonic()
                keeping = asyncio.create_task(keeper.keep())
                try:
                    await self.until_ready()
                    self.start_seconds = time.monotonic() - begun
                    yield self
                finally:
                    for name in self.children:
                        with suppress(psutil.Error):
                            self.thaw(name)
                    keeper.stop()
                    await keeping
        finally:
            await asyncio.to_thread(self.stack.stop, timeout=2)
            if not os.environ.get("FAULTS_KEEP"):
                shutil.rmtree(self.home, ignore_errors=True)

    async def until_ready(self, seconds: float = 60) -> None:
        async with asyncio.timeout(seconds), httpx.AsyncClient(trust_env=False) as client:
            for url in self.urls:
                while not await healthy(client, url):  # noqa: ASYNC110 - another process's state
                    await asyncio.sleep(0.1)


async def healthy(client: httpx.AsyncClient, url: str) -> bool:
    """Database, Redis and a worker answer."""
    try:
        return (await client.get(f"{url}/health", timeout=5)).status_code == 200
    except httpx.HTTPError:
        return False
