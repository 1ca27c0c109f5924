"""What a socket leaves behind in a web process: nothing that Python must look for.

It looks once in about 90,000 sockets, by its thresholds (orderengine/garbage.py).
"""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from orderengine.management.commands.up import daphne
from tests.conftest import create_database
from tests.stacks import Running, answers, engine, free_port, wait_until

pytestmark = pytest.mark.fleet

# The engine, and how many of each class there are. What refers to itself stays.
COUNTING = """
import gc
import json
from collections import Counter

from orderengine.asgi import application as engine

gc.disable()


async def application(scope, receive, send):
    if scope["path"] != "/kept":
        return await engine(scope, receive, send)
    kept = Counter(type(one).__name__ for one in gc.get_objects())
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": json.dumps(kept).encode()})
"""
OF_A_SOCKET = ("BoundedRequest", "BoundedSocket", "HTTPChannel", "OrderConsumer", "Task", "Inbox")
SOCKETS = 20


@pytest.fixture(scope="module")
def web(migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Without workers: orders stay pending."""
    path = tmp_path_factory.mktemp("counting")
    (path / "counting.py").write_text(COUNTING)
    with engine(create_database(migrated), workers=0, PYTHONPATH=str(path)) as running:
        counting = Running(free_port(), running.database_url, running.environment, {})
        running.start("counting", [*daphne(counting.port), "counting:application"])
        wait_until(lambda: answers(f"{counting.url}/health/live"), seconds=30)
        yield counting


def listen(web: Running) -> None:
    with connect(web.socket_url) as client:
        client.recv(timeout=5)


def hang_up(web: Running) -> None:
    with connect(web.socket_url) as client:
        client.recv(timeout=5)
        client.socket.shutdown(socket.SHUT_RDWR)


def follow(web: Running) -> None:
    with connect(web.socket_url) as client:
        for frame in (
            {"type": "subscribe", "scope": "all"},
            {"type": "subscribe", "orderId": web.place()},
            {"type": "subscribe", "orderId": "no such order"},
        ):
            client.send(json.dumps(frame))
        while json.loads(client.recv(timeout=5))["type"] != "error":
            pass


def be_refused(web: Running) -> None:
    with connect(f"{web.socket_url}?orderId=none") as client, suppress(ConnectionClosed):
        while True:
            client.recv(timeout=5)


@pytest.mark.parametrize("use", [listen, hang_up, follow, be_refused])
def test_a_socket_that_has_closed_leaves_nothing(
    web: Running, use: Callable[[Running], None]
) -> None:
    def kept() -> list[int]:
        found = httpx.get(f"{web.url}/kept").json()
        return [found.get(name, 0) for name in OF_A_SOCKET]

    use(web)  # what is made once is made
    before = kept()

    for _ in range(SOCKETS):
        use(web)

    wait_until(lambda: max(a - b for a, b in zip(kept(), before, strict=True)) < SOCKETS / 2)
