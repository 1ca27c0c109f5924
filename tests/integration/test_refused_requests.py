"""What Daphne, Twisted and Autobahn refuse before the application is asked: a problem as well."""

import json
import socket
from http import HTTPStatus
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.sockets import frame_of
from tests.stacks import Running

pytestmark = pytest.mark.fleet

PATH = b"/api/orders/execute"
LONG = b"x" * 17_000
ORDERS = b"GET /api/orders HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /api/orders/execute HTTP/1.1\r\nHost: localhost\r\n"
UPGRADE = b"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"


def answer(running: Running, request: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers and problem, of a connection that the server then closes."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Content-Length"] == str(len(body))
    problem = json.loads(body)
    assert problem["requestId"] == headers["X-Request-ID"]
    assert first == f"HTTP/1.1 {problem['status']} {HTTPStatus(problem['status']).phrase}"
    return problem["status"], headers, problem


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /api/orders?tokenIn=\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"what is this\r\n\r\n", 400),
        (ORDERS + b"no header at all\r\n\r\n", 400),
        (ORDERS + b"X-Broken: a\0b\r\n\r\n", 400),
        (ORDERS + b"Content-Length: many\r\n\r\n", 400),
        (ORDERS + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (ORDERS + b"X-Long: " + LONG + b"\r\n\r\n", 431),
        (ORDERS + (b"X-Long: " + LONG[:5000] + b"\r\n") * 5 + b"\r\n", 431),
        (b"GET /api/orders?clientOrderId=" + LONG + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /" + LONG * 60, 431),
        (POST + b"Content-Length: 262145\r\nExpect: 100-continue\r\n\r\n", 413),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_request_is_a_problem(
    running: Running, request_line: bytes, status: int
) -> None:
    found, _, problem = answer(running, request_line)

    assert found == status
    assert problem["code"] == ("BAD_REQUEST" if status == 400 else "TOO_LARGE")
    assert problem["detail"].endswith(".")


@pytest.mark.parametrize(
    ("handshake", "status", "word"),
    [
        (b"GET " + PATH + b" HTTP/1.1\r\n" + UPGRADE + b"\r\n", 400, "not supported"),
        (
            b"GET " + PATH + b" HTTP/1.1\r\n" + UPGRADE + VERSION + b"\r\n",
            400,
            "Sec-WebSocket-Key",
        ),
        (b"POST " + PATH + b" HTTP/1.1\r\n" + UPGRADE + VERSION + b"\r\n", 405, "POST"),
    ],
    ids=["no version", "no key", "POST"],
)
def test_what_is_no_handshake_is_a_problem(
    running: Running, handshake: bytes, status: int, word: str
) -> None:
    found, headers, problem = answer(running, handshake)

    assert found == status
    assert word in problem["detail"]
    assert headers.get("Allow") == ("GET" if status == 405 else None)


@pytest.mark.parametrize(
    "origin", ["evil", "*", "", "http://", "data:", "http://evil:99999", "https://[::1", "null"]
)
def test_an_origin_that_is_none_is_refused_as_a_foreign_one(running: Running, origin: str) -> None:
    headers = {"Origin": origin}
    with connect(running.socket_url, additional_headers=headers, proxy=None) as client:
        error = frame_of(client.recv(timeout=5))
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=5)

    assert (error["type"], error["status"]) == ("error", 403)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4403


def test_the_next_connection_is_served_as_ever(running: Running) -> None:
    assert httpx.get(f"{running.url}/health", trust_env=False).status_code == 200


@pytest.mark.parametrize("path", ["/api/schema", "/api/orders?limit=200", "/health"])
def test_after_the_answer_to_head_comes_the_next_answer(running: Running, path: str) -> None:
    running.place_batch(100)  # that page comes in several pieces
    connection = HTTPConnection("127.0.0.1", running.port, timeout=10)
    for _ in range(2):
        connection.request("HEAD", path)
        head = connection.getresponse()
        assert (head.status, head.read()) == (200, b"")
        connection.request("GET", "/health/live")
        assert json.loads(connection.getresponse().read())["status"] == "ok"
    connection.close()


def test_a_client_does_not_say_where_the_application_is_mounted(running: Running) -> None:
    """Else a proxy that keeps /metrics to itself would let /open/metrics through."""
    mounted = {"Daphne-Root-Path": "/open"}

    moved = httpx.get(f"{running.url}/open/metrics", headers=mounted, trust_env=False)
    asked = httpx.get(f"{running.url}/admin/", headers=mounted, trust_env=False)

    assert moved.status_code == 404
    assert asked.headers["Location"].startswith("/admin/login/")


def test_a_whole_address_is_read_as_its_path(running: Running) -> None:
    """As a proxy's client sends it (RFC 9112, 3.2.2)."""
    order_id = running.place()
    for target in (f"{running.url}/api/orders/{order_id}", f"HTTP://else/api/orders/{order_id}?"):
        connection = HTTPConnection("127.0.0.1", running.port, timeout=10)
        connection.putrequest("GET", target, skip_host=True)
        connection.putheader("Host", "localhost")
        connection.endheaders()
        assert json.loads(connection.getresponse().read())["orderId"] == order_id
        connection.close()


def test_every_status_has_its_phrase(running: Running) -> None:
    connection = HTTPConnection("127.0.0.1", running.port, timeout=10)
    connection.request("GET", "/api/orders/execute")
    refused = connection.getresponse()
    assert (refused.status, refused.reason) == (426, "Upgrade Required")
    connection.close()
