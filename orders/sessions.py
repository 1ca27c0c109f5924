"""Django's sessions in the database, for keys that it may have given."""

from typing import Any

from django.contrib.sessions.backends import db


class SessionStore(db.SessionStore):
    def _validate_session_key(self, key: Any) -> bool:
        """A cookie may have anything in quotes, a NUL as well, which PostgreSQL cannot compare."""
        valid = bool(super()._validate_session_key(key))  # type: ignore[misc]  # not in the stubs
        return valid and key.isascii() and key.isalnum()
