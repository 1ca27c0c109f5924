"""REST on uvicorn and WebSockets on Daphne, behind nginx on one port: `manage.py up --fast`."""

import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from orderengine import proxy
from orderengine.daphne_requests import HEAD_TOO_LONG
from orderengine.embedded.server import free_port, port_is_free
from tests.integration.test_graceful_stop import (
    EXECUTE,
    HANDSHAKE,
    assert_told,
    held_up,
    one_waits,
    rest_of,
)
from tests.integration.test_up import Up, stop_and_remove
from tests.sockets import CONFIRMED, events, frame_of, hear_to_the_end
from tests.stacks import ORDER, Running, answers, engine, stop, wait_until

pytestmark = [
    pytest.mark.fleet,
    pytest.mark.skipif(bool(proxy.missing()), reason=f"needs {', '.join(proxy.missing())}"),
]


ORIGINS = ["https://app.example.com", "https://other.example.com:8443"]


@pytest.fixture(scope="module")
def fast(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The shared engine's worker and sockets, with uvicorn and nginx before them."""
    try:
        yield fronted(running, tmp_path_factory.mktemp("nginx"), origins=ORIGINS)
    finally:
        for name in ("proxy", "rest"):
            stop(running.processes.pop(name))


def fronted(behind: Running, folder: Path, **options: Any) -> Running:
    """The engine with uvicorn and nginx before it, two more of its processes."""
    rest, port = str(free_port()), free_port()
    places = {
        "listen": f"127.0.0.1:{port}",
        "rest": f"127.0.0.1:{rest}",
        "sockets": f"127.0.0.1:{behind.port}",
    }
    found = replace(behind, port=port)
    found.start("rest", [*proxy.UVICORN, "--port", rest, "orderengine.rest:application"])
    found.start("proxy", proxy.nginx(folder, **places, **options))
    wait_until(lambda: answers(f"{found.url}/health/ready"), seconds=30)
    return found


@pytest.mark.parametrize("behind_proxy", [False, True])
@pytest.mark.parametrize("profile", ["Daphne alone", "fast"])
def test_a_client_has_the_address_that_a_proxy_in_front_says_where_there_is_one(
    new_database: str, tmp_path: Path, profile: str, behind_proxy: bool
) -> None:
    limits = {"API_RATE_LIMIT": "90/h", "BEHIND_PROXY": str(behind_proxy)}
    with engine(new_database, **limits, workers=0) as web:
        fast = profile == "fast"
        found = fronted(web, tmp_path, behind_proxy=behind_proxy) if fast else web

        def left(address: str) -> int:
            """Of the requests of a client, to whom a proxy gives this address."""
            said = httpx.get(f"{found.url}/api/orders", headers={"X-Forwarded-For": address})
            return int(said.headers["RateLimit-Remaining"])

        counted = [left(address) for address in ("203.0.113.1", "203.0.113.2", "203.0.113.1")]

    assert counted == ([89, 89, 88] if behind_proxy else [89, 88, 87])


HOST = b"Host: localhost\r\n"
GET = b"GET /api/orders HTTP/1.1\r\n" + HOST
POST = b"POST /api/orders/execute HTTP/1.1\r\n" + HOST


@pytest.fixture
def fast_up(new_database: str) -> Iterator[Up]:
    """`manage.py up --fast` that has just said it is ready."""
    stack = Up(options=("--fast", "--no-flower", "--workers", "0"))
    try:
        stack.start(DATABASE_URL=new_database, REDIS_URL=os.environ["REDIS_URL"])
        yield stack
    finally:
        stop_and_remove(stack)


def test_post_and_socket_share_a_path(fast: Running) -> None:
    order_id = fast.place()
    frames, code = hear_to_the_end(f"{fast.socket_url}?orderId={order_id}")
    assert [frame["status"] for frame in events(frames)] == CONFIRMED
    assert code == 1000
    assert httpx.get(f"{fast.url}/api/orders/execute").status_code == 426


def test_refusals_are_problems_whoever_makes_them(fast: Running) -> None:
    url = f"{fast.url}/api/orders/execute"
    header = {"Content-Type": "application/json"}
    by_engine = httpx.post(url, content=b"x" * 300_000, headers=header)
    by_proxy = httpx.post(url, content=b"x" * 1_100_000, headers=header)
    for answer in (by_engine, by_proxy):
        assert answer.status_code == 413
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "TOO_LARGE"
    assert by_proxy.json()["detail"] == by_engine.json()["detail"]

    traced = httpx.request("TRACE", url)
    assert (traced.status_code, traced.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert "POST" in traced.headers["Allow"]


def test_an_engine_that_is_away_is_told_like_any_refusal(fast: Running) -> None:
    rest = fast.processes.pop("rest")
    stop(rest)
    try:
        header = {"X-Request-ID": "mine-1"}
        answer = httpx.post(f"{fast.url}/api/orders/execute", json=ORDER, headers=header)
        assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
        assert answer.headers["Retry-After"] == "1"
        assert answer.headers["X-Request-ID"] == answer.json()["requestId"] == "mine-1"
    finally:
        fast.start("rest", rest.args)
        wait_until(lambda: answers(f"{fast.url}/health/ready"), seconds=30)


@pytest.mark.parametrize(
    ("request_line", "status", "code"),
    [
        (b"FOO /api/orders HTTP/1.1\r\n" + HOST, 405, "METHOD_NOT_ALLOWED"),
        (b"TRACE /api/orders HTTP/1.1\r\n" + HOST, 405, "METHOD_NOT_ALLOWED"),
        (b"what is this", 400, "BAD_REQUEST"),
        (b"GET /api/\xe9 HTTP/1.1\r\n" + HOST, 400, "BAD_REQUEST"),
        (b"GET /api/orders?tokenIn=\xc3\xa9 HTTP/1.1\r\n" + HOST, 400, "BAD_REQUEST"),
        (b"GET /api/orders HTTP/2.0\r\n" + HOST, 400, "BAD_REQUEST"),
        (b"GET /api/orders HTTP/3.7\r\n" + HOST, 400, "BAD_REQUEST"),
        (GET + b"X-Broken: a\0b\r\n", 400, "BAD_REQUEST"),
        (GET + b"Content-Length: many\r\n", 400, "BAD_REQUEST"),
        (POST + b"Transfer-Encoding: gzip\r\n", 400, "BAD_REQUEST"),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n", 400, "BAD_REQUEST"),
        (POST + b"Content-Length: 2000000\r\n", 413, "TOO_LARGE"),
        (GET + b"X-Long: " + b"x" * 17_000 + b"\r\n", 431, "TOO_LARGE"),
        (b"GET /" + b"x" * 17_000 + b" HTTP/1.1\r\n" + HOST, 431, "TOO_LARGE"),
        (b"GET /problems/503 HTTP/1.1\r\n" + HOST, 404, "NOT_FOUND"),
        (b"GET /./503 HTTP/1.1\r\n" + HOST, 404, "NOT_FOUND"),
        (b"GET /%2e/503 HTTP/1.1\r\n" + HOST, 404, "NOT_FOUND"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_what_no_view_answers_is_a_problem(
    fast: Running, request_line: bytes, status: int, code: str
) -> None:
    with socket.create_connection(("127.0.0.1", fast.port), timeout=10) as connection:
        connection.sendall(request_line + b"Connection: close\r\n\r\n")
        head, _, body = b"".join(iter(lambda: connection.recv(65_536), b"")).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    problem = json.loads(body)

    assert first.startswith(f"HTTP/1.1 {status} ")
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-request-id"] == problem["requestId"]
    assert (problem["status"], problem["code"]) == (status, code)
    if status == 431:
        assert problem["detail"] == HEAD_TOO_LONG


@pytest.mark.parametrize("given", ["mine-2", "not well formed", ""])
def test_the_proxy_and_the_engine_name_a_request_alike(fast: Running, given: str) -> None:
    url = f"{fast.url}/api/nowhere"
    header = {"X-Request-ID": given}

    for method in ("GET", "TRACE"):  # the engine refuses one, nginx the other
        answer = httpx.request(method, url, headers=header)
        shown = answer.headers["X-Request-ID"]
        assert answer.json()["requestId"] == shown
        assert shown == given if given == "mine-2" else shown.startswith("req_")


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_page_of_an_allowed_origin_may_read_why_the_proxy_refused(
    fast: Running, origin: str
) -> None:
    answer = httpx.request("TRACE", fast.url, headers={"Origin": origin})

    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert "retry-after" in answer.headers["Access-Control-Expose-Headers"]
    assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.example", "https://app.example.co", "https://app.example.com:8443", "null"),
        *("https://appXexample.com", "https://app.example.com,", ",".join(ORIGINS), "https://", ""),
    ],
)
def test_a_page_elsewhere_may_not(fast: Running, origin: str) -> None:
    answer = httpx.request("TRACE", fast.url, headers={"Origin": origin})

    assert answer.status_code == 405
    assert not {"access-control-allow-origin", "vary"} & set(answer.headers)


def test_a_head_may_be_as_long_as_by_default(fast: Running, running: Running) -> None:
    for served in (fast, running):
        stats = f"{served.url}/api/orders/stats"
        assert httpx.get(stats, headers={"X-Long": "x" * 15_000}).status_code == 200
        found = httpx.get(f"{served.url}/api/orders?clientOrderId={'x' * 15_000}")
        assert (found.status_code, found.json()["code"]) == (400, "VALIDATION")


def test_a_handshake_needs_its_connection_header(fast: Running) -> None:
    handshake = HANDSHAKE.replace(b"Connection: Upgrade\r\n", b"Connection: close\r\n")
    with socket.create_connection(("127.0.0.1", fast.port), timeout=10) as connection:
        connection.sendall(handshake)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 400 ")


def test_when_the_stack_says_it_is_ready_it_is_and_tells_where_metrics_are(fast_up: Up) -> None:
    with connect(fast_up.url.replace("http", "ws") + EXECUTE) as client:
        assert frame_of(client.recv(timeout=5))["type"] == "hello"

    pages = re.findall(r"^metrics  (\S+)  \((\w+)\)$", fast_up.output, re.MULTILINE)
    assert [name for _, name in pages] == ["rest", "sockets"]
    for address, _ in pages:
        assert "orders_sockets" in httpx.get(address).text


def test_a_stop_tells_every_socket_and_answers_the_order_being_placed(
    fast_up: Up, new_database: str
) -> None:
    assert fast_up.process is not None
    socket_url = fast_up.url.replace("http", "ws") + EXECUTE
    with ThreadPoolExecutor() as threads, connect(socket_url) as client:
        with held_up(new_database):
            placing = threads.submit(httpx.post, fast_up.url + EXECUTE, json=ORDER)
            one_waits(new_database)
            fast_up.process.terminate()
            assert_told(*rest_of(client))
        answer = placing.result()

    assert answer.status_code == 201
    assert fast_up.process.wait(10) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_nothing_holds_the_port_after_a_kill_of_the_supervisor(fast_up: Up) -> None:
    assert fast_up.process is not None
    children = fast_up.children()

    fast_up.process.kill()
    fast_up.process.wait()

    wait_until(lambda: not any(child.is_running() for child in children), 5)
    assert port_is_free(fast_up.port)
