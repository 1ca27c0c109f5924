"""The Celery application: `celery -A orderengine worker`."""

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from celery.worker.consumer import Consumer
from kombu.utils.limits import TokenBucket

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orderengine.settings")

app = Celery("orderengine")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


class BurstConsumer(Consumer):
    """Applies a task's `rate_limit` with room for a second's worth at once.

    Celery's own bucket holds one token. Ten hints that arrive together then wait on ten timers, and
    kombu's event loop sleeps a full second after firing ten in a row (`Hub.fire_timers`).
    """

    def bucket_for_task(self, type: Any) -> TokenBucket | None:
        bucket = super().bucket_for_task(type)
        return bucket and TokenBucket(bucket.fill_rate, capacity=max(1, int(bucket.fill_rate)))


@setup_logging.connect
def keep_logging_as_configured(**_: object) -> None:
    """Celery leaves logging alone when this signal has a receiver; settings configured it."""
