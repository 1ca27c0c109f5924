"""What every HTTP answer tells browsers, static files included, and who of them may ask.

Around Django, not inside it: one middleware more costs each request some 0.4 ms.
"""

from http import HTTPStatus

from orderengine.asgi_types import Application, Message, Receive, Send

Headers = list[tuple[bytes, bytes]]

NOBODY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# Pages use files of this server only, nothing inline; the admin's icons are data in its styles.
PAGES = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
ALWAYS = {b"x-content-type-options": b"nosniff", b"referrer-policy": b"same-origin"}
METHODS = b"GET, POST"
ASKED = b"authorization, content-type, idempotency-key, if-none-match, x-request-id"
EXPOSED = (
    b"etag, location, retry-after, x-request-id, idempotency-replayed, "
    b"ratelimit-limit, ratelimit-remaining, ratelimit-reset"
)


class BrowserHeaders:
    """An ASGI application around another one. `origins` are pages elsewhere that may ask."""

    def __init__(self, application: Application, origins: list[str]) -> None:
        self.application = application
        self.origins = {origin.encode() for origin in origins}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        of_origin = self.headers_for(scope["headers"])

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*completed(message.get("headers", [])), *of_origin]
                message = {**message, "headers": headers}
            await send(message)

        if of_origin and scope["method"] == "OPTIONS" and is_preflight(scope["headers"]):
            await answer_preflight(send_with_headers)
        else:
            await self.application(scope, receive, send_with_headers)

    def headers_for(self, asked: Headers) -> Headers:
        """Empty for other origins: their browsers then keep the answer from the page."""
        origin = next((value for name, value in asked if name == b"origin"), b"")
        if origin not in self.origins:
            return []
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", EXPOSED),
            (b"vary", b"Origin"),
        ]


def completed(headers: Headers) -> Headers:
    """With what is missing; a view may have set its own."""
    present = {name.lower(): value for name, value in headers}
    is_page = present.get(b"content-type", b"").startswith(b"text/html")
    policy = PAGES if is_page else NOBODY
    wanted = {**ALWAYS, b"content-security-policy": policy.encode()}
    if b"last-modified" in present:  # a file: a browser asks whether its copy is still the one
        wanted[b"cache-control"] = b"no-cache"
    return [*headers, *((name, wanted[name]) for name in wanted if name not in present)]


def is_preflight(headers: Headers) -> bool:
    return any(name == b"access-control-request-method" for name, _ in headers)


async def answer_preflight(send: Send) -> None:
    """Without cookies: an origin elsewhere signs in with a key, never as the admin's user."""
    headers = [
        (b"access-control-allow-methods", METHODS),
        (b"access-control-allow-headers", ASKED),
        (b"access-control-max-age", b"600"),
    ]
    await send(
        {"type": "http.response.start", "status": int(HTTPStatus.NO_CONTENT), "headers": headers}
    )
    await send({"type": "http.response.body", "body": b""})
