"""What is no frame, or too long, is refused like anything else: an `error` frame, then a close."""

from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.sockets import frame_of
from tests.stacks import Running

pytestmark = pytest.mark.fleet

MOST = 65_536
# As they are on the wire, with a mask of zeros.
NO_UTF8 = b"\x81\x82\0\0\0\0\xff\xfe"
RESERVED_BIT = b"\xc1\x84\0\0\0\0ping"
NO_MASK = b"\x81\x04ping"
UNKNOWN_OPCODE = b"\x83\x80\0\0\0\0"
PING = b'\x81\x90\0\0\0\0{"type": "ping"}'


def refused(client: ClientConnection) -> tuple[str, int | None]:
    """The code of the `error` frame, and that of the close."""
    assert frame_of(client.recv(timeout=5))["type"] == "hello"
    error = frame_of(client.recv(timeout=5))
    assert error["type"] == "error"
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=5)
    return error["code"], closed.value.rcvd and closed.value.rcvd.code


@pytest.mark.parametrize("size", [MOST + 1, 3 * 1024 * 1024])
def test_a_frame_that_is_too_long(running: Running, size: int) -> None:
    with connect(running.socket_url) as client:
        client.send("x" * size)

        assert refused(client) == ("TOO_LARGE", 1009)


def test_a_message_that_is_too_long_in_parts(running: Running) -> None:
    with connect(running.socket_url) as client:
        with suppress(ConnectionClosed):  # before the empty part that ends it
            client.send(["x" * (MOST // 2)] * 3)

        assert refused(client) == ("TOO_LARGE", 1009)


def test_the_longest_message_there_may_be_is_read(running: Running) -> None:
    with connect(running.socket_url) as client:
        client.recv(timeout=5)
        client.send("x" * MOST)

        assert frame_of(client.recv(timeout=5))["code"] == "MALFORMED"
        client.send('{"type": "ping"}')
        assert frame_of(client.recv(timeout=5))["type"] == "pong"


@pytest.mark.parametrize(
    ("frame", "code"),
    [(NO_UTF8, 1007), (RESERVED_BIT, 1002), (NO_MASK, 1002), (UNKNOWN_OPCODE, 1002)],
    ids=["no UTF-8", "a reserved bit", "no mask", "an unknown opcode"],
)
def test_what_is_no_frame(running: Running, frame: bytes, code: int) -> None:
    with connect(running.socket_url) as client:
        client.socket.sendall(frame)

        assert refused(client) == ("MALFORMED", code)


def test_nothing_is_read_of_what_follows(running: Running) -> None:
    with connect(running.socket_url) as client:
        client.socket.sendall(UNKNOWN_OPCODE + PING * 3)

        assert refused(client) == ("MALFORMED", 1002)
