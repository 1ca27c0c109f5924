"""REST on uvicorn and WebSockets on Daphne, behind nginx on one port: `manage.py up --fast`."""

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from orderengine import proxy
from orderengine.embedded.server import free_port
from tests.sockets import CONFIRMED, events, hear_to_the_end
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
