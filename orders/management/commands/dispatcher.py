"""`manage.py dispatcher`: hints orders that may run until SIGTERM or Ctrl-C."""

import signal
from typing import Any

from django.core.management.base import BaseCommand

from orders.dispatcher import Dispatcher


class Command(BaseCommand):
    help = "Find orders that may run and hint them to the workers."

    def handle(self, *args: Any, **options: Any) -> None:
        dispatcher = Dispatcher()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: dispatcher.stop())
        dispatcher.run()
