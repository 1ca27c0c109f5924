"""Daphne's requests, with what a stranger may not make it keep and what nobody here reads left out.

Daphne reads a body to its end before the application hears of the request, into a file and then
into memory, however long it is. What it refuses itself is a problem here, as any other refusal.
"""

# ruff: noqa: N802  (the names are Twisted's)

import json
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from daphne import http_protocol
from daphne.server import reactor  # the one on Daphne's event loop, whoever imports it first
from twisted.web.http import RESPONSES, HTTPChannel

from orders.parsing import BODY_TOO_LONG, MAX_BODY_BYTES
from orders.problems import CONTENT_TYPE, Problem

KEPT_BYTES = MAX_BODY_BYTES + 1  # the application sees that it is too long
# Whoever is refused has so long to read why: what it still sends would reset the connection.
LINGER_SECONDS = 1.0
NO_REQUEST = (
    "Not an HTTP request that can be read: its first line, a header or the framing of its body "
    "(Content-Length, Transfer-Encoding, the size of a chunk) is malformed, or there are too many "
    "headers."
)
HEAD_TOO_LONG = f"The address and the headers are longer than {HTTPChannel.totalHeadersSize} bytes."


class BoundedRequest(http_protocol.WebRequest):  # type: ignore[misc]  # Daphne has no types
    def gotLength(self, length: int | None) -> None:
        """Who asks whether to send a body that is too long is told at once, and not to go on."""
        asks = self.requestHeaders.hasHeader(b"expect")
        if asks and length is not None and length > MAX_BODY_BYTES:
            self.requestHeaders.removeHeader(b"expect")
            refuse(self.channel, Problem(status=413, code="TOO_LARGE", detail=BODY_TOO_LONG))
        else:
            super().gotLength(length)

    def handleContentChunk(self, data: bytes) -> None:
        room = KEPT_BYTES - self.content.tell()
        super().handleContentChunk(data[: max(0, room)])

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The body is whole. To Django one that came in chunks, without a length, is empty.

        Instead of Twisted's, which would parse the query, the Content-Type and forms: the
        application does, where it needs them.
        """
        if self.requestHeaders.hasHeader(b"transfer-encoding"):
            self.requestHeaders.removeHeader(b"transfer-encoding")
            length = b"%d" % self.content.tell()
            self.requestHeaders.setRawHeaders(b"content-length", [length])
        target = path if path.startswith(b"/") else origin_form(path)
        self.method, self.uri, self.clientproto = command, target, version
        self.path = target.partition(b"?")[0]
        self.process()

    def process(self) -> Any:
        """An Origin that is none is `null`: the application refuses that as it does any other.

        Where the application is mounted is not the client's to say, which would take a path past
        the rules of a proxy in front.
        """
        self.requestHeaders.removeHeader(b"daphne-root-path")
        origins = self.requestHeaders.getRawHeaders(b"origin")
        if origins and not all(map(is_origin, origins)):
            self.requestHeaders.setRawHeaders(b"origin", [b"null"])
        started = super().process()
        if self.transport is None:  # a WebSocket from now on; these two would keep each other
            self.channel.requests.remove(self)
        return started

    def handle_reply(self, message: dict[str, Any]) -> None:
        """Twisted leaves out the body of an answer to HEAD only where it comes in one piece."""
        if self.method == b"HEAD" and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        super().handle_reply(message)

    def basic_error(self, status: int, status_text: bytes, body: str) -> None:
        self.channel.transport.write(answer_of(bad_request(f"{body}.")))
        self.channel.loseConnection()


def origin_form(target: bytes) -> bytes:
    """`/path` of `http://host/path`, as clients of a proxy ask; the Host header has the host."""
    scheme, _, rest = target.partition(b"://")
    if scheme.lower() not in (b"http", b"https"):
        return target
    return b"/" + rest.partition(b"/")[2]


def is_origin(text: bytes) -> bool:
    """Something that Autobahn compares with the origins it allows, and does not choke on."""
    try:
        parts = urlsplit(text.decode("ascii"))
        known = parts.hostname is not None and parts.port != 0
    except ValueError:
        return False
    return known or parts.scheme == "file" or text.lower() == b"null"


def bad_request(detail: str) -> Problem:
    return Problem(status=400, code="BAD_REQUEST", detail=detail)


def answer_of(problem: Problem) -> bytes:
    """A whole HTTP answer, for whom there is no request that could be answered."""
    shown = problem.as_json()
    body = json.dumps(shown).encode()
    headers = {
        **problem.headers,
        "Content-Type": CONTENT_TYPE,
        "Content-Length": len(body),
        "X-Content-Type-Options": "nosniff",
        "X-Request-ID": shown["requestId"],
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {problem.status} {shown['title']}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def refuse_request(channel: Any) -> None:
    """In the place of Twisted's, which says "400 Bad Request" and nothing more."""
    too_long = channel._receivedHeaderSize > channel.totalHeadersSize
    refuse(channel, head_too_long() if too_long else bad_request(NO_REQUEST))


def refuse_long_line(channel: Any, _line: bytes) -> None:
    """In the place of Twisted's, which hangs up."""
    refuse(channel, head_too_long())


def head_too_long() -> Problem:
    return Problem(status=431, code="TOO_LARGE", detail=HEAD_TOO_LONG)


def refuse(channel: Any, problem: Problem) -> None:
    channel.transport.write(answer_of(problem))
    channel.dataReceived = channel.lineReceived = channel.rawDataReceived = lambda *_: None
    reactor.callLater(LINGER_SECONDS, channel.loseConnection)


def keep_no_line(_factory: Any, _request: BoundedRequest) -> None:
    """Twisted makes a line of every answer, for a log that is switched off; Daphne has its own."""


def serve_bounded_requests() -> None:
    """Let Daphne serve every connection that opens from now on with a BoundedRequest."""
    http_protocol.WebRequest = BoundedRequest
    HTTPChannel._respondToBadRequestAndDisconnect = refuse_request  # type: ignore[method-assign]
    HTTPChannel.lineLengthExceeded = refuse_long_line  # type: ignore[method-assign]
    http_protocol.HTTPFactory.log = keep_no_line
    RESPONSES.update({status: status.phrase.encode() for status in HTTPStatus})  # it lacks some
