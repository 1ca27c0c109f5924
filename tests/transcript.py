"""`make transcript HOST=…`: one client's life over the WebSocket alone, frame by frame.

It places an order, follows it, drops the connection, resumes where it was, and cancels another.
"""

import argparse
import asyncio
import json
import os
import sys
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidURI

ORDER = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5", "slippage": "0.01"}
PATH = "/api/orders/execute"
SHOWN = 150  # characters of a frame


def show(sign: str, frame: dict[str, Any]) -> None:
    text = json.dumps(frame, separators=(",", ":"))
    print(f"{sign} {text if len(text) <= SHOWN else text[:SHOWN] + '…'}")


async def say(socket: ClientConnection, **frame: Any) -> None:
    show(">", frame)
    await socket.send(json.dumps(frame))


async def hear(socket: ClientConnection, kind: str, **expected: Any) -> dict[str, Any]:
    """The next frame, which must be of this type and have these fields; heartbeats are passed."""
    while True:
        frame: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 30))
        show("<", frame)
        if frame["type"] == "heartbeat":
            continue
        wanted = {"type": kind, **expected}
        if {name: frame.get(name) for name in wanted} != wanted:
            raise SystemExit(frame.get("detail") or f"expected {wanted}")
        return frame


async def life(url: str, headers: dict[str, str]) -> None:
    print("# place an order and follow it")
    async with connect(url, additional_headers=headers) as socket:
        await hear(socket, "hello")
        await say(socket, type="order.submit", requestId="r1", order=ORDER)
        order_id = (await hear(socket, "ack"))["orderId"]
        await hear(socket, "order.status", seq=1, status="pending")
        await hear(socket, "order.status", seq=2, status="routing")
        print("# drop the connection, and come back for what was missed")
    async with connect(url, additional_headers=headers) as socket:
        await hear(socket, "hello")
        await say(socket, type="subscribe", orderId=order_id, afterSeq=2)
        await hear(socket, "ack")
        for seq, status in enumerate(("building", "submitted", "confirmed"), start=3):
            await hear(socket, "order.status", seq=seq, status=status)
        print("# fill the queue, place one more and cancel it")
        for _ in range(25):
            await socket.send(json.dumps({"type": "order.submit", "order": ORDER}))
        cancelled = await last_of(socket, 25)
        await say(socket, type="order.cancel", orderId=cancelled)
        await until_cancelled(socket, cancelled)
        print("# close")


async def last_of(socket: ClientConnection, count: int) -> str:
    """The id in the last acknowledgement; the frames in between are not shown."""
    while True:
        frame = json.loads(await asyncio.wait_for(socket.recv(), 30))
        if frame["type"] == "ack":
            count -= 1
        if count == 0:
            show("<", frame)
            return str(frame["orderId"])


async def until_cancelled(socket: ClientConnection, order_id: str) -> None:
    while True:
        frame = json.loads(await asyncio.wait_for(socket.recv(), 30))
        if frame.get("orderId") == order_id and frame["type"] in {"ack", "order.status"}:
            show("<", frame)
            if frame.get("status") == "cancelled" and frame["type"] == "order.status":
                return
        if frame["type"] == "error":
            show("<", frame)
            raise SystemExit("not cancelled")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host", nargs="?", default="http://127.0.0.1:3000")
    host = parser.parse_args().host.rstrip("/")
    key = os.environ.get("API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        asyncio.run(life(host.replace("http", "ws", 1) + PATH, headers))
    except (OSError, InvalidURI, InvalidHandshake) as error:
        sys.exit(f"{host} does not answer: {error}")


if __name__ == "__main__":
    main()
