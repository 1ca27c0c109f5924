"""Django's test client, in front of the ASGI application that a web process serves."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from http.cookies import SimpleCookie
from typing import Any

from asgiref.testing import ApplicationCommunicator
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse
from django.test import Client
from django.test.client import conditional_content_removal

from orderengine.asgi import application
from orders.once import once

PATIENCE = 30.0


class ASGIClient(Client):
    """A client of its own: CSRF is enforced, and what a view raises is an answer."""

    def __init__(self) -> None:
        super().__init__(enforce_csrf_checks=True, raise_request_exception=False)
        self.handler = answer


@once
def web() -> asyncio.AbstractEventLoop:
    """One event loop for all requests, as in a web process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="web", daemon=True).start()
    return loop


def begin(asking: Coroutine[Any, Any, HttpResponse]) -> Future[HttpResponse]:
    return asyncio.run_coroutine_threadsafe(asking, web())


def answer(environ: dict[str, Any]) -> HttpResponse:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    response = begin(ask(scope_of(environ), body)).result(PATIENCE)
    response.wsgi_request = WSGIRequest(environ)
    conditional_content_removal(response.wsgi_request, response)
    return response


def scope_of(environ: dict[str, Any]) -> dict[str, Any]:
    named = {
        "HOST": "testserver",
    } | {
        name.removeprefix("HTTP_"): value
        for name, value in environ.items()
        if name.startswith("HTTP_") or name in {"CONTENT_TYPE", "CONTENT_LENGTH"}
    }
    path = environ["PATH_INFO"].encode("latin1")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": environ["REQUEST_METHOD"],
        "scheme": environ["wsgi.url_scheme"],
        "path": path.decode(errors="replace"),  # as Daphne unquotes it
        "raw_path": path,
        "root_path": "",
        "query_string": environ["QUERY_STRING"].encode("latin1"),
        "headers": [
            (name.lower().replace("_", "-").encode(), str(value).encode())
            for name, value in named.items()
            if (name, value) != ("COOKIE", "")
        ],
        "client": [environ["REMOTE_ADDR"], 40000],
        "server": ["testserver", 80],
    }


async def ask(scope: dict[str, Any], body: bytes, app: Any = application) -> HttpResponse:
    wire = ApplicationCommunicator(app, scope)
    await wire.send_input({"type": "http.request", "body": body, "more_body": False})
    start = await wire.receive_output(PATIENCE)
    content = b""
    while True:
        part = await wire.receive_output(PATIENCE)
        content += part.get("body", b"")
        if not part.get("more_body", False):
            break
    await wire.wait(PATIENCE)
    return response_of(start, content)


def response_of(start: dict[str, Any], content: bytes) -> HttpResponse:
    response = HttpResponse(content, status=start["status"])
    del response["Content-Type"]
    cookies: SimpleCookie = SimpleCookie()
    for raw_name, raw_value in start["headers"]:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin1")
        if name.lower() == "set-cookie":
            cookies.load(value)
        else:
            response[name] = f"{response[name]}, {value}" if name in response else value
    response.cookies = cookies
    return response
