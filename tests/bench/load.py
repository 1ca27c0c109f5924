"""A load generator that costs little: a fixed request, again and again, on connections kept alive.

It shares the processors with what it measures. A hand-written client needs a tenth of httpx's
time; what it used itself is part of its answer.
"""

import asyncio
import json
import re
import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
PATIENCE_SECONDS = 30.0


class BenchError(Exception):
    """The stack did not do what is measured; the message says what it did."""


def request(base_url: str, path: str, body: Any = None, key: str = "") -> bytes:
    """The bytes of a POST, or of a GET where there is no body."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [
        f"{'POST' if content else 'GET'} {path} HTTP/1.1",
        f"Host: {urlsplit(base_url).netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *([f"Authorization: Bearer {key}"] if key else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass
class Load:
    """What a run of requests showed. Times in seconds, of each answer and of the whole run."""

    took: list[float] = field(default_factory=list)
    statuses: Counter[bytes] = field(default_factory=Counter)
    started_at: float = 0.0  # seconds since 1970
    seconds: float = 0.0
    client_cpu: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.took) / self.seconds


class Connection(asyncio.Protocol):
    """Sends the request, waits for the answer, and sends it again while there is more to do."""

    def __init__(self, request: bytes, more: Callable[[], bool], load: Load) -> None:
        self.request = request
        self.more = more
        self.load = load
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.next()

    def next(self) -> None:
        self.answer = b""
        if self.more():
            self.sent = time.perf_counter()
            self.transport.write(self.request)
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        self.answer = self.answer + data if self.answer else data
        if is_complete(self.answer):
            self.load.took.append(time.perf_counter() - self.sent)
            self.load.statuses[self.answer[9:12]] += 1
            self.next()

    def connection_lost(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if self.transport.is_closing() and not self.answer and error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(BenchError(f"the server closed a connection ({error})"))


def is_complete(answer: bytes) -> bool:
    """Whether all of an HTTP answer is there."""
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    if length := LENGTH.search(answer, 0, head):
        return len(answer) >= head + 4 + int(length[1])
    return answer.endswith(b"0\r\n\r\n")  # the last chunk


async def run(base_url: str, request: bytes, connections: int, more: Callable[[], bool]) -> Load:
    """Requests while `more()`, each connection one at a time.

    Raises BenchError where a POST is not answered with 201, or a GET with 200.
    """
    loop = asyncio.get_running_loop()
    load = Load(started_at=time.time())
    begun, cpu = time.perf_counter(), own_cpu()
    made = [
        await loop.create_connection(lambda: Connection(request, more, load), **address(base_url))
        for _ in range(connections)
    ]
    for _, connection in made:
        await finished(connection.done, load)
    load.seconds, load.client_cpu = time.perf_counter() - begun, own_cpu() - cpu
    method, expected = request.split(b" ", 1)[0], b"200" if request.startswith(b"GET") else b"201"
    if wrong := {status for status in load.statuses if status != expected}:
        answered = ", ".join(status.decode() for status in wrong)
        raise BenchError(f"{method.decode()} answered {answered}, expected {expected.decode()}")
    return load


def address(base_url: str) -> dict[str, Any]:
    """As an event loop's create_connection takes it."""
    where = urlsplit(base_url)
    secure = where.scheme == "https"
    port = where.port or (443 if secure else 80)
    return {"host": where.hostname, "port": port, "ssl": secure or None}


async def finished(done: asyncio.Future[None], load: Load) -> None:
    """Raises BenchError when no answer at all comes any more."""
    while not done.done():
        answered = len(load.took)
        await asyncio.wait([done], timeout=PATIENCE_SECONDS)
        if not done.done() and len(load.took) == answered:
            raise BenchError(f"no answer within {PATIENCE_SECONDS:g} s")
    done.result()


def for_seconds(seconds: float) -> Callable[[], bool]:
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() < end


def times(count: int) -> Callable[[], bool]:
    left = iter(range(count))
    return lambda: next(left, None) is not None


def own_cpu() -> float:
    """Seconds of processor that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
