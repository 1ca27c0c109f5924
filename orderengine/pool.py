"""Connections of Django's own pool, for pages and sessions."""

import atexit
from typing import Any

import psycopg
from django.conf import settings

from dex.postgres import BoundedConnection, is_dead


@atexit.register
def close_pools() -> None:
    """Else each waits for its threads when they can run no more: 20 s, from Python 3.13 on."""
    if settings.configured:
        from django.db import connections  # noqa: PLC0415  needs the settings, which name this

        for connection in connections.all():
            connection.pool.close(timeout=1)  # type: ignore[attr-defined]  # PostgreSQL's


class PooledConnection(BoundedConnection):
    """Where one is dead, the others of the pool are closed as well.

    Django chooses the pool's check, an empty statement; the pool waits longer after each that
    fails, and PostgreSQL may have restarted.
    """

    def execute(self, query: Any, *args: Any, **options: Any) -> psycopg.Cursor[Any]:
        if query == "" and is_dead(self):
            from django.db import connection  # noqa: PLC0415  needs the settings, which name this

            self.close()
            connection.pool.drain()  # type: ignore[attr-defined]  # PostgreSQL's
            raise psycopg.OperationalError("the server has ended this connection")
        return super().execute(query, *args, **options)
