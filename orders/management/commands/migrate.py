"""`manage.py migrate`, without the bounds that requests have: a large table takes its time."""

from typing import Any

from django.core.management.commands import migrate
from django.db import connections

# Who waits for a lock on a table makes everybody wait who comes after.
BOUNDS = "SET statement_timeout = 0; SET lock_timeout = '3s'"


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        connection = connections[options["database"]]
        with connection.cursor() as cursor:
            cursor.execute(BOUNDS)
        unbounded = connection.connection
        unbounded.answer_seconds = None
        try:
            super().handle(*args, **options)
        finally:
            unbounded.close()  # not back into the pool as it is
            connection.close()
