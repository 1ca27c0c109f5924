"""Breaks the running engine on purpose: `make faults`, `make faults-long`."""

import os
import threading
import time

import django
from django.apps import apps

if "FAKETIME" in os.environ:  # libfaketime 0.9.10 fails the system call behind time.sleep
    time.sleep = lambda seconds: threading.Event().wait(seconds) and None

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orderengine.settings")
os.environ.setdefault("DEBUG", "true")
os.environ.setdefault("LOG_LEVEL", "warning")  # of the harness; the engine it starts says more
if not apps.ready:
    django.setup()
