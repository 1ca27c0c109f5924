"""DRF's hooks: how a REST request signs in, and how often it may come."""

from typing import Any

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from orders import keys, limits
from orders.keys import Caller


def caller_of(request: Request) -> Caller:
    """Who asks, as DRF's authentication has found; by a session if not by a key."""
    user: Any = request.user
    if isinstance(user, Caller):
        return user
    if user.pk is None:
        return Caller(None)
    return Caller(user.pk, session_key=request.session.session_key or "")


def is_known(request: Request) -> bool:
    """Whether it can be told who asks, and that they may, without asking PostgreSQL or Redis."""
    if settings.API_RATE_LIMIT is not None or settings.SESSION_COOKIE_NAME in request.COOKIES:
        return False
    authorization = request.headers.get("Authorization")
    return authorization is None or keys.trusted(authorization) is not None


class KeyAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        """None without an Authorization header: then a session may do. Raises Problem."""
        authorization = request.headers.get("Authorization")
        if authorization is None:
            return None
        return limits.counted_caller(authorization, request.META.get("REMOTE_ADDR")), None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class Throttle(BaseThrottle):
    def allow_request(self, request: Request, view: Any) -> bool:
        """Raises Problem where not; DRF puts the view's `headers` on every answer of it."""
        bucket = limits.bucket_of(caller_of(request), request.META.get("REMOTE_ADDR"))
        view.headers.update(limits.spend(bucket))
        return True
