"""`manage.py up`: the whole stack in the foreground."""

import asyncio
import logging
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import redis
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.http.request import validate_host

from dex.signer import KeypairFileError, read_keypair
from lean import allow_open_files
from orderengine import proxy
from orderengine.embedded import EmbeddedError, Stack
from orderengine.embedded.server import HOST, free_port, port_is_free
from orderengine.files import take_lock
from orderengine.supervisor import Child, Supervisor, command, ending_signals

MANAGE = [sys.executable, "manage.py"]
LEAN = [sys.executable, "-m", "lean"]  # with the options that lean.py has
CELERY = ["celery", "-A", "orderengine"]
FLOWER = [sys.executable, "-m", *CELERY, "--quiet", "flower"]
DAPHNE = [*LEAN, "daphne"]
# Connections that wait to be taken. With Daphne's 50 the rest of a burst tries again in a second.
DAPHNE_BACKLOG = 1024
WORKER = [*LEAN, *CELERY, "worker"]
DISPATCHER = [*LEAN, "manage", "dispatcher"]
SERVER_STOP_SECONDS = 1.0  # after the supervisor's grace, so that all is over within 10 s
SLOW_START_SECONDS = 30.0
PORTS = Path(tempfile.gettempdir()) / f"orderengine-{os.getuid()}"


@dataclass(frozen=True)
class Web:
    """The processes that serve HTTP and WebSockets, and the ports of those behind a proxy."""

    commands: dict[str, list[str]]
    behind: dict[str, int] = field(default_factory=dict)


class Command(BaseCommand):
    help = "Runs web, workers, dispatcher and Flower in the foreground until Ctrl-C."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-flower", action="store_true", help="do not start Flower")
        parser.add_argument(
            "--fast", action="store_true", help="REST on uvicorn behind nginx, see docs/scaling.md"
        )
        parser.add_argument("--workers", type=int, default=1, help="worker processes (default 1)")

    def handle(self, *_: Any, no_flower: bool, fast: bool, workers: int, **__: Any) -> None:
        if fast and (missing := proxy.missing()):
            raise CommandError(f"--fast needs {' and '.join(missing)}")
        if workers < 0:
            raise CommandError(f"--workers {workers}: a number from 0 on is expected")
        with ExitStack() as ports:
            if not hold_port(settings.PORT, ports):
                raise CommandError(f"port {settings.PORT} on {HOST} is busy: free it, or set PORT")
            check_key()
            allow_open_files()  # the proxy and the servers inherit it
            logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of each request
            interrupt_on_signals()
            try:
                run_stack(workers, 0 if no_flower else choose_flower_port(ports), fast=fast)
            except KeyboardInterrupt:
                pass
            except (EmbeddedError, OSError) as error:
                raise CommandError(str(error)) from error


def hold_port(port: int, ports: ExitStack) -> bool:
    """Whether the port is free, and from now on no other stack's either.

    Its server listens seconds later; another stack that starts meanwhile would say it is ready.
    """
    try:
        PORTS.mkdir(mode=0o700, exist_ok=True)
        if (found := PORTS.lstat()).st_uid != os.getuid() or found.st_mode & 0o022:
            raise CommandError(f"{PORTS} is not ours alone: remove it, or set TMPDIR")
        held = take_lock(PORTS / f"{port}.lock")
    except BlockingIOError:
        return False
    except OSError as error:
        raise CommandError(
            f"{error.filename}: {error.strerror}: remove it, or set TMPDIR"
        ) from None
    ports.enter_context(held)
    return port_is_free(port)


def run_stack(workers: int, flower_port: int, *, fast: bool = False) -> None:
    """Returns after Ctrl-C, when nothing of the stack runs any more."""
    os.environ.clear()  # a stack that was killed has told of itself, see settings.py
    os.environ.update(settings.SET_BY_USER)
    stack = Stack(settings.DATA_DIR, settings.SET_BY_USER)
    try:
        stack.start()
        prepare_database(stack.env)
        web = fast_web(stack.data_dir) if fast else default_web()
        asyncio.run(serve(stack, web, workers, flower_port))
    finally:
        interrupt_on_signals()
        stack.stop(SERVER_STOP_SECONDS)


def default_web() -> Web:
    """Daphne alone."""
    return Web({"web": [*daphne(settings.PORT), "orderengine.asgi:application"]})


def daphne(port: int) -> list[str]:
    """Without the application."""
    return [*DAPHNE, "--endpoint", f"tcp:port={port}:interface={HOST}:backlog={DAPHNE_BACKLOG}"]


def fast_web(data_dir: Path) -> Web:
    """REST on uvicorn, the sockets on Daphne, nginx before both."""
    rest, sockets = free_port(), free_port()
    front = proxy.nginx(
        data_dir / "nginx",
        listen=f"{HOST}:{settings.PORT}",
        rest=f"{HOST}:{rest}",
        sockets=f"{HOST}:{sockets}",
        origins=settings.CORS_ALLOWED_ORIGINS,
        behind_proxy=settings.BEHIND_PROXY,
    )
    where = ["--host", HOST, "--port", str(rest)]
    commands = {
        "rest": [*proxy.UVICORN, *where, "orderengine.rest:application"],
        "sockets": [*daphne(sockets), "--proxy-headers", "orderengine.asgi:application"],
        "proxy": front,
    }
    return Web(commands, behind={"rest": rest, "sockets": sockets})


def children(stack: Stack, web: Web, workers: int, flower_port: int) -> list[Child]:
    """The processes of the stack, in the order in which they start."""
    concurrency = str(settings.CELERY_WORKER_CONCURRENCY)
    table = dict(web.commands)
    for number in range(1, workers + 1):
        name = "worker" if workers == 1 else f"worker{number}"
        table[name] = [*WORKER, "--concurrency", concurrency, "-n", f"worker{number}@%h"]
    table["dispatcher"] = DISPATCHER
    env = stack.env
    if flower_port:
        env = {**env, "FLOWER_URL": settings.FLOWER_URL or flower_url(flower_port)}
        where = [f"--address={HOST}", f"--port={flower_port}"]
        table["flower"] = [*FLOWER, *where, "--logging=warning"]
    return [
        *(Child(name=s.name, spawn=s.spawn, process=s.process, owned=False) for s in stack.servers),
        *(child(name, argv, env) for name, argv in table.items()),
    ]


def child(name: str, argv: list[str], env: Mapping[str, str]) -> Child:
    if name != "proxy":
        return Child(name=name, spawn=command(argv, env, settings.BASE_DIR))
    spawn = command(argv, env, settings.BASE_DIR, proxy.DEATH_SIGNAL)
    return Child(name=name, spawn=spawn, stop_signal=proxy.STOP_SIGNAL)


async def serve(stack: Stack, web: Web, workers: int, flower_port: int) -> None:
    """Runs the children until a signal, and says when they are ready."""
    supervisor = Supervisor(children(stack, web, workers, flower_port))
    text = banner(stack.env, flower_port, web.behind)
    announcement = asyncio.create_task(announce(supervisor, text, web.behind))
    await supervisor.run()
    announcement.cancel()


async def announce(supervisor: Supervisor, text: str, behind: Mapping[str, int]) -> None:
    """Shows the text once the stack is ready; says why not when that takes long."""
    loop = asyncio.get_running_loop()
    for port in (*behind.values(), settings.PORT):
        patience = loop.time() + SLOW_START_SECONDS
        while (state := await readiness(port)) != "200":
            if loop.time() > patience:
                where = f"{base_url(port)}/health/ready"
                supervisor.say(f"not ready yet: {where} answers {state}")
                patience += SLOW_START_SECONDS
            await asyncio.sleep(0.2)
    supervisor.say(text)


async def readiness(port: int) -> str:
    """The status of /health/ready, with its body when it is not 200."""
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            url = f"{base_url(port)}/health/ready"
            answer = await client.get(url, headers={"Host": served_as()}, timeout=3)
        except httpx.HTTPError as error:
            return f"nothing ({error})"
    return "200" if answer.status_code == 200 else f"{answer.status_code} {answer.text[:300]}"


def served_as() -> str:
    """A name of this stack that it answers to: ALLOWED_HOSTS need not have this machine's."""
    names = settings.ALLOWED_HOSTS
    return HOST if not names or validate_host(HOST, names) else names[0].removeprefix(".")


def base_url(port: int | None = None) -> str:
    """Of the whole stack, unless another port is given."""
    return f"http://{HOST}:{port or settings.PORT}"


def flower_url(port: int) -> str:
    return f"http://{HOST}:{port}/"


def banner(env: Mapping[str, str], flower_port: int, behind: Mapping[str, int]) -> str:
    """Where everything is, and two lines to paste."""
    user, _, password = env["FLOWER_BASIC_AUTH"].partition(":")
    login = f"    {user} / {password}  (development only)" if settings.DEVELOPMENT else ""
    name = user if settings.DEVELOPMENT else "NAME --new-user"
    key = ' -H "Authorization: Bearer $API_KEY"' if settings.API_AUTH_REQUIRED else ""
    host = "" if served_as() == HOST else f" -H 'Host: {served_as()}'"
    body = '{"tokenIn":"SOL","tokenOut":"USDC","amount":"1.5","slippage":0.01}'
    lines = [
        "",
        f"desk     {base_url()}/",
        f"API      {base_url()}/api/docs",
        f"admin    {base_url()}/admin/{login}",
        *([f"Flower   {flower_url(flower_port)}{login}"] if flower_port else []),
        f"health   {base_url()}/health",
        *(f"metrics  {base_url(port)}/metrics  ({name})" for name, port in behind.items()),
        "",
        *(
            ["make a key:", f"  export API_KEY=$({manage_line(f'apikey create {name}')})"]
            if key
            else []
        ),
        "place an order:",
        f"  curl -s {base_url()}/api/orders/execute{host}{key}"
        f" -H 'Content-Type: application/json' -d '{body}'",
        "follow it:",
        f"  {manage_line('watch <orderId>')}",
        "",
    ]
    return "\n".join(lines)


def manage_line(arguments: str) -> str:
    """A command of this stack, as typed in the project's folder."""
    python = Path(sys.executable)
    if python.is_relative_to(settings.BASE_DIR):
        python = python.relative_to(settings.BASE_DIR)
    told = {name: os.environ[name] for name in ("DATA_DIR", "PORT") if name in os.environ}
    changed = [f"{name}={shlex.quote(value)} " for name, value in told.items()]
    return f"{''.join(changed)}{shlex.quote(str(python))} manage.py {arguments}"


def prepare_database(env: Mapping[str, str]) -> None:
    """Migrates, and in development adds the user `operator` for admin and Flower."""
    check_reachable(env)
    manage(env, "migrate", "--no-input", "--verbosity", "0")
    if settings.DEVELOPMENT:
        user, _, password = env["FLOWER_BASIC_AUTH"].partition(":")
        account = {
            "DJANGO_SUPERUSER_USERNAME": user,
            "DJANGO_SUPERUSER_PASSWORD": password,
            "DJANGO_SUPERUSER_EMAIL": f"{user}@localhost",
        }
        manage({**env, **account}, "createsuperuser", "--no-input", accept="already taken")


def check_key() -> None:
    """Without the key that DEX_KEYPAIR_FILE names, each worker would end as it starts."""
    if settings.DEX.keypair_file is not None:
        try:
            read_keypair(settings.DEX.keypair_file)
        except KeypairFileError as error:
            raise CommandError(f"DEX_KEYPAIR_FILE: {error}") from None


def check_reachable(env: Mapping[str, str]) -> None:
    """Names the server that does not answer, which Django's connection pool would not."""
    try:
        psycopg.connect(env["DATABASE_URL"], connect_timeout=3).close()
        with redis.Redis.from_url(env["REDIS_URL"], socket_timeout=3) as client:
            client.ping()
    except psycopg.Error as error:
        raise CommandError(f"DATABASE_URL does not work: {first_line(str(error))}") from error
    except (redis.RedisError, ValueError) as error:
        raise CommandError(f"REDIS_URL does not work: {first_line(str(error))}") from error


def manage(env: Mapping[str, str], *arguments: str, accept: str = "") -> None:
    """Runs a `manage.py` command, silent unless it fails for a reason other than `accept`."""
    done = subprocess.run(  # noqa: S603
        [*MANAGE, *arguments],
        cwd=settings.BASE_DIR,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 and not (accept and accept in done.stderr):
        raise CommandError(f"manage.py {arguments[0]} failed: {last_line(done.stderr)}")


def first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "no reason given")


def last_line(text: str) -> str:
    return next(reversed(text.strip().splitlines()), "no reason given")


def choose_flower_port(ports: ExitStack) -> int:
    """FLOWER_PORT while it is free, else any free port."""
    wanted: int = settings.FLOWER_PORT
    return wanted if wanted != settings.PORT and hold_port(wanted, ports) else free_port()


def interrupt_on_signals() -> None:
    """Makes SIGTERM end what runs outside the supervisor as Ctrl-C does."""
    for signum in ending_signals():
        signal.signal(signum, signal.default_int_handler)
