"""Who opens a socket, from where, and what it wants to hear."""

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.conf import settings
from django.contrib.auth import authenticate as check_password
from django.db import close_old_connections
from django.http.request import split_domain_port, validate_host

from orders.hub import in_thread
from orders.problems import Problem
from orders.serializers import SocketQuerySerializer


async def authenticate(scope: Mapping[str, Any]) -> int | None:
    """The owner's id; None where development lets everyone in. Raises Problem."""
    headers = {name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]}
    check_origin(headers.get("origin"))
    if (authorization := headers.get("authorization")) is not None:
        signed_in: int = await in_thread(owner_of_credentials, authorization)
        return signed_in
    user = scope.get("user")
    if user is not None and user.is_authenticated:
        owner_id: int = user.pk
        return owner_id
    if settings.API_AUTH_REQUIRED:
        raise not_authenticated("Sign in, or send an Authorization header.")
    return None


def check_origin(origin: str | None) -> None:
    """A browser names the page's origin: only our own pages may connect."""
    if origin is None:
        return
    try:
        host = split_domain_port(urlsplit(origin).netloc)[0]
    except ValueError:
        host = ""
    if not validate_host(host, settings.ALLOWED_HOSTS):
        raise Problem(status=403, code="FORBIDDEN", detail=f"Pages of {origin} may not connect.")


def owner_of_credentials(authorization: str) -> int:
    """Of a Basic Authorization header. Raises Problem."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:  # of base64, or of UTF-8
        raise not_authenticated("The Authorization header is malformed.") from None
    try:
        user = (
            check_password(username=name, password=password) if scheme.lower() == "basic" else None
        )
    finally:
        close_old_connections()  # the thread lives on, its connection must not
    if user is None:
        raise not_authenticated("The Authorization header names no user of this engine.")
    return int(user.pk)


def not_authenticated(detail: str) -> Problem:
    return Problem(status=401, code="NOT_AUTHENTICATED", detail=detail)


def subscription(scope: Mapping[str, Any]) -> dict[str, Any] | None:
    """`orderId` and `afterSeq` of the address, or None. Raises rest_framework's ValidationError."""
    query = SocketQuerySerializer(data=dict(parse_qsl(scope["query_string"].decode("latin1"))))
    query.is_valid(raise_exception=True)
    fields: dict[str, Any] = query.validated_data
    return fields if "orderId" in fields else None
