"""The Celery application: `celery -A orderengine worker`."""

import os

from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orderengine.settings")

app = Celery("orderengine")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def keep_logging_as_configured(**_: object) -> None:
    """Celery leaves logging alone when this signal has a receiver; settings configured it."""
