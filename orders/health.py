"""Is the engine able to take and to run orders?"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from pkgutil import iter_modules

import redis
import structlog
from celery import current_app
from django.apps import apps
from django.conf import settings

from orders import database

log = structlog.get_logger(__name__)

PING_SECONDS = 1.0
# An answer is reused for this long, so that nobody can load the broker by asking.
REMEMBER_SECONDS = 1.0


def database_answers() -> None:
    """And takes writes: one that has become a standby answers as well."""
    found = database.rows("SELECT current_setting('transaction_read_only') AS read_only", {})
    if found[0]["read_only"] == "on":
        raise RuntimeError("PostgreSQL takes no writes")


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
