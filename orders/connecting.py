"""Who opens a socket, from where, and what it wants to hear."""

from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from orders import keys, limits, tickets
from orders.keys import Caller
from orders.problems import Problem, not_authenticated
from orders.serializers import SocketQuerySerializer, each_once
from orders.threads import in_socket_thread, in_thread


async def authenticate(scope: Mapping[str, Any]) -> Caller:
    """Nobody where development lets everyone in. Raises Problem."""
    headers = {name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]}
    origin = headers.get("origin")
    check_origin(origin)
    if (authorization := headers.get("authorization")) is not None:
        return await in_socket_thread(limits.counted_caller, authorization, address(scope))
    if (ticket := query_of(scope).get("ticket")) is not None:
        redeem = partial(tickets.redeem, ticket)
        return required(await in_socket_thread(limits.counted, redeem, address(scope)))
    session = scope.get("session")
    if session and session.session_key and is_ours(origin, headers.get("host", "")):
        # Not in the few threads in which open sockets read: PostgreSQL may say nothing for long.
        user_id = await in_thread(keys.user_of, session)
        if user_id is not None:
            return Caller(user_id, session_key=session.session_key or "")
    return required(Caller(None))


def required(caller: Caller) -> Caller:
    """The caller, who may be nobody in development only. Raises Problem."""
    if caller.owner_id is None and settings.API_AUTH_REQUIRED:
        raise not_authenticated(
            "Send `Authorization: Bearer` with an API key, or the `ticket` of POST /api/tickets."
        )
    return caller


def check_origin(origin: str | None) -> None:
    """A browser names the page's origin: only pages of our hosts and those allowed may connect."""
    if origin is None or origin in settings.CORS_ALLOWED_ORIGINS:
        return
    try:
        host = split_domain_port(urlsplit(origin).netloc)[0]
    except ValueError:
        host = ""
    if not validate_host(host, settings.ALLOWED_HOSTS):
        raise Problem(status=403, code="FORBIDDEN", detail=f"Pages of {origin} may not connect.")


def is_ours(origin: str | None, host: str) -> bool:
    """Whether it is a page of this server, or none at all: a browser sends the cookie of whoever
    signed in to pages of other ports, and of other hosts of its site, as well."""
    if origin is None or origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    scheme, _, place = origin.lower().partition("://")
    return place == host.lower() and (scheme == "https" or not settings.SESSION_COOKIE_SECURE)


def address(scope: Mapping[str, Any]) -> str | None:
    return scope["client"][0] if scope.get("client") else None


def query_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """Raises rest_framework's ValidationError where a parameter is given twice."""
    return each_once(parse_qsl(scope["query_string"].decode("latin1"), keep_blank_values=True))


def subscription(scope: Mapping[str, Any]) -> dict[str, Any] | None:
    """`orderId` and `afterSeq` of the address, or None. Raises rest_framework's ValidationError."""
    query = SocketQuerySerializer(data=query_of(scope))
    query.is_valid(raise_exception=True)
    fields: dict[str, Any] = query.validated_data
    return {"afterSeq": 0, **fields} if "orderId" in fields else None
