"""What a command says whose database does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.core.management import CommandError

from orders import database


@contextmanager
def of_the_database() -> Iterator[None]:
    """Raises CommandError, exit code 2, where it is not there or has no tables yet."""
    try:
        yield
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        told = f"the database does not answer: {reason}: {database.how_to_reach()}"
        raise CommandError(told, returncode=2) from None
    except psycopg.errors.UndefinedTable as error:
        reason = f"{error.diag.message_primary}: run manage.py migrate"
        raise CommandError(reason, returncode=2) from None
