"""A frame goes to the kernel at once, in the order in which frames were sent, and none is lost."""

# ruff: noqa: N802  (the names are Twisted's)

from typing import Any

import pytest
from twisted.internet.main import CONNECTION_LOST

from orderengine.daphne_sockets import BoundedSocket


class Transport:
    """Twisted's, of which the kernel takes so many bytes at each try, or which is lost."""

    def __init__(self, *takes: int | Exception) -> None:
        self.takes = list(takes)
        self.connected = True
        self.dataBuffer, self.offset, self._tempDataLen = b"", 0, 0
        self.taken, self.waiting = b"", b""

    def writeSomeData(self, data: bytes) -> int | Exception:
        took = self.takes.pop(0)
        if isinstance(took, int):
            self.taken += data[:took]
            return min(took, len(data))
        return took

    def write(self, data: bytes) -> None:
        self.waiting += data
        self._tempDataLen = len(self.waiting)


def sent(transport: Transport, *frames: bytes) -> tuple[bytes, bytes]:
    """(what the kernel has, what waits for it)"""
    socket: Any = BoundedSocket()
    socket.transport = transport
    for frame in frames:
        socket.sendData(frame)
    return transport.taken, transport.waiting


@pytest.mark.parametrize(
    ("takes", "expected"),
    [
        ((3, 3), (b"onetwo", b"")),
        ((2,), (b"on", b"etwo")),
        ((0,), (b"", b"onetwo")),
        ((3, 1), (b"onet", b"wo")),
        ((CONNECTION_LOST,), (b"", b"onetwo")),  # the reactor finds the loss
    ],
)
def test_what_the_kernel_does_not_take_waits_and_what_follows_behind_it(
    takes: tuple[int | Exception, ...], expected: tuple[bytes, bytes]
) -> None:
    assert sent(Transport(*takes), b"one", b"two") == expected


def test_a_frame_waits_behind_what_is_half_sent() -> None:
    transport = Transport(3)
    transport.dataBuffer, transport.offset = b"head", 2

    assert sent(transport, b"one") == (b"", b"one")


def test_nothing_is_sent_on_a_connection_that_is_closed() -> None:
    transport = Transport(3)
    transport.connected = False

    assert sent(transport, b"one") == (b"", b"one")
