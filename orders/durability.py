"""What the promise of a 201 rests on in PostgreSQL, asked at start-up."""

from collections.abc import Sequence
from typing import Any

import psycopg
from django.conf import settings
from django.core import checks

from orders import database

# A setting that is off may lose what was committed when the machine loses its power.
NEEDED = ("fsync", "synchronous_commit", "full_page_writes")
UNSAFE = """
SELECT name FROM pg_settings WHERE name = ANY(%(names)s) AND setting = 'off' ORDER BY name
"""


def unsafe_settings() -> list[str]:
    """Those of NEEDED that are off. Raises psycopg.OperationalError."""
    return [row["name"] for row in database.rows(UNSAFE, {"names": list(NEEDED)})]


@checks.register(checks.Tags.database)
def check_durability(
    app_configs: Any, databases: Sequence[str] | None, **_: Any
) -> list[checks.CheckMessage]:
    """Run by `manage.py migrate` before anything starts: production refuses."""
    try:
        unsafe = unsafe_settings() if databases else []
    except psycopg.OperationalError:
        return []  # migrate itself says that there is no database
    kind = checks.Warning if settings.DEVELOPMENT else checks.Error
    return [
        kind(f"PostgreSQL runs with {name}=off: a committed order may be lost", id="orders.E001")
        for name in unsafe
    ]
