"""`manage.py migrate`, without the bounds that requests have: a large table takes its time."""

from typing import Any

from django.core.management.commands import migrate
from django.db import connections


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        connection = connections[options["database"]]
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")
        connection.connection.answer_seconds = None
        try:
            super().handle(*args, **options)
        finally:
            connection.close()
