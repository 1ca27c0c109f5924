"""A request id on every answer and every log line of the request."""

import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, cast

import structlog
from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

ACCEPTED = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def new_request_id() -> str:
    return f"req_{secrets.token_hex(8)}"


def bind(given: str) -> str:
    """The client's X-Request-ID where it is well formed, else a new one."""
    request_id = given if ACCEPTED.fullmatch(given) else new_request_id()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    return request_id


def bound() -> str:
    """Of the request that is being answered; empty where there is none."""
    return cast(str, structlog.contextvars.get_contextvars().get("request_id", ""))


def current() -> str:
    return bound() or new_request_id()


def logged(request_id: str) -> AbstractContextManager[None]:
    """Every log line within has it; none does where it is empty."""
    known = {"request_id": request_id} if request_id else {}
    return structlog.contextvars.bound_contextvars(**known)


@sync_and_async_middleware
def middleware(
    get_response: Callable[[HttpRequest], Any],
) -> Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]:
    if not iscoroutinefunction(get_response):
        return around(get_response)

    async def answer(request: HttpRequest) -> HttpResponse:
        request_id = bind(request.headers.get("X-Request-ID", ""))
        response: HttpResponse = await get_response(request)
        response["X-Request-ID"] = request_id
        return response

    return answer


def around(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    """The middleware around what is no coroutine."""

    def answer(request: HttpRequest) -> HttpResponse:
        request_id = bind(request.headers.get("X-Request-ID", ""))
        response = get_response(request)
        response["X-Request-ID"] = request_id
        return response

    return answer
