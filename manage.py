#!/usr/bin/env python
"""Django's command line, with one clear line where a traceback would not help."""

import os
import sys

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db.utils import OperationalError, ProgrammingError
from psycopg.errors import LockNotAvailable, QueryCanceled, UndefinedTable
from psycopg_pool import PoolTimeout


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orderengine.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"configuration: {error}")
    except (ProgrammingError, UndefinedTable) as error:
        if not isinstance(error.__cause__ or error, UndefinedTable):
            raise
        sys.exit(f"PostgreSQL: {first_line(error)}: make the tables with `manage.py migrate`")
    except (OperationalError, psycopg.OperationalError) as error:
        if isinstance(error.__cause__ or error, LockNotAvailable | QueryCanceled):
            sys.exit(
                f"PostgreSQL: {first_line(error)}: another session keeps a table (pg_stat_activity "
                "has it); repeat the command when it has ended"
            )
        from orders import database  # noqa: PLC0415  needs the settings

        sys.exit(f"PostgreSQL: {reason(error)}: {database.how_to_reach()}")
    except UnicodeEncodeError as error:
        sys.exit(f"an argument is not UTF-8: {error.object!a}")
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def reason(error: Exception) -> str:
    """A pool says that it has no connection; why, a connection says."""
    if isinstance(error.__cause__ or error, PoolTimeout):
        from orders import database  # noqa: PLC0415  needs the settings

        try:
            psycopg.connect(database.conninfo(), connect_timeout=2).close()
        except psycopg.Error as of_connection:
            return first_line(of_connection)
    return first_line(error)


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # while it still loads what it needs
        sys.exit(130)
