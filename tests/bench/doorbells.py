"""Notes when each event was published: `python -m tests.bench.doorbells REDIS_URL FILE`.

A process of its own listens to all that Redis publishes, so that the client which measures does
not wait for it. It reads no library's format: a doorbell is a message with an order's id and a
`seq` next to it, in JSON or MessagePack, once or more.
"""

import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import redis

Published = dict[tuple[str, int], float]

EVENT = re.compile(rb'(ord_\d{13}_[a-z0-9]{10})["\xa3,\s]*seq(?:":\s?(\d+)|([\x01-\x7f]))')


def events_of(message: bytes) -> list[tuple[str, int]]:
    """The order's id and the seq of each event that a doorbell rings for."""
    return [
        (found[1].decode(), int(found[2]) if found[2] else found[3][0])
        for found in EVENT.finditer(message)
    ]


def listen(redis_url: str, file: Path) -> None:
    """Until SIGTERM; then writes a line for each event: order id, seq, seconds since 1970."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    heard: list[tuple[float, bytes]] = []
    try:
        with redis.Redis.from_url(redis_url) as client, client.pubsub() as channels:
            channels.psubscribe("*")
            sys.stdout.write("listening\n")
            sys.stdout.flush()
            for message in channels.listen():
                if message["type"] == "pmessage":
                    heard.append((time.time(), message["data"]))
    finally:
        first: Published = {}
        for at, data in heard:
            for event in events_of(data):
                first.setdefault(event, at)
        file.write_text("".join(f"{name} {seq} {at!r}\n" for (name, seq), at in first.items()))


@contextmanager
def noted(redis_url: str, file: Path) -> Iterator[Published]:
    """By order id and seq, when Redis published it; filled at the end of the block."""
    published: Published = {}
    argv = [sys.executable, "-m", "tests.bench.doorbells", redis_url, str(file)]
    with Popen(argv, stdout=PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield published
        finally:
            process.terminate()
            process.wait(10)
    for line in file.read_text().splitlines():
        name, seq, at = line.split()
        published[name, int(seq)] = float(at)


if __name__ == "__main__":
    listen(sys.argv[1], Path(sys.argv[2]))
