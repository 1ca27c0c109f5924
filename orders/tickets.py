"""Tickets: a caller of the REST API gets one, and opens one WebSocket with it.

A row, not a Redis key: deleting it is what makes a ticket good once in the whole fleet, and it
outlives a Redis that is emptied.
"""

import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orders import database
from orders.events import iso
from orders.keys import Caller, digest_of, has_its_session
from orders.problems import not_authenticated

GOOD_SECONDS = 30

ISSUE = """
WITH expired AS (DELETE FROM orders_ticket WHERE expires_at < now())
INSERT INTO orders_ticket (digest, owner_id, key_id, session_key, expires_at)
VALUES (%(digest)s, %(owner_id)s, %(key_id)s, %(session_key)s,
        now() + make_interval(secs => %(seconds)s))
RETURNING expires_at
"""
REDEEM = """
DELETE FROM orders_ticket t WHERE t.digest = %(digest)s
RETURNING t.owner_id, t.key_id, t.session_key, t.expires_at > now()
    AND (t.owner_id IS NULL OR EXISTS (
        SELECT 1 FROM auth_user u WHERE u.id = t.owner_id AND u.is_active
    ))
    AND (t.key_id IS NULL OR EXISTS (
        SELECT 1 FROM orders_apikey k WHERE k.id = t.key_id AND k.revoked_at IS NULL
    )) AS good
"""


@dataclass(frozen=True, slots=True)
class Ticket:
    text: str = field(repr=False)
    expires_at: datetime

    def as_json(self) -> dict[str, Any]:
        return {"ticket": self.text, "expiresAt": iso(self.expires_at)}


def issue(caller: Caller) -> Ticket:
    text = secrets.token_urlsafe(32)
    values = {
        "digest": digest_of(text),
        "owner_id": caller.owner_id,
        "key_id": caller.key_id,
        "session_key": caller.session_key,
        "seconds": GOOD_SECONDS,
    }
    return Ticket(text, database.rows(ISSUE, values)[0]["expires_at"])


def redeem(text: str) -> Caller:
    """Who got the ticket. Raises Problem; the ticket is gone either way."""
    found = database.row(REDEEM, {"digest": digest_of(text)})
    if found is not None and found["good"]:
        caller = Caller(found["owner_id"], found["key_id"], session_key=found["session_key"])
        if has_its_session(caller):
            return caller
    raise not_authenticated("The ticket is unknown, used or expired: get a new one.")
