"""Two web processes, three workers and two dispatchers keep what one of each promises."""

import json
from collections import defaultdict
from contextlib import ExitStack

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from orderengine.embedded.server import free_port
from orderengine.management.commands.up import MANAGE, daphne
from tests.integration.test_queue import (
    FIRST_STARTS,
    LANDED_TWICE_OR_NEVER,
    MOST_IN_EXECUTION,
)
from tests.sockets import events, frame_of, hear_to_the_end
from tests.stacks import ORDER, answers, engine, wait_until

ORDERS, CONCURRENCY, STARTS = 16, 4, 12
HELD = "SELECT count(*) AS n FROM orders_order WHERE status = 'pending'"


def follow_all(socket: ClientConnection) -> ClientConnection:
    socket.send(json.dumps({"type": "subscribe", "scope": "all"}))
    while frame_of(socket.recv(timeout=10))["type"] != "ack":
        pass
    return socket


def seqs_heard(socket: ClientConnection) -> dict[str, list[int]]:
    """By order, until five events of each have come. Those of one order come from several
    processes: with `scope: all` not always in order."""
    seqs: dict[str, list[int]] = defaultdict(list)
    while sum(map(len, seqs.values())) < ORDERS * 5:
        frame = frame_of(socket.recv(timeout=20))
        if frame["type"] == "order.status":
            seqs[frame["orderId"]].append(frame["seq"])
    return seqs


@pytest.mark.fleet
@pytest.mark.timeout(120)
def test_limits_and_streams_hold_across_processes(new_database: str) -> None:
    with (
        engine(
            new_database,
            workers=3,
            QUEUE_CONCURRENCY=str(CONCURRENCY),
            QUEUE_RATE_LIMIT=str(STARTS),
            DEX_SWAP_LATENCY_MS="100",
        ) as running,
        ExitStack() as sockets,
    ):
        port = free_port()
        running.start("web2", [*daphne(port), "orderengine.asgi:application"])
        running.start("dispatcher2", [*MANAGE, "dispatcher"])
        webs = [running.url, f"http://127.0.0.1:{port}"]
        wait_until(lambda: answers(f"{webs[1]}/health/ready"), 30)
        listeners = [
            follow_all(sockets.enter_context(connect(f"ws{url[4:]}/api/orders/execute")))
            for url in webs
        ]

        placed = [
            httpx.post(f"{webs[n % 2]}/api/orders/execute", json=ORDER).json()["orderId"]
            for n in range(ORDERS)
        ]
        unfinished = "SELECT count(*) AS n FROM orders_order WHERE completed_at IS NULL"
        wait_until(lambda: running.sql(unfinished)[0]["n"] == ORDERS - STARTS)
        assert running.sql(HELD)[0]["n"] == ORDERS - STARTS
        assert len(running.sql(FIRST_STARTS)) == STARTS
        # A minute later, by the database's clock, the rest may start.
        running.sql(
            "UPDATE orders_order SET started_at = started_at - interval '61 s' "
            "WHERE started_at IS NOT NULL RETURNING id"
        )
        running.wait_for_all()

        assert 1 < running.sql(MOST_IN_EXECUTION)[0]["most"] <= CONCURRENCY
        assert running.sql(LANDED_TWICE_OR_NEVER) == []
        for socket in listeners:
            heard = {order_id: sorted(seqs) for order_id, seqs in seqs_heard(socket).items()}
            assert heard == {order_id: [1, 2, 3, 4, 5] for order_id in placed}
        for order_id, url in zip(placed, reversed(webs * (ORDERS // 2)), strict=True):
            frames, code = hear_to_the_end(f"ws{url[4:]}/api/orders/execute?orderId={order_id}")
            assert [frame["seq"] for frame in events(frames)] == [1, 2, 3, 4, 5]
            assert code == 1000
