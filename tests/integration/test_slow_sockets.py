"""Clients that read too slowly, or not at all, at a real web process."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.conftest import create_database
from tests.stacks import Running, engine, wait_until

pytestmark = pytest.mark.fleet

MIB = 1024 * 1024
HANDSHAKE = (
    b"GET /api/orders/execute HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
# The answer names what it does not know, and spells each of these characters with six.
UNKNOWN_NAMES = {f"{n}{chr(0x7F) * 500}": n for n in range(5)}
WRONG = json.dumps({"type": "ping", **UNKNOWN_NAMES}, ensure_ascii=False)
ANSWER_BYTES = 15_000
CLOSE = b"\x88\x82" + bytes(4) + (1000).to_bytes(2)
PING = '{"type": "ping"}'
PONG = b"\x8a\x80" + bytes(4)


@pytest.fixture(scope="module")
def web(migrated: str) -> Iterator[Running]:
    """An engine without workers: orders stay pending, their sockets open."""
    with engine(create_database(migrated), workers=0) as found:
        yield found


def masked(text: str) -> bytes:
    """The frame a client sends; a mask of zeros leaves the text as it is."""
    size = len(text)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
    return b"\x81" + length + bytes(4) + text.encode()


@contextmanager
def deaf_client(running: Running) -> Iterator[socket.socket]:
    """A WebSocket of which nothing is read after the handshake."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(10)
        client.connect(("127.0.0.1", running.port))
        client.sendall(HANDSHAKE)
        heard = b""
        while b'"hello"' not in heard:
            heard += client.recv(4096)
        yield client


class Memory:
    """The largest growth of the web process's memory that was seen, in MiB."""

    def __init__(self, running: Running) -> None:
        self.process = psutil.Process(running.processes["web"].pid)
        self.before = self.process.memory_info().rss
        self.growth = 0.0

    def look(self) -> None:
        self.growth = max(self.growth, (self.process.memory_info().rss - self.before) / MIB)


def open_sockets(running: Running) -> int:
    return int(httpx.get(f"{running.url}/api/orders/stats").json()["websocket"]["connections"])


def assert_served(client: ClientConnection) -> None:
    client.send(PING)
    assert json.loads(client.recv(timeout=2))["type"] == "pong"


def test_a_client_that_never_reads_is_cut_off_before_it_costs_memory(web: Running) -> None:
    memory = Memory(web)
    asked = 0
    with connect(web.socket_url) as other, deaf_client(web) as deaf:
        assert json.loads(other.recv(timeout=2))["type"] == "hello"
        with pytest.raises(ConnectionError):  # noqa: PT012
            while asked < 40 * MIB:
                deaf.sendall(masked(WRONG))
                asked += ANSWER_BYTES
                memory.look()
                assert_served(other)
        wait_until(lambda: open_sockets(web) == 1)
    assert memory.growth < 10


def test_a_client_that_says_goodbye_and_never_reads_is_not_waited_for(web: Running) -> None:
    with deaf_client(web) as deaf:
        for _ in range(155):  # more than the kernel takes, less than is cut off
            deaf.sendall(masked(WRONG))
            time.sleep(0.005)
        deaf.sendall(CLOSE)
        wait_until(lambda: open_sockets(web) == 0)


def test_a_client_that_reads_is_not_cut_off(web: Running) -> None:
    with connect(web.socket_url) as client, ThreadPoolExecutor() as threads:
        threads.submit(lambda: [client.send(WRONG) for _ in range(600)])
        heard = sum(len(client.recv(timeout=5)) for _ in range(601))
        assert_served(client)
    assert heard > 600 * ANSWER_BYTES


def test_a_client_that_writes_faster_than_it_is_answered_is_made_to_wait(web: Running) -> None:
    memory = Memory(web)
    answered = 0
    with (
        ThreadPoolExecutor() as threads,
        connect(web.socket_url) as other,
        deaf_client(web) as flooding,
    ):
        assert json.loads(other.recv(timeout=2))["type"] == "hello"
        flood = threads.submit(send_for_ever, flooding, masked(PING) * 1000)
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            answered += len(flooding.recv(MIB))
            memory.look()
        assert_served(other)
        flooding.shutdown(socket.SHUT_RDWR)
        flood.result()
    assert memory.growth < 10
    assert answered > 10_000


@pytest.mark.parametrize("size", [16, 100, 1_000])
def test_a_message_may_come_in_many_parts(web: Running, size: int) -> None:
    text = PING.ljust(60_000).encode()
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    heads = [b"\x01", *[b"\x00"] * (len(parts) - 2), b"\x80"]
    length = (lambda n: bytes([0x80 | n])) if size < 126 else (lambda n: b"\xfe" + n.to_bytes(2))
    with deaf_client(web) as client:
        client.sendall(
            b"".join(
                head + length(len(part)) + bytes(4) + part
                for head, part in zip(heads, parts, strict=True)
            )
        )
        assert b'"pong"' in client.recv(4096)


@pytest.mark.parametrize(
    ("first", "frame"),
    [(b"", PONG), (b"\x01\x80" + bytes(4), b"\x00\x80" + bytes(4))],
    ids=["pongs", "parts of a message that are empty"],
)
def test_ten_thousand_frames_in_one_read_do_not_hold_up_the_others(
    web: Running, first: bytes, frame: bytes
) -> None:
    """And whoever says nothing by them is cut off."""
    answered = 0
    with ThreadPoolExecutor() as threads, deaf_client(web) as flooding, httpx.Client() as other:
        flood = threads.submit(send_for_ever, flooding, first + frame * 10_000)
        until = time.monotonic() + 2
        while time.monotonic() < until:
            answered += other.get(f"{web.url}/health/live").status_code == 200
        wait_until(flood.done, seconds=3)
    assert answered > 50  # 4 where all that has arrived is gone through at once


def test_whoever_goes_on_without_a_message_is_told_why(web: Running) -> None:
    with connect(web.socket_url) as client:
        client.recv(timeout=5)
        client.socket.sendall(PONG * 1_200)
        error = json.loads(client.recv(timeout=5))
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=5)

    assert (error["type"], error["code"]) == ("error", "MALFORMED")
    assert error["detail"] == "More than 1,000 frames without a message."
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_whoever_is_told_may_take_its_time_to_say_goodbye(web: Running) -> None:
    """A library to which that fails forgets what it has read."""
    with deaf_client(web) as client:
        client.sendall(PONG * 1_200)
        assert b"without a message" in client.recv(4096)
        time.sleep(0.2)  # it has other things to do
        client.sendall(CLOSE)


def test_whoever_takes_its_time_may_go_on_without_a_message(web: Running) -> None:
    """As a client does that pings for a day, and only listens."""
    with connect(web.socket_url) as client:
        client.recv(timeout=5)
        for _ in range(40):
            client.socket.sendall(PONG * 30)
            assert client.ping().wait(5)
        assert_served(client)


def send_for_ever(client: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # the test shuts it down
        while True:
            client.sendall(data)


def test_a_burst_of_connections_waits_to_be_taken(web: Running) -> None:
    """Those a server's kernel has no room for try again after a second."""
    process = web.processes["web"]
    process.send_signal(signal.SIGSTOP)
    with ExitStack() as clients:
        try:
            for _ in range(200):
                client = socket.create_connection(("127.0.0.1", web.port), timeout=0.9)
                clients.enter_context(client)
        finally:
            process.send_signal(signal.SIGCONT)
        client.settimeout(10)
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
