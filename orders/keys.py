"""Who asks: by an API key, `oee_<prefix>_<secret>`, or by the session of a browser.

Of a key only the prefix and a hash are stored. The secret has 256 random bits: nobody finds it by
trying, so a fast hash is enough.
"""

import re
import secrets
import time
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.db import close_old_connections
from django.http import HttpRequest

from orders import database
from orders.models import ALPHABET
from orders.problems import not_authenticated

FORM = re.compile(r"oee_([a-z0-9]{8})_[A-Za-z0-9_-]{43}", re.ASCII)
# A key that was good is good for so long without asking: this late a revocation takes effect.
TRUST_SECONDS = 2.0
MOST_TRUSTED = 10_000

CREATE = """
INSERT INTO orders_apikey (prefix, digest, owner_id, label)
VALUES (%(prefix)s, %(digest)s, %(owner_id)s, %(label)s)
RETURNING prefix
"""
# The comparison that decides is in check_key(); this one only tells whose `last_used_at` it is.
# That may be lost, and no COMMIT of it is waited for: without a standby nobody could sign in.
FIND = """
WITH used AS (
    UPDATE orders_apikey SET last_used_at = now()
    FROM (SELECT set_config('synchronous_commit', 'off', true) AS on OFFSET 0) s
    WHERE s.on = 'off' AND prefix = %(prefix)s AND digest = %(digest)s AND revoked_at IS NULL
      AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
)
SELECT k.id, k.digest, k.owner_id, u.is_staff
FROM orders_apikey k JOIN auth_user u ON u.id = k.owner_id
WHERE k.prefix = %(prefix)s AND k.revoked_at IS NULL AND u.is_active
"""
STILL_GOOD = """
SELECT 1 AS good FROM auth_user u WHERE u.id = %(owner_id)s AND u.is_active
AND (%(key_id)s::bigint IS NULL OR EXISTS (
    SELECT 1 FROM orders_apikey k WHERE k.id = %(key_id)s::bigint AND k.revoked_at IS NULL
))
"""
REVOKE = """
UPDATE orders_apikey SET revoked_at = coalesce(revoked_at, now()) WHERE prefix = %(prefix)s
RETURNING prefix
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a user, by a key or a session; nobody (None) where development lets everyone in.

    It is what DRF's permissions and views know as `request.user`.
    """

    owner_id: int | None
    key_id: int | None = None
    is_staff: bool = False
    session_key: str = field(default="", repr=False)

    @property
    def pk(self) -> int | None:
        return self.owner_id

    @property
    def is_authenticated(self) -> bool:
        return self.owner_id is not None


@dataclass(frozen=True, slots=True, repr=False)
class NewKey:
    """A key that is not stored yet. `text` is for its owner only."""

    text: str
    prefix: str
    digest: str


_trusted: dict[str, tuple[float, Caller]] = {}  # by digest: until when, and who it is


def new_prefix() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(8))


def new_key(prefix: str = "") -> NewKey:
    prefix = prefix or new_prefix()
    text = f"oee_{prefix}_{secrets.token_urlsafe(32)}"
    return NewKey(text, prefix, digest_of(text))


def digest_of(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def create(owner_id: int, label: str = "") -> str:
    """The new key: the only time that it can be read."""
    key = new_key()
    values = {"prefix": key.prefix, "digest": key.digest, "owner_id": owner_id, "label": label}
    database.row(CREATE, values)
    return key.text


def revoke(prefix: str) -> bool:
    """Whether there is such a key."""
    return database.row(REVOKE, {"prefix": prefix}) is not None


def caller_of_key(authorization: str) -> Caller:
    """Of an Authorization header, over HTTP or WebSocket.

    Raises Problem, psycopg.OperationalError.
    """
    form = key_in(authorization)
    if form is None:
        raise not_authenticated("An Authorization header is to be `Bearer oee_…`, an API key.")
    digest = digest_of(form[0])
    if (trusted := trusted_caller(digest)) is not None:
        return trusted
    caller = check_key(form[1], digest)
    if len(_trusted) >= MOST_TRUSTED:
        _trusted.clear()
    _trusted[digest] = time.monotonic() + TRUST_SECONDS, caller
    return caller


def key_in(authorization: str) -> re.Match[str] | None:
    """The key and, as its first group, the prefix."""
    scheme, _, text = authorization.partition(" ")
    return FORM.fullmatch(text.strip()) if scheme.lower() == "bearer" else None


def trusted_caller(digest: str) -> Caller | None:
    until, caller = _trusted.get(digest, (0.0, None))
    return caller if time.monotonic() < until else None


def trusted(authorization: str) -> Caller | None:
    """What `caller_of_key` answers, where it does so without asking PostgreSQL."""
    form = key_in(authorization)
    return None if form is None else trusted_caller(digest_of(form[0]))


def check_key(prefix: str, digest: str) -> Caller:
    found = database.row(FIND, {"prefix": prefix, "digest": digest})
    if found is None or not secrets.compare_digest(found["digest"], digest):
        raise not_authenticated("The API key is unknown or revoked.")
    return Caller(found["owner_id"], found["id"], found["is_staff"])


def check_still_good(caller: Caller) -> None:
    """Of a user. Raises Problem once the key is revoked, the session has ended, or the user may not
    sign in any more."""
    if caller.session_key:
        good = has_its_session(caller)
    else:
        values = {"owner_id": caller.owner_id, "key_id": caller.key_id}
        good = database.row(STILL_GOOD, values) is not None
    if not good:
        raise not_authenticated("The sign-in of this socket is no longer good.")


def has_its_session(caller: Caller) -> bool:
    """True where it came without one. A sign-out ends a session, and a new password does."""
    if not caller.session_key:
        return True
    session = import_module(settings.SESSION_ENGINE).SessionStore(caller.session_key)
    return user_of(session) == caller.owner_id


def user_of(session: Any) -> int | None:
    """The id of who signed in with it."""
    request = HttpRequest()
    request.session = session
    try:
        return get_user(request).pk
    finally:
        close_old_connections()  # Django reads sessions through its own
