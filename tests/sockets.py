"""A client of the WebSocket that keeps what it hears."""

import json
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.asyncapi import heard

CONFIRMED = ["pending", "routing", "building", "submitted", "confirmed"]


def frame_of(text: str | bytes) -> dict[str, Any]:
    """What was received, after checking that orders/asyncapi.yaml describes it."""
    return heard(json.loads(text))


def hear_to_the_end(url: str, seconds: float = 30.0) -> tuple[list[dict[str, Any]], int]:
    """Every frame until the server closes, and the close code."""
    frames = []
    with connect(url) as socket:
        try:
            while True:
                frames.append(frame_of(socket.recv(timeout=seconds)))
        except ConnectionClosed as closed:
            return frames, closed.rcvd.code if closed.rcvd else 1006


def events(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [frame for frame in frames if frame["type"] == "order.status"]
