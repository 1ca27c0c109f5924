"""REST on uvicorn and WebSockets on Daphne, behind nginx on one port: `manage.py up --fast`."""

import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest
from websockets.sync.client import connect

from orderengine import proxy
from orderengine.embedded.server import free_port, port_is_free
from tests.integration.test_graceful_stop import (
    EXECUTE,
    assert_told,
    held_up,
    one_waits,
    rest_of,
)
from tests.integration.test_up import Up, stop_and_remove
from tests.sockets import CONFIRMED, events, frame_of, hear_to_the_end
from tests.stacks import ORDER, Running, answers, stop, wait_until

pytestmark = [
    pytest.mark.fleet,
    pytest.mark.skipif(bool(proxy.missing()), reason=f"needs {', '.join(proxy.missing())}"),
]


@pytest.fixture
def fast(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The shared engine's worker and sockets, with uvicorn and nginx before them."""
    rest, port = str(free_port()), free_port()
    front = proxy.nginx(
        tmp_path_factory.mktemp("nginx"),
        listen=f"127.0.0.1:{port}",
        rest=f"127.0.0.1:{rest}",
        sockets=f"127.0.0.1:{running.port}",
    )
    found = replace(running, port=port, processes={})
    try:
        found.start("rest", [*proxy.UVICORN, "--port", rest, "orderengine.rest:application"])
        found.start("proxy", front)
        wait_until(lambda: answers(f"{found.url}/health/ready"), seconds=30)
        yield found
    finally:
        for process in found.processes.values():
            stop(process)


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

    traced = httpx.request("TRACE", url)
    assert (traced.status_code, traced.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert "POST" in traced.headers["Allow"]

    stop(fast.processes.pop("rest"))
    answer = httpx.post(url, json=ORDER)
    assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
    assert answer.headers["Retry-After"] == "1"


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
