"""Every event of an order, whenever the socket opens: real web, real worker."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.sockets import CONFIRMED, events, frame_of, hear_to_the_end
from tests.stacks import ORDER, Running, wait_until


@pytest.mark.parametrize(
    "delay", [0.0, 0.2, 1.5], ids=["at once", "in the middle", "after the end"]
)
def test_a_socket_hears_every_event_once_and_in_order(running: Running, delay: float) -> None:
    order_id = running.place()
    time.sleep(delay)  # the delay is what is tested

    frames, code = hear_to_the_end(f"{running.socket_url}?orderId={order_id}")

    heard = events(frames)
    assert [event["seq"] for event in heard] == [1, 2, 3, 4, 5]
    assert [event["status"] for event in heard] == CONFIRMED
    assert code == 1000
    assert heard == sorted(heard, key=lambda event: not event["replayed"])


def test_ten_sockets_on_one_order_hear_the_same(running: Running) -> None:
    order_id = running.place()

    with ThreadPoolExecutor(10) as threads:
        url = f"{running.socket_url}?orderId={order_id}"
        heard = [events(frames) for frames, _ in threads.map(hear_to_the_end, [url] * 10)]

    stripped = [[{**event, "replayed": None} for event in one] for one in heard]
    assert [event["status"] for event in stripped[0]] == CONFIRMED
    assert all(one == stripped[0] for one in stripped)


def test_a_socket_that_drops_resumes_without_gap_or_repeat(running: Running) -> None:
    order_id = running.place()
    with connect(f"{running.socket_url}?orderId={order_id}") as socket:
        first = [frame_of(socket.recv()) for _ in range(3)]  # hello and two events
    seen = events(first)

    frames, _ = hear_to_the_end(
        f"{running.socket_url}?orderId={order_id}&afterSeq={seen[-1]['seq']}"
    )

    assert [event["seq"] for event in seen + events(frames)] == [1, 2, 3, 4, 5]


def test_the_events_endpoint_tells_the_same_as_the_socket(running: Running) -> None:
    order_id = running.place()
    frames, _ = hear_to_the_end(f"{running.socket_url}?orderId={order_id}")

    answer = httpx.get(f"{running.url}/api/orders/{order_id}/events").json()["results"]

    assert answer == [{**event, "replayed": True} for event in events(frames)]


def test_an_order_placed_on_the_socket_is_followed_on_it(running: Running) -> None:
    with connect(running.socket_url) as socket:
        socket.send(json.dumps({"type": "order.submit", "requestId": "r1", "order": ORDER}))
        frames = [frame_of(socket.recv(timeout=10)) for _ in range(7)]

    assert [frame["type"] for frame in frames[:2]] == ["hello", "ack"]
    assert frames[1]["requestId"] == "r1"
    assert [event["status"] for event in events(frames)] == CONFIRMED
    assert {event["orderId"] for event in events(frames)} == {frames[1]["orderId"]}


def test_scope_all_hears_every_order(running: Running) -> None:
    with connect(running.socket_url) as socket:
        socket.send(json.dumps({"type": "subscribe", "scope": "all"}))
        assert [frame_of(socket.recv())["type"] for _ in range(2)] == ["hello", "ack"]
        order_ids = {running.place(), running.place()}
        heard = [frame_of(socket.recv(timeout=10)) for _ in range(10)]

    for order_id in order_ids:
        assert [event["status"] for event in heard if event["orderId"] == order_id] == CONFIRMED


def test_the_stats_count_orders_and_sockets(running: Running) -> None:
    def stats() -> Any:
        return httpx.get(f"{running.url}/api/orders/stats").json()

    running.wait_for_all()
    # Those of the test before have closed, and the server may not have noted it.
    wait_until(lambda: stats()["websocket"]["connections"] == 0)
    before = stats()

    with connect(running.socket_url):
        order_id = running.place()
        hear_to_the_end(f"{running.socket_url}?orderId={order_id}")
        during = stats()

    assert during["queue"]["completed"] == before["queue"]["completed"] + 1
    assert (during["queue"]["waiting"], during["queue"]["active"]) == (0, 0)
    assert during["websocket"]["connections"] >= 1
    wait_until(lambda: stats()["websocket"]["connections"] == 0)


def test_a_client_that_has_every_event_is_told_that_there_are_no_more(running: Running) -> None:
    order_id = running.place()
    hear_to_the_end(f"{running.socket_url}?orderId={order_id}")

    frames, code = hear_to_the_end(f"{running.socket_url}?orderId={order_id}&afterSeq=5")

    assert ([frame["type"] for frame in frames], code) == (["hello"], 1000)
