"""Daphne pings a silent socket; many that were opened together are not pinged together."""

# ruff: noqa: N802  (the names are Twisted's)

from types import SimpleNamespace
from typing import Any

import pytest
from daphne import ws_protocol

from orderengine.daphne_sockets import BoundedSocket

SOCKETS, INTERVAL, LOOK = 500, 20, 2  # seconds: of the pings, between Daphne's looks at all sockets


class Silent(BoundedSocket):
    """Open, with an application that hears one frame; counts its pings."""

    state = BoundedSocket.STATE_OPEN
    muted = False
    client_addr = None
    transport = None

    def __init__(self) -> None:
        self.pings = 0
        self.server = SimpleNamespace(ping_interval=INTERVAL, websocket_timeout=-1)
        self.application_queue: Any = SimpleNamespace(put_nowait=lambda _: None, qsize=lambda: 0)
        self.socket_opened = 0.0

    def _sendAutoPing(self) -> None:
        self.pings += 1


def test_sockets_that_spoke_together_are_pinged_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(ws_protocol, "time", SimpleNamespace(time=lambda: now))
    sockets = [Silent() for _ in range(SOCKETS)]
    for socket in sockets:
        socket.onMessage(b"{}", False)

    at_each_look = []
    for look in range(1, 3 * INTERVAL // LOOK):
        now, before = look * LOOK + 0.1, sum(socket.pings for socket in sockets)
        for socket in sockets:
            socket.check_timeouts()
        at_each_look.append(sum(socket.pings for socket in sockets) - before)

    assert min(socket.pings for socket in sockets) >= 2
    assert max(at_each_look) < SOCKETS / 4
