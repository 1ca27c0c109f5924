"""What Django and DRF find out about the head of a request is found out once.

Whoever places orders sends one head again and again, with another body each time. Where a view
says so (`repeatable`), the headers of an answer are remembered with the head that was asked with;
the next request with it goes to the view's own method at once, and its answer has them too. Who
asks is looked at each time: whoever may have a session, or is counted, goes the long way.
"""

from collections.abc import Iterable
from functools import cached_property
from io import BytesIO
from typing import Any

from django.conf import settings
from django.utils.datastructures import CaseInsensitiveMapping
from rest_framework.renderers import JSONRenderer

from orderengine.api_views import api_view, read_body
from orderengine.asgi_types import Application, Message, Receive, Send
from orders import keys, requestid
from orders.coroutines import CoroutineView
from orders.keys import Caller
from orders.parsing import DecimalJSONParser
from orders.problems import exception_handler

Headers = tuple[tuple[bytes, bytes], ...]
# Of a POST: the scheme, the path, the query, and the headers but those that are read anew.
Head = tuple[str, str, bytes, Headers]

MOST_REMEMBERED, LONGEST_REMEMBERED = 1_000, 2_000  # heads; bytes of one
# Those that a view or the lines below look at anew for each request, and for each answer.
ASKED_ANEW = frozenset(
    {b"authorization", b"content-length", b"cookie", b"idempotency-key", b"x-request-id"}
)
ANSWERED_ANEW = frozenset(
    {b"content-length", b"content-type", b"idempotency-replayed", b"location", b"x-request-id"}
)
PARSER, RENDERER = DecimalJSONParser(), JSONRenderer()


class RepeatedRequest:
    """What a repeatable view may read of DRF's Request."""

    def __init__(self, headers: dict[str, str], body: bytes, user: Caller) -> None:
        self.headers = CaseInsensitiveMapping(headers)
        self.body = body
        self.user = user

    @cached_property
    def data(self) -> Any:
        """Raises rest_framework's exceptions; no body is an empty object, as it is to DRF."""
        return PARSER.parse(BytesIO(self.body)) if self.body else {}


class RepeatedRequests:
    """An ASGI application around one that answers every request, whatever its head."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.known: dict[Head, Headers] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        view = repeatable_view(scope)
        if view is None:
            await self.application(scope, receive, send)
            return
        head, anew = head_of(scope)
        known, caller = self.known.get(head), caller_in(anew)
        if known is None or caller is None:
            await self.application(scope, receive, self.remembering(head, anew, send))
            return
        body = BytesIO()
        if await read_body(body, receive):
            request = RepeatedRequest(anew, body.getvalue(), caller)
            await respond(view(), request, known, send)

    def remembering(self, head: Head, anew: dict[str, str], send: Send) -> Send:
        async def send_and_remember(message: Message) -> None:
            if message.get("status") == 201 and caller_in(anew) is not None:
                self.remember(head, without(ANSWERED_ANEW, message["headers"]))
            await send(message)

        return send_and_remember

    def remember(self, head: Head, headers: Headers) -> None:
        if len(repr(head)) <= LONGEST_REMEMBERED:
            if len(self.known) >= MOST_REMEMBERED:
                self.known.clear()
            self.known[head] = headers


def repeatable_view(scope: Message) -> type[CoroutineView] | None:
    """Not where requests are counted: that asks Redis, in a thread."""
    if settings.API_RATE_LIMIT is not None or scope["method"] != "POST" or scope["root_path"]:
        return None
    found = api_view(scope["path"])
    view: Any = getattr(found and found.func, "view_class", object)
    return view if issubclass(view, CoroutineView) and view.repeatable else None


def head_of(scope: Message) -> tuple[Head, dict[str, str]]:
    """The head to be remembered, and the headers that are not part of it."""
    anew: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        if raw_name in ASKED_ANEW:
            name, value = raw_name.decode("latin1"), raw_value.decode("latin1")
            anew[name] = f"{anew[name]},{value}" if name in anew else value  # as Django has it
    kept = without(ASKED_ANEW, scope["headers"])
    return (scope["scheme"], scope["path"], scope["query_string"], kept), anew


def without(names: frozenset[bytes], headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return tuple([(name, value) for name, value in headers if name.lower() not in names])


def caller_in(anew: dict[str, str]) -> Caller | None:
    """Who asks, where that is known without asking PostgreSQL; a cookie may be a session's."""
    if "cookie" in anew:
        return None
    if "authorization" in anew:
        return keys.trusted(anew["authorization"])
    return None if settings.API_AUTH_REQUIRED else Caller(None)


async def respond(view: Any, request: RepeatedRequest, known: Headers, send: Send) -> None:
    request_id = requestid.bind(request.headers.get("X-Request-ID", ""))
    try:
        response = await view.post(request)
    except Exception as error:  # becomes a problem
        response = exception_handler(error, {})
    content = RENDERER.render(response.data)
    named = {
        **response.headers,
        "Content-Type": response.content_type or RENDERER.media_type,
        "Content-Length": str(len(content)),
        "X-Request-ID": request_id,
    }
    headers = [*known, *((name.encode(), value.encode("latin1")) for name, value in named.items())]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": content})
