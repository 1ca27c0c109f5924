"""The faults: what is done, to what load, and within which time orders must go on."""

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.faults import inject, verify
from tests.faults.clients import PATH, SOCKET, Answer, Clients, moment
from tests.faults.fleet import Fleet

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
RATE = 2.0  # orders a second; bursts come on top
VALIDITY = 12.0  # of a transaction, in seconds


@dataclass
class Run:
    """One scenario at work. `moments` are when faults were injected, or were over."""

    fleet: Fleet
    clients: Clients
    long: bool
    moments: list[float] = field(default_factory=list)
    crashed: dict[str, float] = field(
        default_factory=dict
    )  # by order: when it took its worker along
    faults: int = 0
    notes: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)  # bounds of time, and doses, not kept
    load: asyncio.Task[None] | None = None

    async def quiet(self, seconds: float = 60) -> None:
        """No more load, and every socket has heard the end of its order."""
        if self.load is not None:
            self.load.cancel()
        await self.clients.settle(seconds)

    def dose(self, short: int, long: int) -> int:
        return long if self.long else short

    def fault(self, happened: bool = True) -> None:
        """Count a fault, and measure from now on."""
        if happened:
            self.faults += 1
            self.moments.append(time.time())

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.clients.violations.append(otherwise)

    def in_time(self, holds: bool, otherwise: str) -> None:
        """As `expect`, where a busy machine alone may be to blame: that is tried once more."""
        if not holds:
            self.late.append(otherwise)

    def marks(self, path: Path) -> Path:
        """A file of inject.py, in this fleet's directory."""
        return self.fleet.marks / path.name

    def answers_since(self, moment: float) -> list[float]:
        """Seconds that POSTs took which were answered with 201, in order of their length."""
        return sorted(a.seconds for a in self.clients.answers if a.at >= moment and a.status == 201)


@dataclass(frozen=True)
class Scenario:
    """`bounds` are seconds, by what is measured (MEASURES in __main__.py), for a lease of 15 s."""

    name: str
    act: Callable[[Run], Awaitable[None]]
    bounds: dict[str, float]
    rate: float = RATE


async def daphne_killed(run: Run) -> None:
    for n in range(run.dose(3, 10)):
        await asyncio.sleep(run.dose(4, 20))
        await run.fleet.until_ready()  # one of two, however long this machine takes to start one
        run.fault(run.fleet.kill(f"web{n % 2 + 1}"))


HELD = """
SELECT 1 FROM orders_order
WHERE status IN ('routing', 'building', 'submitted') AND lease_until > now()
"""


async def worker_killed(run: Run) -> None:
    for n in range(run.dose(4, 30)):
        await asyncio.sleep(max(run.dose(3, 7), run.fleet.start_seconds / 2))  # one alone
        if n % 4 == 3:  # the whole fleet of workers, every 30 s, with an order in execution
            await eventually(lambda: run.fleet.sql(HELD), 30)
            run.fault(run.fleet.kill("worker1"))
            run.fault(run.fleet.kill("worker2"))
        else:
            run.fault(run.fleet.kill(f"worker{n % 2 + 1}"))
    await asyncio.sleep(run.dose(5, 20))
    with suppress(TimeoutError):
        await eventually(lambda: verify.takeovers(run.fleet, run.clients), 20)
    taken_over = verify.takeovers(run.fleet, run.clients)
    run.notes.append(f"{taken_over} takeovers")
    run.in_time(taken_over > 0, "no order was lost with its worker: nothing was tried")


DUE = """
SELECT 1 FROM orders_order WHERE status = 'pending' AND next_attempt_at < now() - interval '2 s'
"""


async def dispatcher_killed(run: Run) -> None:
    """Only dispatchers hint meanwhile."""
    with marked(run, inject.HINTS_DROPPED):
        for _ in range(run.dose(2, 8)):
            await asyncio.sleep(run.dose(4, 15))
            await eventually(lambda: not run.fleet.sql(DUE), 60)  # they are back
            for name in run.fleet.names("dispatcher"):
                run.fault(run.fleet.kill(name))
        await run.quiet()
    dropped = run.fleet.counted(inject.HINTS_DROPPED)
    run.notes.append(f"{dropped} hints of the web dropped")
    run.expect(dropped >= len(run.clients.order_ids) // 2, "orders were hinted by the web")


@contextmanager
def marked(run: Run, path: Path) -> Iterator[None]:
    """While a fault of inject.py holds for all orders."""
    run.marks(path).touch()
    try:
        yield
    finally:
        run.marks(path).unlink()


async def crash_points(run: Run) -> None:
    """Waves of one order for each point, until each has taken its process with it often enough.

    A wave ends before the next begins: orders that are lost keep their places for a lease. One that
    was lost with another's process may end without coming to its point again.
    """
    count = run.dose(1, 20)
    for _ in range(4 * count):
        placing = []
        for point in [point for point in inject.POINTS if crashes(run, point) < count]:
            placing.append(asyncio.create_task(run.clients.place(f"crash.{point}")))
            await asyncio.sleep(0.5)
            run.fault()
        await run.clients.ended(list(await asyncio.gather(*placing)), 120)
    for mark in run.fleet.marks.glob("crash.*.crashed"):
        order_id = run.clients.order_ids.get(mark.name.removesuffix(".crashed"))
        if order_id:
            run.crashed[order_id] = mark.stat().st_mtime
    crashed = {point: crashes(run, point) for point in inject.POINTS}
    run.notes.append(" ".join(f"{point} {number}" for point, number in crashed.items()))
    run.expect(min(crashed.values()) >= count, f"not every point {count} times: {crashed}")


def crashes(run: Run, point: str) -> int:
    return len(list(run.fleet.marks.glob(f"crash.{point}.*.crashed")))


async def worker_frozen(run: Run) -> None:
    """Stopped at a point, until another worker is further than that; then continued."""
    points = ["sent", "signed", "submitted"]
    for n in range(run.dose(3, 10)):
        await freeze_once(run, points[n % 3])


async def freeze_once(run: Run, point: str = "sent") -> None:
    """At `sent` its transaction never lands, and it continues while the next attempt's is pending.

    Elsewhere it continues when the order has ended: it must not send what it has signed, and what
    it sends must be known.
    """
    frozen = run.marks(inject.FROZEN)
    await run.clients.place(f"freeze.{point}")
    pid, name = await eventually(lambda: mark_of(frozen), 60)
    run.fault()
    further = SECOND_ATTEMPT_SENT if point == "sent" else ENDED
    try:
        order_id = await eventually(lambda: run.clients.order_ids.get(name), 10)
        await eventually(lambda: run.fleet.sql(further, [order_id]), 90)
    finally:
        os.kill(pid, signal.SIGCONT)
    await eventually(lambda: lost_claim(run, order_id), 30, every=0.5)
    frozen.unlink()


ENDED = "SELECT id FROM orders_order WHERE id = %s AND status = 'confirmed'"
SECOND_ATTEMPT_SENT = """
SELECT id FROM orders_order WHERE id = %s AND status = 'submitted' AND attempt = 2
"""


def mark_of(frozen: Path) -> tuple[int, str] | None:
    words = frozen.read_text().split() if frozen.exists() else []
    return (int(words[0]), words[1]) if words else None


def lost_claim(run: Run, order_id: str) -> bool:
    """The continued worker found out that it had been replaced, and said so."""
    said = (line for line in run.fleet.output().splitlines() if order_id in line)
    return any("claim.lost" in line or "execution.broken_off" in line for line in said)


async def redis_killed(run: Run) -> None:
    since = time.time()
    for _ in range(run.dose(2, 5)):
        await asyncio.sleep(run.dose(3, 12))
        run.fleet.kill("redis")
        await eventually(lambda: run.fleet.pid("redis"), 10)
        run.fault()
    await posts_within(run, since, 1.0)


async def redis_flushed(run: Run) -> None:
    since = time.time()
    for _ in range(run.dose(3, 12)):
        await asyncio.sleep(run.dose(2, 5))
        run.fleet.flush_redis()
        run.fault()
    await posts_within(run, since, 1.0)


async def redis_down(run: Run) -> None:
    since = time.time()
    await asyncio.sleep(1)
    run.fleet.hold_down("redis")
    await asyncio.sleep(run.dose(8, 60))
    run.fleet.let_up("redis")
    await eventually(lambda: run.fleet.pid("redis"), 10)
    run.fault()
    await posts_within(run, since, 1.0)


async def redis_frozen(run: Run) -> None:
    since = time.time()
    await asyncio.sleep(1)
    run.fleet.freeze("redis")
    await asyncio.sleep(run.dose(8, 30))
    run.fleet.thaw("redis")
    run.fault()
    await posts_within(run, since, 2.5)


async def posts_within(run: Run, since: float, seconds: float) -> None:
    """Every POST meanwhile was answered with 201, 99 of 100 within so many seconds."""
    await asyncio.sleep(run.dose(2, 10))
    taken = run.answers_since(since)
    p99 = taken[int(len(taken) * 0.99)] if taken else seconds
    run.notes.append(f"POST p99 {p99:.2f} s")
    run.in_time(p99 < seconds, f"POST p99 {p99:.2f} s, more than {seconds} s")
    refused = [a.status for a in run.clients.answers if a.at >= since and a.status != 201]
    run.expect(not refused, f"POST was answered with {sorted(set(refused))} while Redis was away")


async def postgres_killed(run: Run) -> None:
    async with open_sockets(run):
        for _ in range(run.dose(2, 4)):
            await asyncio.sleep(run.dose(4, 12))
            run.fleet.kill("postgres")
            await back_again(run)


async def postgres_frozen(run: Run) -> None:
    async with open_sockets(run):
        await asyncio.sleep(2)
        frozen = time.time()
        run.fleet.freeze("postgres")
        await asyncio.sleep(run.dose(8, 20))
        run.fleet.thaw("postgres")
        await back_again(run)
    refused = sum(a.status == 503 for a in run.clients.answers if a.at >= frozen)
    run.notes.append(f"{refused} POSTs refused")
    run.expect(refused > 0, "no POST was refused while PostgreSQL was stopped")


STANDBY = "ALTER SYSTEM SET synchronous_standby_names = '{name}'"


async def commits_stalled(run: Run) -> None:
    """PostgreSQL answers questions, and no COMMIT: it waits for a standby that is not there."""
    async with open_sockets(run):
        await asyncio.sleep(2)
        stalled = time.time()
        try:
            await_standby(run, "missing")
            await asyncio.sleep(run.dose(8, 20))
        finally:
            await_standby(run, "")
        await back_again(run)
    refused = sum(a.status == 503 for a in run.clients.answers if a.at >= stalled)
    run.notes.append(f"{refused} POSTs refused")
    run.expect(refused > 0, "no POST was refused while no COMMIT was answered")


def await_standby(run: Run, name: str) -> None:
    run.fleet.sql(STANDBY.format(name=name))
    run.fleet.sql("SELECT pg_reload_conf()")


async def back_again(run: Run) -> None:
    """Measures from when PostgreSQL answers; POST must store again within 10 s."""
    await eventually(lambda: answers_sql(run.fleet), 30)
    run.fault()
    back = time.time()
    await eventually(lambda: run.answers_since(back), 30)
    stored = min(a.at + a.seconds for a in run.clients.answers if a.at >= back and a.status == 201)
    run.notes.append(f"stores again after {stored - back:.1f} s")
    run.in_time(stored - back < 10, f"POST stored nothing for {stored - back:.1f} s")


def answers_sql(fleet: Fleet) -> bool:
    with suppress(Exception):
        return bool(fleet.sql("SELECT 1 AS one"))
    return False


async def backends_terminated(run: Run) -> None:
    terminate = """
        SELECT pg_terminate_backend(pid) FROM (
            SELECT pid FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
            ORDER BY random() LIMIT 2) victims
    """
    async with open_sockets(run):
        for _ in range(run.dose(8, 80)):
            await asyncio.sleep(1.5)
            run.fleet.sql(terminate)
            run.fault()


class open_sockets:  # noqa: N801 - reads as a verb
    """Sockets that must stay open through it all, and POSTs that are refused within 3 s."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.sockets: list[ClientConnection] = []

    async def __aenter__(self) -> None:
        self.since = time.time()
        for url in self.run.fleet.urls * 5:
            self.sockets.append(await connect(url.replace("http", "ws", 1) + PATH, **SOCKET))

    async def __aexit__(self, *_: object) -> None:
        for socket in self.sockets:
            try:
                await socket.send('{"type":"ping"}')
                async with asyncio.timeout(10):
                    while json.loads(await socket.recv())["type"] != "pong":
                        pass
                await socket.close()
            except (OSError, WebSocketException, TimeoutError) as error:
                self.run.expect(False, f"an idle socket did not stay open: {error!r}")
        slow = [a for a in self.run.clients.answers if a.at >= self.since and a.seconds > 3.2]
        self.run.in_time(
            not slow, f"{len(slow)} POSTs took over 3 s, one {max_seconds(slow):.1f} s"
        )
        answered = {a.status for a in self.run.clients.answers if a.at >= self.since}
        self.run.expect(answered <= {201, 503}, f"POST was answered with {answered}")


def max_seconds(answers: list[Answer]) -> float:
    return max((answer.seconds for answer in answers), default=0.0)


async def hints_fivefold(run: Run) -> None:
    """At a rate that leaves places free: with ten in execution none is sent that is not needed."""
    with marked(run, inject.HINTS_FIVEFOLD):
        await run.clients.place_all(run.dose(30, 200), rate=run.dose(5, 2))
        await run.quiet()
    run.faults = run.fleet.counted(inject.HINTS_FIVEFOLD)
    least = 3 * len(run.clients.order_ids)
    run.in_time(run.faults >= least, f"only {run.faults} copies of hints, not {least}")


async def doorbells_dropped(run: Run) -> None:
    with marked(run, inject.DOORBELLS_DROPPED):
        await run.clients.place_all(run.dose(30, 200), rate=run.dose(8, 3))
        await run.quiet()
    run.faults = run.fleet.counted(inject.DOORBELLS_DROPPED)
    run.expect(run.faults >= 4 * len(run.clients.order_ids), f"only {run.faults} doorbells")


async def clock_off(run: Run) -> None:
    """One worker lives two minutes ahead, the other two minutes behind."""
    if FAKETIME is None:
        run.notes.append("NOT RUN, libfaketime is missing: apt-get install faketime")
        run.expect("CI" not in os.environ, "not run, libfaketime is missing")
        return
    for name, offset in (("worker1", "+120s"), ("worker2", "-120s")):
        preload = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        run.fleet.restart_with(name, FAKETIME=offset, **preload)
    await asyncio.sleep(1)
    await run.fleet.until_ready()
    run.moments.append(time.time())
    await run.clients.place_all(run.dose(20, 50), rate=run.dose(5, 2))
    run.faults = len(run.clients.order_ids)
    await run.quiet()
    off = [clock_of(run.fleet, name) for name in ("worker1", "worker2")]
    run.notes.append(f"log timestamps off by {off[0]:+.0f} s and {off[1]:+.0f} s")
    run.expect(off[0] > 60 and off[1] < -60, f"the workers' clocks are not off: {off}")
    for name in ("worker1", "worker2"):
        run.fleet.restart_with(name)
    await asyncio.sleep(1)
    await run.fleet.until_ready()


def clock_of(fleet: Fleet, name: str) -> float:
    """Seconds by which the newest line of its log is ahead of us."""
    lines = [line for line in fleet.output().splitlines() if line.startswith(f"{name} ")]
    stamps = re.findall(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", "\n".join(lines))
    return moment(f"{stamps[-1]}Z") - time.time()


async def reconnect_at_once(run: Run) -> None:
    """Many followers of orders in execution lose their sockets in the same moment."""
    first, both = run.fleet.urls[:1], run.fleet.urls
    run.clients.use(first)
    placing = (run.clients.place("slow") for _ in range(run.dose(5, 20)))
    for order_id in await asyncio.gather(*placing):
        for _ in range(8):  # three sockets each, and three it has
            run.clients.follow(order_id)
    await asyncio.sleep(5)  # the last come late
    run.clients.use(both)
    open_ones = [heard for heard in run.clients.heard if heard.connections and not heard.done]
    before = {id(heard): heard.connections for heard in open_ones}
    run.moments.append(time.time())
    run.fleet.kill("web1")
    await run.clients.place_all(run.dose(10, 40), rate=4)
    await run.quiet()
    run.faults = sum(heard.connections > before[id(heard)] for heard in open_ones)
    run.notes.append(f"{run.faults} sockets lost at once")
    run.expect(run.faults >= run.dose(50, 400), f"only {run.faults} sockets were lost")


async def readers_that_do_not_read(run: Run) -> None:
    """Sockets whose client asks and asks, and never takes an answer off the wire."""
    before = {name: run.fleet.memory_mib(name) for name in run.fleet.names("web")}
    run.moments.append(time.time())
    deaf = [asyncio.create_task(deaf_client(run.fleet.urls[n % 2])) for n in range(5)]
    await run.clients.place_all(run.dose(40, 200), rate=run.dose(8, 3))
    pushed = await asyncio.gather(*deaf)
    await run.quiet()
    run.faults = len(pushed)
    growth = max(run.fleet.memory_mib(name) - before[name] for name in before)
    run.notes.append(f"web grew by {growth:.0f} MiB, {sum(pushed) / 2**20:.0f} MiB were asked for")
    run.expect(growth < 40, f"web grew by {growth:.0f} MiB")
    run.expect(max(pushed) < MOST_ANSWERS, "a client that never reads was not dropped")


async def crowd(run: Run) -> None:
    """Orders by the hundred at once, most of which end at their deadline, in the same moment."""
    run.moments.append(time.time())
    deadline = time.time() + run.dose(5, 15)
    placed = await run.clients.place_crowd(run.dose(1000, 5000), deadline)
    run.notes.append(f"placed in {time.time() - run.moments[0]:.1f} s")
    await eventually(lambda: not run.fleet.sql(OPEN, [placed]), 120)
    ends = run.fleet.sql(ENDS, [placed])
    run.clients.events = {row["id"]: row["seq"] for row in ends}
    # Those that have never started: another's transaction is waited for, and it goes back then.
    late = [row["late"] for row in ends if (row["status"], row["seq"]) == ("expired", 2)]
    run.faults = len(late)
    run.notes.append(f"{len(late)} expired, the last {max(late, default=0):.1f} s late")
    run.expect(len(late) > len(placed) / 2, f"only {len(late)} orders expired")
    run.in_time(max(late, default=0) < 10, f"an order expired {max(late):.1f} s late")
    # One that was cut off need not have heard the rest.
    run.expect(not any(one.lost for one in run.clients.overheard), "scope: all was cut off")


OPEN = """
SELECT 1 FROM orders_order WHERE id = ANY(%s) AND completed_at IS NULL LIMIT 1
"""
ENDS = """
SELECT id, status, seq, extract(epoch FROM completed_at - deadline_at)::float AS late
FROM orders_order WHERE id = ANY(%s)
"""

# The answer names what it does not know, and spells each of these characters with six.
UNKNOWN_NAMES = {f"{n}{chr(0x7F) * 500}": n for n in range(5)}
ANSWER_BYTES = 15_000
MOST_ANSWERS = 40 * 2**20


async def deaf_client(url: str) -> int:
    """Bytes of answers it has asked for when the server dropped it, or MOST_ANSWERS."""
    host, port = httpx.URL(url).host, httpx.URL(url).port
    reader, writer = await asyncio.open_connection(host, port, limit=1024)
    writer.write(
        f"GET {PATH} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    text = json.dumps({"type": "ping", **UNKNOWN_NAMES}, ensure_ascii=False).encode()
    masked = bytes([0x81, 0xFE]) + len(text).to_bytes(2, "big") + bytes(4) + text  # with zeros
    asked = 0
    with suppress(OSError):
        while asked < MOST_ANSWERS:
            writer.write(masked)
            await writer.drain()
            asked += ANSWER_BYTES
            await asyncio.sleep(0.005)
    writer.close()
    return asked


async def poison(run: Run) -> None:
    """Orders that kill their worker each time; the others go on."""
    poisoned = [await run.clients.place("poison.built") for _ in range(run.dose(1, 3))]
    await asyncio.sleep(1)
    run.fault()
    await run.clients.ended(poisoned, 240)
    mine = list(run.clients.order_ids.values())
    given_up = {row["id"] for row in run.fleet.sql(GIVEN_UP, [mine])}
    run.expect(given_up >= set(poisoned), "a poison order did not fail with INTERNAL")
    run.expect(given_up <= set(poisoned), "an innocent order failed with INTERNAL")


GIVEN_UP = "SELECT id FROM orders_order WHERE failure_code = 'INTERNAL' AND id = ANY(%s)"


async def eventually(condition: Callable[[], Any], seconds: float, every: float = 0.1) -> Any:
    """The first truthy answer. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s")
        await asyncio.sleep(every)
    return answer


SCENARIOS = [
    Scenario("crash points", crash_points, {"ends": 15 + VALIDITY + 8}, rate=0.3),
    Scenario("worker stopped, continued", worker_frozen, {"taken over": 40}),
    Scenario("poison orders", poison, {"progress": 30}),
    # Each order that is lost keeps its place for a lease: ten places take no more than this.
    Scenario("kill -9 workers", worker_killed, {"taken over": 30}, rate=0.7),
    Scenario("kill -9 Daphne", daphne_killed, {"lags": 3, "starts": 10}),
    Scenario("kill -9 dispatchers", dispatcher_killed, {"starts": 10}),
    Scenario("Redis killed, empty", redis_killed, {"starts": 10, "lags": 3}),
    Scenario("Redis FLUSHALL", redis_flushed, {"starts": 10, "lags": 3}),
    # A long fault leaves a queue: how long that takes is the places' affair.
    Scenario("Redis down", redis_down, {"running again": 10}),
    Scenario("Redis stopped", redis_frozen, {"running again": 10}),
    Scenario("PostgreSQL killed", postgres_killed, {"starts": 10, "progress": 25}),
    Scenario("PostgreSQL stopped", postgres_frozen, {"running again": 10}),
    Scenario("commits stalled", commits_stalled, {"running again": 10}),
    Scenario("backends terminated", backends_terminated, {"starts": 10, "progress": 25}),
    Scenario("every hint five times", hints_fivefold, {"starts": 10}, rate=0),
    Scenario("every doorbell dropped", doorbells_dropped, {"lags": 2.5}, rate=0),
    Scenario("worker clocks 120 s off", clock_off, {"starts": 10}, rate=0),
    Scenario("sockets reconnect at once", reconnect_at_once, {"lags": 3}, rate=0),
    Scenario("a crowd of orders", crowd, {"lags": 3}),
    Scenario("readers that do not read", readers_that_do_not_read, {"lags": 3}, rate=0),
]
