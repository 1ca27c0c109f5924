"""Daphne's requests, with what a stranger may not make it keep and what nobody here reads left out.

Daphne reads a body to its end before the application hears of the request, into a file and then
into memory, however long it is.
"""

# ruff: noqa: N802  (the names are Twisted's)

from typing import Any

from daphne import http_protocol

from orders.parsing import MAX_BODY_BYTES

KEPT_BYTES = MAX_BODY_BYTES + 1  # the application sees that it is too long


class BoundedRequest(http_protocol.WebRequest):  # type: ignore[misc]  # Daphne has no types
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
        self.method, self.uri, self.clientproto = command, path, version
        self.path = path.partition(b"?")[0]
        self.process()


def keep_no_line(_factory: Any, _request: BoundedRequest) -> None:
    """Twisted makes a line of every answer, for a log that is switched off; Daphne has its own."""


def serve_bounded_requests() -> None:
    """Let Daphne serve every connection that opens from now on with a BoundedRequest."""
    http_protocol.WebRequest = BoundedRequest
    http_protocol.HTTPFactory.log = keep_no_line
