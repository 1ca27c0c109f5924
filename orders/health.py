"""Is the engine able to take and to run orders?"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import redis
import structlog
from celery import current_app
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from orders import database

log = structlog.get_logger(__name__)

PING_SECONDS = 1.0
# An answer is reused for this long, so that nobody can load the broker by asking.
REMEMBER_SECONDS = 1.0


def database_answers() -> None:
    database.rows("SELECT 1 AS one", {})


def redis_answers() -> None:
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=0.5, socket_timeout=0.5
    ) as client:
        client.ping()


def worker_answers() -> None:
    if not current_app.control.ping(timeout=PING_SECONDS, limit=1):
        raise TimeoutError("no worker answers")


def migrations_applied() -> None:
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    finally:
        connection.close()  # this thread ends, and would take it along
    if missing:
        raise RuntimeError(f"{len(missing)} migrations are missing: run manage.py migrate")


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

_answers: dict[str, tuple[float, str]] = {}


def report(checks: dict[str, Check]) -> dict[str, str]:
    """ "ok" or "failed" for each check; as slow as the slowest of them."""
    with ThreadPoolExecutor(len(checks) or 1) as threads:
        answers = threads.map(remembered, checks.keys(), checks.values())
        return dict(zip(checks, answers, strict=True))


def remembered(name: str, check: Check) -> str:
    until, answer = _answers.get(name, (0.0, ""))
    if time.monotonic() >= until:
        answer = run(name, check)
        _answers[name] = (time.monotonic() + REMEMBER_SECONDS, answer)
    return answer


def run(name: str, check: Check) -> str:
    try:
        check()
    except Exception as error:  # a check that cannot be made has failed, whatever the reason
        log.warning("health.failed", check=name, error=str(error).strip())
        return "failed"
    return "ok"
