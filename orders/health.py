"""Is the engine able to take and to run orders?"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from pkgutil import iter_modules
from threading import Lock
from typing import NamedTuple

import redis
import structlog
from celery import current_app
from django.apps import apps
from django.conf import settings

from dex.postgres import READ_ONLY, takes_no_writes
from orders import database

log = structlog.get_logger(__name__)

PING_SECONDS = 1.0
# An answer is reused for this long, so that nobody can load the broker by asking.
REMEMBER_SECONDS = 1.0


def database_answers() -> None:
    """And takes writes: one that has become a standby answers as well."""
    found = database.rows(READ_ONLY, {})
    if found[0]["read_only"] == "on":
        raise takes_no_writes("it has become a standby")


def redis_answers() -> None:
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=0.5, socket_timeout=0.5
    ) as client:
        client.set("health", "writable", ex=10)  # one that is full, or a replica, answers pings


def worker_answers() -> None:
    if not current_app.control.ping(timeout=PING_SECONDS, limit=1):
        raise TimeoutError("no worker answers")


def migrations_applied() -> None:
    applied = database.rows("SELECT app, name FROM django_migrations", {})
    missing = migrations() - {(row["app"], row["name"]) for row in applied}
    if missing:
        raise RuntimeError(f"{len(missing)} migrations are missing: run manage.py migrate")


@cache
def migrations() -> frozenset[tuple[str, str]]:
    """(app, name) of all there are. Django's own loader would load them, and they would stay."""
    return frozenset(
        (app.label, module.name)
        for app in apps.get_app_configs()
        for module in iter_modules([str(Path(app.path) / "migrations")])
        if module.name[0] not in "_~"  # Django takes those for helpers
    )


Check = Callable[[], None]
HEALTH: dict[str, Check] = {
    "database": database_answers,
    "redis": redis_answers,
    "worker": worker_answers,
}
READINESS: dict[str, Check] = {
    "database": database_answers,
    "redis": redis_answers,
    "migrations": migrations_applied,
}

# Each check is made by one at a time: a thread for each.
_threads = ThreadPoolExecutor(len({*HEALTH, *READINESS}), thread_name_prefix="health")
_lock = Lock()
_asked: dict[str, "Future[Answer]"] = {}


class Answer(NamedTuple):
    """ "ok" or "failed", and until when it is reused, of time.monotonic()."""

    text: str
    until: float


async def report(checks: dict[str, Check]) -> dict[str, str]:
    """ "ok" or "failed" for each check; as slow as the slowest of them."""
    asked = {name: asyncio.wrap_future(ask(name, check)) for name, check in checks.items()}
    return {name: (await asyncio.shield(answer)).text for name, answer in asked.items()}


def ask(name: str, check: Check) -> "Future[Answer]":
    """The answer of a moment ago, or the next one: whoever asks meanwhile waits for the same.

    Anybody may ask, and many at once: each ping of the workers takes two of kombu's ten
    connections, and ten at once would wait for each other for ever.
    """
    with _lock:
        asked = _asked.get(name)
        if asked is None or (asked.done() and time.monotonic() >= asked.result().until):
            asked = _asked[name] = _threads.submit(run, name, check)
        return asked


def run(name: str, check: Check) -> Answer:
    text = "ok"
    try:
        check()
    except Exception as error:  # a check that cannot be made has failed, whatever the reason
        log.warning("health.failed", check=name, error=str(error).strip())
        text = "failed"
    return Answer(text, time.monotonic() + REMEMBER_SECONDS)
