"""What Daphne's WebSockets need to serve strangers: bounds on what waits, refusals that arrive.

Daphne keeps what a client does not read and what the application has not read, without end.
"""

# ruff: noqa: N802, N803  (the names are Twisted's and Autobahn's)

import json
import random
import time
from http import HTTPStatus
from typing import Any

import structlog
from daphne.server import reactor  # the one on Daphne's event loop, whoever imports it first
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol

from orderengine.daphne_requests import LINGER_SECONDS, answer_of
from orderengine.stopping import DRAIN_SECONDS
from orders.problems import Problem

log = structlog.get_logger(__name__)

# A client that leaves more than this unread is cut off; the kernel holds some MB besides.
MAX_UNSENT_BYTES = 1024 * 1024
# Nothing is read from a client while more than so many of its frames wait for the application, and
# for a moment after so many that do not: pongs, or the parts of a message.
MAX_UNHEARD_FRAMES = 20
FRAMES_AT_ONCE = 50
# Without a whole message between them: control frames, and parts that are next to nothing. Of
# larger parts a message has as many as 64 KiB allow.
MAX_EMPTY_FRAMES = 1_000
EMPTY_BYTES = 16
LOOK_AGAIN_SECONDS = 0.02
LAST_DATA_OPCODE = 7  # of the others each frame is a whole: ping, pong, close
SAYS_NOTHING = f"more than {MAX_EMPTY_FRAMES:,} frames without a message"


def serve_bounded_sockets() -> None:
    """Let Daphne serve every WebSocket that opens from now on with a BoundedSocket."""
    WebSocketFactory.protocol = BoundedSocket


class BoundedSocket(WebSocketProtocol):  # type: ignore[misc]  # Daphne has no types
    """The application of a socket that is cut off hears an ordinary disconnect, code 1006.

    It is its transport's producer (Twisted's IPushProducer): that is how it hears of unsent bytes.
    """

    reading_paused = False
    frames = 0
    empty_frames = 0  # since the last whole message

    def onOpen(self) -> None:
        # Whoever is refused reads why, and not that the connection was reset.
        self.failByDrop = False
        self.closeHandshakeTimeout = DRAIN_SECONDS
        self.unregisterProducer()  # the HTTP request this socket began as
        self.registerProducer(self, True)
        self.spread_pings()
        super().onOpen()

    def spread_pings(self) -> None:
        """Sockets that were opened, or have spoken, together are not pinged together.

        Daphne pings whoever was silent for an interval: a thousand at once hold up the rest 20 ms.
        """
        self.last_ping -= random.uniform(0, self.server.ping_interval)  # noqa: S311

    def check_timeouts(self) -> None:
        """Whoever is not read from is not asked for an answer."""
        if self.reading_paused:
            self.last_ping = time.time()
        super().check_timeouts()

    def pauseProducing(self) -> None:
        """Twisted calls it at each write that leaves more than 64 KiB unsent."""
        unsent = self.unsent_bytes()
        if unsent > MAX_UNSENT_BYTES:
            log.warning("socket.too_slow", client=self.client_addr, unsent=unsent)
            self.unregisterProducer()  # once is enough
            self.transport.abortConnection()  # a close frame would wait behind the rest

    def unsent_bytes(self) -> int:
        transport = self.transport
        return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Straight to the kernel where nothing waits, and not when the reactor comes by.

        Instead of Autobahn's, which besides makes a line for a log that is switched off.
        """
        taken: Any = 0
        if self.transport.connected and not self.unsent_bytes():
            taken = self.transport.writeSomeData(data)
        # Where the connection is lost it is not a number; the reactor is about to find out.
        sent = taken if isinstance(taken, int) else 0
        if sent < len(data):
            self.transport.write(data[sent:])

    def resumeProducing(self) -> None:
        """Everything is sent."""

    def stopProducing(self) -> None:
        """The connection is lost."""

    def consumeData(self) -> None:
        """Not all that has arrived, which may be ten thousand frames: the other clients wait."""
        if self.state not in {self.STATE_OPEN, self.STATE_CLOSING}:
            super().consumeData()  # the handshake
            return
        last = self.frames + FRAMES_AT_ONCE
        while self.frames < last:
            if self.reading_paused or not self.processData() or self.state == self.STATE_CLOSED:
                return
        if self.empty_frames <= MAX_EMPTY_FRAMES:
            self.pause_reading()
        elif self.state == self.STATE_OPEN:
            log.warning("socket.says_nothing", client=self.client_addr)
            self._fail_connection(self.CLOSE_STATUS_CODE_POLICY_VIOLATION, SAYS_NOTHING)
            self.pause_reading(LINGER_SECONDS)  # for its goodbye
        else:
            self.transport.abortConnection()

    def onFrameEnd(self) -> bool | None:
        frame = self.current_frame
        self.frames += 1
        if frame.opcode > LAST_DATA_OPCODE or frame.length < EMPTY_BYTES:
            self.empty_frames += 1
        ended: bool | None = super().onFrameEnd()
        return ended

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        super().onMessage(payload, isBinary)
        self.empty_frames = 0
        self.spread_pings()
        if not self.reading_paused and self.too_many_unheard():
            self.pause_reading()

    def pause_reading(self, seconds: float = LOOK_AGAIN_SECONDS) -> None:
        self.reading_paused = True
        self.transport.pauseProducing()
        reactor.callLater(seconds, self.read_on)

    def read_on(self) -> None:
        if self.state != self.STATE_CLOSED and self.too_many_unheard():
            reactor.callLater(LOOK_AGAIN_SECONDS, self.read_on)
            return
        self.reading_paused = False
        self.consumeData()
        if not self.reading_paused:
            self.transport.resumeProducing()

    def too_many_unheard(self) -> bool:
        return bool(self.application_queue.qsize() > MAX_UNHEARD_FRAMES)

    def dropConnection(self, abort: bool = False) -> None:
        """A client that has said goodbye and reads nothing is not waited for either."""
        super().dropConnection(abort)
        reactor.callLater(DRAIN_SECONDS, self.transport.abortConnection)

    def connectionLost(self, reason: Any) -> None:
        super().connectionLost(reason)
        self.is_closed = None  # its result is the socket itself

    def serverClose(self, code: int | None = None) -> None:
        """With any code: Autobahn's sendClose() refuses 1001 and 1013."""
        self.sendCloseFrame(1000 if code is None else code)

    def sendHttpErrorResponse(
        self, code: int, reason: str, responseHeaders: list[tuple[str, str]] | None = None
    ) -> None:
        """Of a handshake that is none; Autobahn's has the reason in its first line only."""
        name, headers = "BAD_REQUEST", dict(responseHeaders or [])
        if code == HTTPStatus.METHOD_NOT_ALLOWED:
            name, headers = "METHOD_NOT_ALLOWED", {"Allow": "GET"}
        detail = f"Not a WebSocket handshake: {reason.rstrip('.')}."
        self.sendData(answer_of(Problem(status=code, code=name, detail=detail, headers=headers)))

    def _fail_connection(self, code: int = 1001, reason: str = "going away") -> None:
        """Autobahn's, of a frame that is too long or none: first an `error` frame, as anywhere."""
        if self.state == self.STATE_OPEN:
            self.serverSend(json.dumps(refusal(code, reason).as_frame()))
        super()._fail_connection(code, reason)


def refusal(close_code: int, reason: str) -> Problem:
    if close_code == WebSocketProtocol.CLOSE_STATUS_CODE_MESSAGE_TOO_BIG:
        return Problem(status=413, code="TOO_LARGE", detail=f"{reason}.".capitalize())
    if close_code == WebSocketProtocol.CLOSE_STATUS_CODE_POLICY_VIOLATION:
        return Problem(status=400, code="MALFORMED", detail=f"{reason}.".capitalize())
    return Problem(status=400, code="MALFORMED", detail=f"Not a WebSocket frame: {reason}.")
