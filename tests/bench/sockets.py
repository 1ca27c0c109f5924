"""A WebSocket client that notes when each frame arrived, and looks into the frames later.

A thousand of them must not queue for the processor that their server needs: `websockets` takes
ten times as long for a frame.
"""

import asyncio
import base64
import json
import os
import struct
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.bench.load import BenchError, address

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
OPENED_AT_ONCE = 20


class Socket(asyncio.Protocol):
    """`arrived` holds the frames, each with the time in seconds since 1970."""

    def __init__(self, base_url: str, key: str = "") -> None:
        self.arrived: list[tuple[float, bytes]] = []
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._where = urlsplit(base_url)
        self._key = key
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        lines = [
            "GET /api/orders/execute HTTP/1.1",
            f"Host: {self._where.netloc}",
            f"Origin: {self._where.scheme}://{self._where.netloc}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            *([f"Authorization: Bearer {self._key}"] if self._key else []),
        ]
        transport.write("\r\n".join([*lines, "", ""]).encode())

    def data_received(self, data: bytes) -> None:
        now = time.time()
        rest = self._rest + data if self._rest else data
        if not self.open.done():
            head, end, rest = rest.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            if not head.startswith(b"HTTP/1.1 101"):
                status = head.split(b"\r\n")[0].decode()
                self.open.set_exception(BenchError(f"a WebSocket was refused: {status}"))
                return
            self.open.set_result(None)
        while (frame := first_frame(rest)) is not None:
            opcode, payload, used = frame
            rest = rest[used:]
            if opcode == TEXT:
                self.arrived.append((now, payload))
            elif opcode == PING:
                self._write(PONG, payload)
        self._rest = rest

    def connection_lost(self, error: Exception | None) -> None:
        if not self.open.done():
            self.open.set_exception(BenchError(f"a WebSocket was closed at once ({error})"))

    def send(self, **frame: Any) -> None:
        self._write(TEXT, json.dumps(frame).encode())

    def _write(self, opcode: int, payload: bytes) -> None:
        self.transport.write(client_frame(opcode, payload))

    def frames(self) -> list[tuple[float, dict[str, Any]]]:
        return [(at, json.loads(payload)) for at, payload in self.arrived]

    def close(self) -> None:
        self._write(CLOSE, struct.pack("!H", 1000))
        self.transport.close()


def client_frame(opcode: int, payload: bytes) -> bytes:
    """Masked, as a client's frames must be, with zeros."""
    if len(payload) < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | len(payload))
    else:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, len(payload))
    return head + bytes(4) + payload


def first_frame(data: bytes) -> tuple[int, bytes, int] | None:
    """Opcode, payload and length of a server's frame; None while it is not all there."""
    if len(data) < 2:
        return None
    start, length = 2, data[1] & 0x7F
    if length >= 126:
        start = 4 if length == 126 else 10
        if len(data) < start:
            return None
        length = int.from_bytes(data[2:start], "big")
    if len(data) < start + length:
        return None
    return data[0] & 0x0F, data[start : start + length], start + length


@asynccontextmanager
async def sockets(base_url: str, count: int, key: str = "") -> AsyncIterator[list[Socket]]:
    """So many open sockets, each greeted with `hello`."""
    loop = asyncio.get_running_loop()
    made: list[Socket] = []
    try:
        while len(made) < count:
            batch = [
                await loop.create_connection(lambda: Socket(base_url, key), **address(base_url))
                for _ in range(min(OPENED_AT_ONCE, count - len(made)))
            ]
            opened = [socket for _, socket in batch]
            made += opened
            await asyncio.gather(*(socket.open for socket in opened))
            await until_arrived(opened, 1)
        yield made
    finally:
        for socket in made:
            socket.close()
        await asyncio.sleep(0.2)


async def until_arrived(sockets: Sequence[Socket], count: int, seconds: float = 30.0) -> None:
    """Until each socket has had so many frames since it was opened."""
    try:
        async with asyncio.timeout(seconds):
            while any(len(socket.arrived) < count for socket in sockets):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        lacking = sum(len(socket.arrived) < count for socket in sockets)
        raise BenchError(
            f"{lacking} of {len(sockets)} sockets had fewer than {count} frames after {seconds} s"
        ) from None
