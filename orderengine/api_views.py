"""The API's views are called from the event loop, without Django's handler around each request.

Django sends a request through a thread for each middleware, and listens for its client besides:
1.7 ms for an empty view. The middleware that these views need never waits: it is called in place.
A view that is no coroutine is called in a thread, one for all that it does. Whoever comes with a
session, or asks for anything but the API, gets Django's handler.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from io import BytesIO
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.exception import response_for_exception
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.security import SecurityMiddleware
from django.template.response import SimpleTemplateResponse
from django.urls import Resolver404, ResolverMatch, resolve
from django.utils.cache import patch_vary_headers
from rest_framework.views import APIView

from orderengine.asgi_types import Application, Message, Receive, Send
from orders import requestid
from orders.parsing import MAX_BODY_BYTES
from orders.threads import in_thread


def no_view(request: HttpRequest) -> HttpResponse:
    raise NotImplementedError("the middleware below is called method by method")


# Those of settings.MIDDLEWARE that neither wait nor need a session, with `requestid` around them.
MIDDLEWARE = (SecurityMiddleware, CommonMiddleware, XFrameOptionsMiddleware)


class APIViews:
    """An ASGI application around Django's, which gets what it does not answer itself."""

    def __init__(self, django: Application) -> None:
        self.django = django
        self.middleware: list[Any] = [made(no_view) for made in MIDDLEWARE]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        found = api_view(scope["path"])
        request = self.request_of(scope) if found else None
        if found is None or request is None:
            await self.django(scope, receive, send)
        elif await read_body(request.body_file, receive):
            await send_response(await self.respond(request, found), send)

    def request_of(self, scope: Message) -> "BodyRequest | None":
        """None for one that Django is to answer, whose body is still to be read."""
        if scope["root_path"]:
            return None
        try:
            request = BodyRequest(scope)
            if settings.SESSION_COOKIE_NAME in request.COOKIES:
                return None
            answered = [
                middleware.process_request(request)
                for middleware in self.middleware
                if hasattr(middleware, "process_request")
            ]
        except (SuspiciousOperation, UnicodeDecodeError):
            return None
        return None if any(answered) else request

    async def respond(self, request: HttpRequest, found: ResolverMatch) -> HttpResponse:
        request_id = requestid.bind(request.headers.get("X-Request-ID", ""))
        request.resolver_match = found
        call = partial(found.func, request, *found.args, **found.kwargs)
        try:
            if iscoroutinefunction(found.func):
                response = rendered(await call())
            else:
                response = await in_thread(answer_of, call)
        except Exception as error:  # a view answers its own
            response = response_for_exception(request, error)
        for middleware in reversed(self.middleware):
            response = middleware.process_response(request, response)
        if response.status_code == 304:
            del response["Content-Length"]  # it would be that of the answer which was not sent
        patch_vary_headers(response, ["Cookie"])  # whoever has a session may get another answer
        response["X-Request-ID"] = request_id
        return response


class BodyRequest(ASGIRequest):
    """Made before its body is read."""

    def __init__(self, scope: Message) -> None:
        self.body_file = BytesIO()
        super().__init__(scope, self.body_file)


@lru_cache(maxsize=1_000)
def api_view(path: str) -> ResolverMatch | None:
    """The view of this path where it is DRF's: those check by themselves who asks."""
    try:
        match = resolve(path)
    except Resolver404:
        return None
    return match if issubclass(getattr(match.func, "view_class", object), APIView) else None


def answer_of(call: Callable[[], HttpResponse]) -> HttpResponse:
    try:
        return rendered(call())
    finally:
        close_old_connections()  # as Django's handler does


def rendered(response: HttpResponse) -> HttpResponse:
    return response.render() if isinstance(response, SimpleTemplateResponse) else response


async def read_body(body: BytesIO, receive: Receive) -> bool:
    """No more of it than shows that it is too long; False when the client has gone meanwhile."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return False
        body.write(message.get("body", b"")[: MAX_BODY_BYTES + 1 - body.tell()])
        if not message.get("more_body", False):
            body.seek(0)
            return True


async def send_response(response: HttpResponse, send: Send) -> None:
    headers = [(name.encode("ascii"), str(v).encode("latin1")) for name, v in response.items()]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})
