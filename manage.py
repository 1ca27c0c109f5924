#!/usr/bin/env python
"""Django's command line, with one clear line where a traceback would not help."""

import os
import sys

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db.utils import OperationalError


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orderengine.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"configuration: {error}")
    except (OperationalError, psycopg.OperationalError) as error:
        reason = str(error).strip().partition("\n")[0]
        sys.exit(
            f"PostgreSQL: {reason}: start the stack with `make up`, set DATA_DIR to that of a "
            "running one, or set DATABASE_URL"
        )


if __name__ == "__main__":
    main()
