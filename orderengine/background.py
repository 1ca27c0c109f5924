"""Settings of processes that answer no request, the worker and the dispatcher (lean.py)."""

from orderengine.settings import *  # noqa: F403

INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "orders"]
ROOT_URLCONF = ""
