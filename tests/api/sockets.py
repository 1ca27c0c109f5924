"""A WebSocket client against the ASGI application, in the test's own event loop."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from channels.testing import WebsocketCommunicator

from orderengine.asgi import application
from orders import execution
from tests import factories
from tests.asyncapi import heard

PATH = "/api/orders/execute"
# Far above what anything here takes; a test that waits this long has failed.
PATIENCE = 5.0
FRAME_MEMBERS = {
    "type", "orderId", "seq", "status", "previousStatus", "attempt", "timestamp", "replayed",
    "data",
}  # fmt: skip
FINISHED = ["pending", "routing", "building", "submitted", "confirmed"]


class Socket:
    def __init__(self, path: str, headers: dict[str, str]) -> None:
        named = {"Host": "localhost", **headers}
        raw = [(name.lower().encode(), value.encode("latin1")) for name, value in named.items()]
        self._wire = WebsocketCommunicator(application, path, headers=raw)

    async def open(self) -> None:
        """The server accepts every socket: a refusal is said after that."""
        accepted, _ = await self._wire.connect(PATIENCE)
        assert accepted

    async def receive(self, seconds: float = PATIENCE) -> dict[str, Any]:
        """The next frame, as orders/asyncapi.yaml describes it."""
        return heard(await self._wire.receive_json_from(seconds))

    async def hello(self) -> dict[str, Any]:
        frame = await self.receive()
        assert frame["type"] == "hello"
        return frame

    async def send(self, **frame: Any) -> None:
        await self.send_text(json.dumps(frame))

    async def send_text(self, text: str) -> None:
        await self._wire.send_to(text_data=text)

    async def send_bytes(self, data: bytes) -> None:
        await self._wire.send_to(bytes_data=data)

    async def said(self, seconds: float = PATIENCE) -> dict[str, Any]:
        """The next frame that is not a heartbeat: one comes where a test takes 15 s."""
        while (frame := await self.receive(seconds))["type"] == "heartbeat":
            pass
        return frame

    async def events(self, count: int, seconds: float = PATIENCE) -> list[dict[str, Any]]:
        """The next frames, each an event."""
        async with asyncio.timeout(seconds):
            frames = [await self.said(seconds) for _ in range(count)]
        assert [frame["type"] for frame in frames] == ["order.status"] * count, frames
        return frames

    async def until_pong(self) -> list[dict[str, Any]]:
        """Everything that was on its way before the answer to a ping."""
        await self.send(type="ping")
        frames = []
        while (frame := await self.said())["type"] != "pong":
            frames.append(frame)
        return frames

    async def close_code(self) -> int:
        """Of the close that comes next."""
        message = await self._wire.receive_output(PATIENCE)
        assert message["type"] == "websocket.close", message
        code: int = message["code"]
        return code

    async def kill(self) -> None:
        """As Daphne does with an application that is not at its end 10 s after its socket."""
        self._wire.future.cancel()
        await asyncio.wait([self._wire.future], timeout=PATIENCE)

    async def disconnect(self) -> None:
        if not self._wire.future.done():
            await self._wire.disconnect(timeout=PATIENCE)


Connect = Callable[..., Awaitable[Socket]]  # the fixture `connect`


async def place(**changes: Any) -> str:
    return await asyncio.to_thread(factories.place, **changes)


async def execute(order_id: str) -> None:
    await asyncio.to_thread(execution.execute_order, order_id)


async def acknowledged(socket: Socket, action: str) -> dict[str, Any]:
    """The next frame, which is an `ack`."""
    frame = await socket.receive()
    assert (frame["type"], frame["action"]) == ("ack", action), frame
    return frame


async def hear_all(socket: Socket) -> None:
    await socket.send(type="subscribe", scope="all")
    await acknowledged(socket, "subscribe")


async def refusal(socket: Socket, status: int, code: str | None = None) -> dict[str, Any]:
    """The next frame, which is an `error` frame of the one shape."""
    frame = await socket.receive()
    assert frame["type"] == "error", frame
    members = {"type", "title", "status", "code", "detail", "requestId", "errors"}
    assert set(frame) - {"inReplyTo", "retryAfter"} == members
    assert frame["status"] == status, frame
    assert all(frame[member] for member in ("title", "code", "detail", "requestId"))
    if code is not None:
        assert frame["code"] == code
    return frame


def seqs(frames: list[dict[str, Any]]) -> list[int]:
    return [frame["seq"] for frame in frames]
