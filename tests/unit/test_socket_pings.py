"""Daphne pings a silent socket, and cuts it off where no answer comes."""

# ruff: noqa: N802, N815  (the names are Twisted's)

from types import SimpleNamespace
from typing import Any

import pytest
from daphne import ws_protocol

from orderengine import daphne_sockets
from orderengine.daphne_sockets import BoundedSocket

SOCKETS, INTERVAL, LOOK = 500, 20, 2  # seconds: of the pings, between Daphne's looks at all sockets


class Silent(BoundedSocket):
    """Open, with an application that hears its frames; counts its pings."""

    state = BoundedSocket.STATE_OPEN
    muted = False
    client_addr = None

    def __init__(self) -> None:
        self.pings = 0
        self.server = SimpleNamespace(
            ping_interval=INTERVAL, websocket_timeout=-1, log_action=lambda *_: None
        )
        self.application_queue: Any = SimpleNamespace(put_nowait=lambda _: None, qsize=lambda: 0)
        self.request = SimpleNamespace(path="/")
        self.socket_opened = self.last_ping = 0.0

    def registerProducer(self, *_: object) -> None:
        pass

    unregisterProducer = registerProducer

    def _sendAutoPing(self) -> None:
        self.pings += 1


class Clock:
    now = 0.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(ws_protocol, "time", clock)
    monkeypatch.setattr(daphne_sockets, "time", clock)
    return clock


def pings_at_each_look(clock: Clock, sockets: list[Silent]) -> list[int]:
    """For three intervals."""
    found = []
    for look in range(1, 3 * INTERVAL // LOOK):
        clock.now, before = look * LOOK + 0.1, sum(socket.pings for socket in sockets)
        for socket in sockets:
            socket.check_timeouts()
        found.append(sum(socket.pings for socket in sockets) - before)
    return found


def opened(socket: Silent) -> None:
    socket.onOpen()


def spoke(socket: Silent) -> None:
    socket.onMessage(b"{}", False)


@pytest.mark.parametrize("together", [opened, spoke])
def test_sockets_that_did_something_together_are_pinged_a_few_at_a_time(
    clock: Clock, together: Any
) -> None:
    sockets = [Silent() for _ in range(SOCKETS)]
    for socket in sockets:
        together(socket)

    at_each_look = pings_at_each_look(clock, sockets)

    assert min(socket.pings for socket in sockets) >= 2
    assert max(at_each_look) < SOCKETS / 4


def test_who_is_not_read_from_is_not_asked_for_an_answer(clock: Clock) -> None:
    """The answer would not be read in time."""
    socket = Silent()
    socket.onMessage(b"{}", False)
    socket.reading_paused = True

    assert sum(pings_at_each_look(clock, [socket])) == 0
