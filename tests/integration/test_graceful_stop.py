"""A real web process that is told to stop: what its clients see, and how soon it is gone."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from websockets.asyncio import client as asynchronous
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from orderengine.embedded.server import free_port
from orderengine.management.commands.up import daphne
from tests.sockets import events, frame_of, hear_to_the_end
from tests.stacks import ORDER, ROOT, Running, answers, stop, wait_until

pytestmark = pytest.mark.fleet

EXECUTE = "/api/orders/execute"
WAITING_FOR_ORDERS = """
SELECT 1 FROM pg_locks WHERE relation = 'orders_order'::regclass AND NOT granted
"""
HANDSHAKE = (
    f"GET {EXECUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()
CLOSE_1001 = b"\x88\x02" + (1001).to_bytes(2)
STUCK = """
import asyncio, time
from orderengine.stopping import Stoppable, stop_gracefully_on_signals

async def answer(scope, receive, send):
    if scope["path"] != "/health/live":
        await asyncio.to_thread(time.sleep, 60)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

application = Stoppable(answer)
stop_gracefully_on_signals(application)
"""


@dataclass
class Web:
    """A web process of its own, for the test to stop."""

    port: int
    process: subprocess.Popen[bytes]
    output: Path
    told_at: float = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}{EXECUTE}"

    def place(self) -> str:
        return str(httpx.post(self.url + EXECUTE, json=ORDER).json()["orderId"])

    def tell(self, signum: signal.Signals = signal.SIGTERM) -> None:
        self.told_at = time.monotonic()
        self.process.send_signal(signum)

    def refuses(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except ConnectionRefusedError:
            return True
        return False

    def seconds_to_its_end(self) -> float:
        """How long it has taken to exit with 0 since it was told."""
        assert self.process.wait(10) == 0, self.output.read_text()
        return time.monotonic() - self.told_at


QUIET = {"LOG_LEVEL": "warning"}  # what is said then is a fault


@contextmanager
def serving(output: Path, application: str, **environment: str) -> Iterator[Web]:
    port = free_port()
    argv = [*daphne(port), application]
    with output.open("w") as file:
        process = subprocess.Popen(
            argv, cwd=ROOT, env={**os.environ, **QUIET, **environment}, stdout=file, stderr=file
        )
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/health/live"), seconds=30)
        yield Web(port, process, output)
    finally:
        stop(process)


@pytest.fixture
def web(new_database: str, tmp_path: Path) -> Iterator[Web]:
    """On a database without workers: orders stay pending, their sockets open."""
    application = "orderengine.asgi:application"
    with serving(tmp_path / "output", application, DATABASE_URL=new_database) as found:
        yield found


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Web]:
    """It has one request that never ends, in a thread of its own."""
    (tmp_path / "stuck.py").write_text(STUCK)
    with (
        serving(tmp_path / "output", "stuck:application", PYTHONPATH=str(tmp_path)) as found,
        socket.create_connection(("127.0.0.1", found.port)) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nHost: stuck\r\n\r\n")
        yield found


@contextmanager
def held_up(database_url: str) -> Iterator[None]:
    """Whoever places an order waits until the end of the block."""
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK TABLE orders_order IN EXCLUSIVE MODE")
        yield


def one_waits(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        wait_until(lambda: connection.execute(WAITING_FOR_ORDERS).fetchone())


def rest_of(client: ClientConnection) -> tuple[list[dict[str, Any]], int]:
    """Every frame until the server closes, and the close code."""
    frames = []
    try:
        while True:
            frames.append(frame_of(client.recv(timeout=10)))
    except ConnectionClosed as closed:
        return frames, closed.rcvd.code if closed.rcvd else 1006


def assert_told(frames: list[dict[str, Any]], code: int) -> None:
    assert [frame["type"] for frame in frames].count("server.shutdown") == 1
    assert (frames[-1]["type"], code) == ("server.shutdown", 1001)
    assert frames[-1]["timestamp"].endswith("Z")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_every_socket_is_told_and_closed(web: Web, signum: signal.Signals) -> None:
    first, second = f"?orderId={web.place()}", f"?orderId={web.place()}"
    with ExitStack() as open_sockets:
        clients = [
            open_sockets.enter_context(connect(web.socket_url + query))
            for query in (first, first, second, "", "")
        ]
        clients[-1].send(json.dumps({"type": "subscribe", "scope": "all"}))
        for client in clients:
            assert frame_of(client.recv(timeout=10))["type"] == "hello"

        web.tell(signum)

        for client in clients:
            assert_told(*rest_of(client))
    assert web.seconds_to_its_end() < 1
    assert web.output.read_text() == ""  # no traceback, no word of a socket


def test_a_client_that_does_not_answer_the_close_loses_nothing_and_is_not_waited_for(
    web: Web,
) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=10) as client:
        client.sendall(HANDSHAKE)
        heard = b""
        while b'"hello"' not in heard:
            heard += client.recv(4096)

        web.tell()

        assert web.seconds_to_its_end() < 2
        heard = b"".join(iter(lambda: client.recv(4096), b""))  # a reset would raise here
    assert b'"server.shutdown"' in heard
    assert heard.endswith(CLOSE_1001)


async def test_two_hundred_sockets_at_once_are_told(web: Web) -> None:
    opened = asyncio.Semaphore(0)

    async def listen() -> tuple[str, int]:
        async with asynchronous.connect(web.socket_url, open_timeout=30) as client:
            frame = frame_of(await client.recv())
            opened.release()
            try:
                while True:
                    frame = frame_of(await client.recv())
            except ConnectionClosed as closed:
                return frame["type"], closed.rcvd.code if closed.rcvd else 1006

    async with asyncio.TaskGroup() as group:
        listeners = [group.create_task(listen()) for _ in range(200)]
        for _ in listeners:
            await opened.acquire()
        web.tell()

    assert {listener.result() for listener in listeners} == {("server.shutdown", 1001)}
    assert await asyncio.to_thread(web.seconds_to_its_end) < 3
    assert web.output.read_text() == ""


def test_an_order_being_placed_is_answered_and_nobody_else_is_let_in(
    web: Web, new_database: str
) -> None:
    with ThreadPoolExecutor() as threads, httpx.Client() as kept, connect(web.socket_url) as other:
        kept.get(f"{web.url}/health/live")
        with held_up(new_database):
            placing = threads.submit(httpx.post, web.url + EXECUTE, json=ORDER)
            one_waits(new_database)
            web.tell()
            wait_until(web.refuses)
            assert_told(*rest_of(other))
            last = kept.get(f"{web.url}/health/live")  # on a connection that was open before
            assert web.process.poll() is None
        answer = placing.result()

    assert (last.status_code, last.headers["connection"]) == (200, "close")
    assert answer.status_code == 201
    assert web.seconds_to_its_end() < 4
    assert web.output.read_text() == ""
    with psycopg.connect(new_database) as connection:
        stored = connection.execute("SELECT id FROM orders_order").fetchall()
    assert stored == [(answer.json()["orderId"],)]


def test_an_order_submitted_on_a_socket_is_acknowledged_before_the_goodbye(
    web: Web, new_database: str
) -> None:
    with connect(web.socket_url) as client:
        with held_up(new_database):
            client.send(json.dumps({"type": "order.submit", "order": ORDER}))
            one_waits(new_database)
            web.tell()
            wait_until(web.refuses)
        frames, code = rest_of(client)

    assert [frame["type"] for frame in frames[:2]] == ["hello", "ack"]
    assert_told(frames, code)
    assert web.seconds_to_its_end() < 4


def test_a_request_that_never_ends_does_not_keep_the_process(stuck: Web) -> None:
    stuck.tell()

    assert 4.9 < stuck.seconds_to_its_end() < 6.5
    assert "web.broken_off" in stuck.output.read_text()


def test_a_second_signal_ends_the_process_at_once(stuck: Web) -> None:
    stuck.tell()
    wait_until(stuck.refuses)
    assert stuck.process.poll() is None

    stuck.tell()

    assert stuck.seconds_to_its_end() < 1


def test_a_reader_goes_on_at_another_process_with_every_event_once(
    running: Running, tmp_path: Path
) -> None:
    order_ids = [running.place() for _ in range(5)]
    application = "orderengine.asgi:application"
    with (
        serving(tmp_path / "output", application, DATABASE_URL=running.database_url) as web,
        connect(web.socket_url) as client,
    ):
        order_ids += [running.place() for _ in range(5)]
        for order_id in order_ids:
            client.send(json.dumps({"type": "subscribe", "orderId": order_id}))
        frames: list[dict[str, Any]] = []
        while {event["orderId"] for event in events(frames)} != set(order_ids):
            frames.append(frame_of(client.recv(timeout=10)))
        web.tell()
        rest, code = rest_of(client)
    assert_told(rest, code)

    for order_id in order_ids:
        seen = [event["seq"] for event in events(frames + rest) if event["orderId"] == order_id]
        resumed, _ = hear_to_the_end(f"{running.socket_url}?orderId={order_id}&afterSeq={seen[-1]}")
        assert seen + [event["seq"] for event in events(resumed)] == [1, 2, 3, 4, 5]
