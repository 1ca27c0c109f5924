"""The Celery application: `celery -A orderengine worker`."""

import os
import sys
from typing import Any

import structlog
from celery import Celery
from celery.signals import (
    heartbeat_sent,
    import_modules,
    setup_logging,
    worker_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from kombu.transport import TRANSPORT_ALIASES

from orderengine.garbage import keep_what_is_loaded
from orders import presence

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orderengine.settings")
# Flower would keep 100,000 in memory, 6 KB each, which is 17 hours at 100 a minute.
os.environ.setdefault("FLOWER_MAX_TASKS", "10000")
# Workers refuse what its buttons ask (consumer.py), and of Shut Down and Revoke it would say that
# they did: it shows no buttons, and its API answers 403.
os.environ.setdefault("FLOWER_READ_ONLY", "true")


@import_modules.connect
def refuse_wrong_settings(**_: object) -> None:
    """Before Celery's own receivers, whose errors `celery` logs with their stacks and goes on."""
    try:
        settings.INSTALLED_APPS  # noqa: B018
    except ImproperlyConfigured as error:
        sys.exit(f"configuration: {error}")
    if "flower" in sys.argv and not (settings.DEVELOPMENT or settings.FLOWER_BASIC_AUTH):
        sys.exit("configuration: FLOWER_BASIC_AUTH is not set: Flower would be open to everybody")


if "flower" in sys.argv:
    # It takes FLOWER_… from the environment before anybody else reads the settings, and .env.
    refuse_wrong_settings()

log = structlog.get_logger(__name__)

TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "orderengine.broker:Transport"))
app = Celery("orderengine")
app.autodiscover_tasks()


@app.add_defaults
def configuration() -> dict[str, Any]:
    """Celery's own settings and none besides: a worker tells whoever asks (Flower) what it has."""
    prefix = "CELERY_"
    ours = (name for name in dir(settings) if name.startswith(prefix))
    return {name.removeprefix(prefix).lower(): getattr(settings, name) for name in ours}


@setup_logging.connect
def keep_logging_as_configured(**_: object) -> None:
    """Celery leaves logging alone when this signal has a receiver; settings configured it."""


@worker_init.connect
def say_nothing_past_the_log(**_: object) -> None:
    """Celery prints how it stops, in a line that is no JSON."""
    from celery.apps import worker  # noqa: PLC0415  web processes never load it

    setattr(worker, "safe_say", lambda *_: None)  # noqa: B010  it is not in the stubs


@worker_shutting_down.connect
def say_how(how: str, **_: object) -> None:
    log.info("worker.stopping", how=how)


@worker_ready.connect
def freeze(**_: object) -> None:
    keep_what_is_loaded()


@heartbeat_sent.connect
def report(**_: object) -> None:
    """Every other second. Nobody need ask the workers how many they are."""
    presence.report_worker()


@worker_shutdown.connect
def leave(**_: object) -> None:
    presence.worker_leaves()
