"""The WebSocket: what a client may say, and the answers."""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from orderengine.asgi import application
from orders import (
    intake,
    parsing,
    queries,
)
from orders.consumers import OrderConsumer
from orders.problems import not_authenticated
from tests import factories
from tests.api.http import ORDER_ID, TIMESTAMP, order_body, pointers, stored_orders
from tests.api.sockets import (
    FINISHED,
    Connect,
    Socket,
    acknowledged,
    execute,
    place,
    refusal,
    seqs,
)

pytestmark = pytest.mark.usefixtures("no_orders")

UNKNOWN = "ord_1700000000000_abcdefghij"


async def status_of(order_id: str) -> str:
    order = await asyncio.to_thread(
        factories.database.row,
        "SELECT status FROM orders_order WHERE id = %(id)s",
        {"id": order_id},
    )
    status: str = order["status"]
    return status


async def test_a_ping_is_answered(socket: Socket) -> None:
    await socket.send(type="ping")

    frame = await socket.receive()

    assert frame["type"] == "pong"
    assert re.fullmatch(TIMESTAMP, frame["timestamp"])


# Subscribing -------------------------------------------------------------------------------------


async def test_a_subscription_is_acknowledged_and_replayed(socket: Socket) -> None:
    order_id = await place()

    await socket.send(type="subscribe", orderId=order_id)

    assert (await acknowledged(socket, "subscribe"))["orderId"] == order_id
    stored = await socket.events(1)
    await execute(order_id)
    live = await socket.events(4)
    assert [frame["status"] for frame in stored + live] == FINISHED
    assert [frame["replayed"] for frame in stored + live] == [True] + [False] * 4


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
@pytest.mark.parametrize("of", ["order", "all"])
async def test_an_acknowledgement_has_what_was_said(socket: Socket, kind: str, of: str) -> None:
    said = {"scope": "all"} if of == "all" else {"orderId": await place()}

    await socket.send(type=kind, requestId="r-1", **said)

    expected = {"type": "ack", "action": kind, "requestId": "r-1", **said}
    assert await acknowledged(socket, kind) == expected


async def test_a_refused_subscription_names_its_request_id(socket: Socket) -> None:
    await socket.send(type="subscribe", orderId="ord_1000000000000_aaaaaaaaaa", requestId="r-2")

    assert (await refusal(socket, 404, "NOT_FOUND"))["inReplyTo"] == "r-2"


async def test_a_subscription_may_start_after_a_seq(socket: Socket) -> None:
    order_id = await place()
    await execute(order_id)

    await socket.send(type="subscribe", orderId=order_id, afterSeq=3)

    await acknowledged(socket, "subscribe")
    assert seqs(await socket.events(2)) == [4, 5]
    assert await socket.until_pong() == []


async def test_after_unsubscribing_nothing_more_comes(socket: Socket) -> None:
    order_id = await place()
    await socket.send(type="subscribe", orderId=order_id)
    await acknowledged(socket, "subscribe")
    await socket.events(1)

    await socket.send(type="unsubscribe", orderId=order_id)

    assert (await acknowledged(socket, "unsubscribe"))["orderId"] == order_id
    other = await place()
    await socket.send(type="subscribe", orderId=other)
    await acknowledged(socket, "subscribe")
    await execute(order_id)
    await execute(other)
    assert {frame["orderId"] for frame in await socket.events(5)} == {other}
    assert await socket.until_pong() == []


async def test_a_second_subscription_goes_on_and_begins_again_where_it_says_so(
    socket: Socket,
) -> None:
    order_id = await place()
    await socket.send(type="subscribe", orderId=order_id)
    await acknowledged(socket, "subscribe")
    await socket.events(1)

    await socket.send(type="subscribe", orderId=order_id)
    await acknowledged(socket, "subscribe")
    assert await socket.until_pong() == []

    await socket.send(type="subscribe", orderId=order_id, afterSeq=0)
    await acknowledged(socket, "subscribe")
    await execute(order_id)
    assert seqs(await socket.events(5)) == [1, 2, 3, 4, 5]

    await socket.send(type="subscribe", orderId=order_id)  # which has ended
    await acknowledged(socket, "subscribe")
    assert seqs(await socket.events(5)) == [1, 2, 3, 4, 5]


async def test_subscribing_to_an_order_that_is_not_there_is_refused(socket: Socket) -> None:
    await socket.send(type="subscribe", orderId=UNKNOWN)

    await refusal(socket, 404, "NOT_FOUND")
    assert await socket.until_pong() == []


async def test_a_subscription_whose_events_could_not_be_read_is_none(
    socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id, other = await place(), await place()

    def away(*_: Any) -> None:
        raise psycopg.OperationalError("away")

    with monkeypatch.context() as while_away:
        while_away.setattr(queries, "events_after", away)
        await socket.send(type="subscribe", orderId=order_id)
        await acknowledged(socket, "subscribe")
        await refusal(socket, 503)
    await socket.send(type="subscribe", orderId=other)
    await acknowledged(socket, "subscribe")

    for each in (order_id, other):
        await execute(each)

    assert {frame["orderId"] for frame in await socket.events(5)} == {other}


async def test_finished_orders_do_not_use_up_the_socket(
    socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orders.consumers.MAX_FOLLOWED", 2)
    for _ in range(3):
        order_id = await place()
        await execute(order_id)
        await socket.send(type="subscribe", orderId=order_id)
        await acknowledged(socket, "subscribe")
        assert seqs(await socket.events(5)) == [1, 2, 3, 4, 5]


async def test_an_order_that_could_not_be_followed_is_not_placed(
    socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orders.consumers.MAX_FOLLOWED", 1)
    await socket.send(type="order.submit", requestId="a", order=order_body())
    first = await acknowledged(socket, "order.submit")
    await socket.events(1)

    await socket.send(type="order.submit", requestId="b", order=order_body())

    assert (await refusal(socket, 429, "TOO_MANY_SUBSCRIPTIONS"))["inReplyTo"] == "b"
    assert await asyncio.to_thread(stored_orders) == [first["orderId"]]


@pytest.mark.usefixtures("soon_found")
async def test_an_order_that_was_acknowledged_is_followed_whatever_happens(
    socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise psycopg.OperationalError("away")

    with monkeypatch.context() as while_away:
        while_away.setattr(queries, "events_after", away)
        await socket.send(type="order.submit", requestId="a", order=order_body())
        placed = await acknowledged(socket, "order.submit")
        assert await socket.until_pong() == []
    await execute(placed["orderId"])

    assert seqs(await socket.events(5)) == [1, 2, 3, 4, 5]


async def test_a_subscription_stays_where_its_second_one_fails(
    socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = await place()
    await socket.send(type="subscribe", orderId=order_id)
    await acknowledged(socket, "subscribe")
    await socket.events(1)

    def away(*_: Any) -> None:
        raise psycopg.OperationalError("away")

    with monkeypatch.context() as while_away:
        while_away.setattr(queries, "events_after", away)
        await socket.send(type="subscribe", orderId=order_id, afterSeq=0)
        await acknowledged(socket, "subscribe")
        await refusal(socket, 503)
    await execute(order_id)

    assert seqs(await socket.events(4)) == [2, 3, 4, 5]


async def test_too_many_orders_at_once_are_refused(
    socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orders.consumers.MAX_FOLLOWED", 2)
    order_ids = [await place() for _ in range(3)]
    for order_id in order_ids[:2]:
        await socket.send(type="subscribe", orderId=order_id)
        await acknowledged(socket, "subscribe")
        await socket.events(1)

    await socket.send(type="subscribe", orderId=order_ids[2])

    await refusal(socket, 429)
    assert await socket.until_pong() == []


# Submitting and cancelling -----------------------------------------------------------------------


@pytest.mark.parametrize("amount", ["1.5", '"1.5"'], ids=["number", "string"])
async def test_a_submitted_order_is_acknowledged_and_followed(socket: Socket, amount: str) -> None:
    order = f'{{"tokenIn":"SOL","tokenOut":"USDC","amount":{amount},"slippage":0.005}}'
    await socket.send_text(f'{{"type":"order.submit","requestId":"r-1","order":{order}}}')

    ack = await acknowledged(socket, "order.submit")

    assert ack["requestId"] == "r-1"
    assert re.fullmatch(ORDER_ID, ack["orderId"])
    assert ack["status"] == "pending"
    assert re.fullmatch(TIMESTAMP, ack["timestamp"])
    stored = await socket.events(1)
    assert (stored[0]["data"]["amount"], stored[0]["data"]["slippage"]) == ("1.5", "0.005")
    await execute(ack["orderId"])
    assert seqs(stored + await socket.events(4)) == [1, 2, 3, 4, 5]


async def test_a_submitted_number_loses_no_digit(socket: Socket) -> None:
    order = '{"tokenIn":"SOL","tokenOut":"USDC","amount":9007199.254740993}'
    await socket.send_text(f'{{"type":"order.submit","order":{order}}}')

    await acknowledged(socket, "order.submit")

    assert (await socket.events(1))[0]["data"]["amount"] == "9007199.254740993"


async def test_a_submit_repeated_gets_the_first_answer_again(socket: Socket) -> None:
    order = order_body(clientOrderId="once")
    await socket.send(type="order.submit", requestId="1", order=order)
    first = await acknowledged(socket, "order.submit")
    await socket.events(1)

    await socket.send(type="order.submit", requestId="2", order=order)

    again = await acknowledged(socket, "order.submit")
    assert again["orderId"] == first["orderId"]
    assert again["timestamp"] == first["timestamp"]
    assert await asyncio.to_thread(stored_orders) == [first["orderId"]]


async def test_a_repeated_submit_repeats_no_event(socket: Socket) -> None:
    order = order_body(clientOrderId="once")
    for _ in range(2):
        await socket.send(type="order.submit", order=order)

    frames = await socket.until_pong()

    events = [frame for frame in frames if frame["type"] == "order.status"]
    assert seqs(events) == [1]


@pytest.mark.parametrize(
    ("order", "found"),
    [
        (order_body(amount="0"), {"/order/amount"}),
        (order_body(tokenIn="DOGE"), {"/order/tokenIn"}),
        (order_body(tokenOut="SOL"), {"/order/tokenOut"}),
        (order_body(limit=1), {"/order/limit"}),
        ({}, {"/order/tokenIn", "/order/tokenOut", "/order/amount"}),
    ],
)
async def test_a_bad_order_is_refused_and_not_stored(
    socket: Socket, order: dict[str, Any], found: set[str]
) -> None:
    await socket.send(type="order.submit", requestId="r-9", order=order)

    frame = await refusal(socket, 400, "VALIDATION")
    assert pointers(frame) == found
    assert all(f"{pointer}: " in frame["detail"] for pointer in found)
    assert frame["inReplyTo"] == "r-9"
    assert await asyncio.to_thread(stored_orders) == []
    assert await socket.until_pong() == []


async def test_an_id_submitted_for_another_order_is_refused(socket: Socket) -> None:
    await socket.send(type="order.submit", order=order_body(clientOrderId="once"))
    await acknowledged(socket, "order.submit")
    await socket.events(1)

    await socket.send(type="order.submit", order=order_body(clientOrderId="once", amount="2"))

    frame = await refusal(socket, 409, "CLIENT_ORDER_ID_REUSED")
    assert pointers(frame) == {"/order/clientOrderId"}


async def test_an_order_whose_deadline_has_passed_is_refused(socket: Socket) -> None:
    await socket.send(type="order.submit", order=order_body(deadline="2020-01-01T00:00:00Z"))

    assert pointers(await refusal(socket, 400, "VALIDATION")) == {"/order/deadline"}


async def test_a_waiting_order_is_cancelled(socket: Socket) -> None:
    order_id = await place()

    await socket.send(type="order.cancel", orderId=order_id)

    ack = await acknowledged(socket, "order.cancel")
    assert (ack["orderId"], ack["status"]) == (order_id, "cancelled")
    assert await status_of(order_id) == "cancelled"


async def test_a_followed_order_that_is_cancelled_is_told(connect: Connect) -> None:
    order_id = await place()
    socket = await connect(f"?orderId={order_id}")
    await socket.hello()
    await socket.events(1)
    other = await connect()
    await other.hello()

    await other.send(type="order.cancel", orderId=order_id)

    (frame,) = await socket.events(1)
    assert (frame["status"], frame["seq"]) == ("cancelled", 2)
    assert await socket.close_code() == 1000


async def test_an_order_that_has_left_pending_is_not_cancelled(socket: Socket) -> None:
    order_id = await place()
    await execute(order_id)

    await socket.send(type="order.cancel", orderId=order_id)

    await refusal(socket, 409)
    assert await status_of(order_id) == "confirmed"


async def test_an_order_that_is_not_there_is_not_cancelled(socket: Socket) -> None:
    await socket.send(type="order.cancel", orderId=UNKNOWN)

    await refusal(socket, 404, "NOT_FOUND")


# What is wrong with a frame ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "{",
        "null",
        "[]",
        "5",
        '"ping"',
        "{}",
        '{"type":null}',
        '{"type":5}',
        '{"type":["ping"]}',
        '{"type":{"ping":1}}',
        '{"type":"PING"}',
        '{"type":"__init__"}',
        '{"type":"ping","type":"ping"}',
        '{"type":"ping","extra":1}',
        '{"type":"subscribe"}',
        '{"type":"subscribe","orderId":""}',
        '{"type":"subscribe","orderId":["a"]}',
        '{"type":"subscribe","orderId":"a","scope":"all"}',
        '{"type":"subscribe","scope":"everything"}',
        '{"type":"subscribe","orderId":"a","afterSeq":-1}',
        '{"type":"subscribe","orderId":"a","afterSeq":"x"}',
        '{"type":"subscribe","orderId":"a","afterSeq":1e9999999999999999999}',
        '{"type":"subscribe","orderId":"a\\u0000"}',
        '{"type":"unsubscribe"}',
        '{"type":"order.cancel"}',
        '{"type":"order.submit"}',
        '{"type":"order.submit","order":null}',
        '{"type":"order.submit","order":[]}',
        '{"type":"order.submit","order":"x"}',
        '{"type":"order.submit","order":{"amount":NaN}}',
        pytest.param('{"type":' + "[" * 100_000, id="deep"),
        pytest.param('{"type":"subscribe","orderId":"' + "x" * 100_000 + '"}', id="long"),
        pytest.param(
            '{"type":"order.submit","order":{"amount":' + "[" * 850 + "]" * 850 + "}}",
            id="deep-order",
        ),
    ],
)
async def test_a_wrong_frame_is_answered_and_the_socket_stays(socket: Socket, text: str) -> None:
    await socket.send_text(text)

    await refusal(socket, 400)
    assert await socket.until_pong() == []


@pytest.mark.parametrize(
    "members",
    [
        '"type":"order.submit"',
        '"type":"order.submit","order":[]',
        '"type":"order.cancel","orderId":""',
        '"type":"subscribe"',
        '"type":"ping","seq":1',
        '"type":"nonsense"',
        '"type":5',
        '"order":{}',
    ],
)
async def test_the_answer_to_a_wrong_frame_names_its_request_id(
    socket: Socket, members: str
) -> None:
    await socket.send_text(f'{{"requestId":"r-7",{members}}}')

    assert (await refusal(socket, 400))["inReplyTo"] == "r-7"


@pytest.mark.parametrize(
    "request_id",
    [
        "null",
        "true",
        '""',
        "5",
        "1.5",
        "[]",
        '["r"]',
        '{"r":1}',
        '"\\u0000"',
        '"\\ud800"',
        "9" * 65,
    ]
    + ['"' + "x" * length + '"' for length in (65, 60_000)],
    ids=lambda text: text[:10],
)
@pytest.mark.parametrize("members", ['"type":"order.cancel","orderId":"x"', '"type":"nonsense"'])
async def test_what_is_no_request_id_is_not_repeated(
    socket: Socket, members: str, request_id: str
) -> None:
    await socket.send_text(f'{{"requestId":{request_id},{members}}}')

    assert "inReplyTo" not in await refusal(socket, 400)
    assert await socket.until_pong() == []


@pytest.mark.parametrize("order_id", ["\\ud800", "ord_\\udfff"])
async def test_half_a_surrogate_is_no_order(socket: Socket, order_id: str) -> None:
    await socket.send_text(f'{{"type":"subscribe","orderId":"{order_id}"}}')

    frame = await socket.receive()
    assert (frame["type"], frame["status"] in {400, 404}) == ("error", True)
    assert await socket.until_pong() == []


@pytest.mark.parametrize("data", [b"\x00\xff", json.dumps({"type": "ping"}).encode()])
async def test_a_binary_frame_is_answered_and_the_socket_stays(socket: Socket, data: bytes) -> None:
    await socket.send_bytes(data)

    assert "not a binary one" in (await refusal(socket, 400))["detail"]
    assert await socket.until_pong() == []


async def test_a_hundred_wrong_frames_leave_the_socket_open(socket: Socket) -> None:
    for _ in range(100):
        await socket.send_text("nonsense")

    frames = await socket.until_pong()

    assert [frame["type"] for frame in frames] == ["error"] * 100


async def test_a_fault_of_ours_is_an_error_frame_without_a_word_of_it(
    socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("the secret inside")

    monkeypatch.setattr("orders.intake.place", broken)
    await socket.send(type="order.submit", requestId="r", order=order_body())

    frame = await refusal(socket, 500, "INTERNAL")
    assert "secret" not in json.dumps(frame)
    assert await socket.until_pong() == []


async def test_every_few_seconds_there_is_a_heartbeat(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orders.consumers.HEARTBEAT_SECONDS", 0.02)
    socket = await connect()
    await socket.hello()

    frames = [await socket.receive() for _ in range(3)]

    assert [frame["type"] for frame in frames] == ["heartbeat"] * 3


# When the process stops ---------------------------------------------------------------------------


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    monkeypatch.setattr(application, "stopping", False)  # as it is again after the test
    return application.stop


@pytest.fixture
def slow_intake(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, ...]]:
    """Set when an order is being placed; to be set for it to go on."""
    begun, go_on = threading.Event(), threading.Event()
    place_order = intake.place

    async def slowly(*args: Any) -> Any:
        begun.set()
        assert await asyncio.to_thread(go_on.wait, 5)
        return await place_order(*args)

    monkeypatch.setattr("orders.intake.place", slowly)
    yield begun, go_on
    go_on.set()


async def test_a_socket_is_told_that_the_process_stops(
    socket: Socket, stop: Callable[[], None]
) -> None:
    stop()

    frame = await socket.receive()
    assert frame["type"] == "server.shutdown"
    assert re.fullmatch(TIMESTAMP, frame["timestamp"])
    assert await socket.close_code() == 1001


async def test_a_socket_that_opens_while_the_process_stops_is_told(
    connect: Connect, stop: Callable[[], None]
) -> None:
    stop()

    socket = await connect()

    await socket.hello()
    assert (await socket.receive())["type"] == "server.shutdown"
    assert await socket.close_code() == 1001


async def test_an_order_in_hand_is_acknowledged_before_the_goodbye_and_the_next_not_placed(
    socket: Socket, stop: Callable[[], None], slow_intake: tuple[threading.Event, ...]
) -> None:
    begun, go_on = slow_intake
    await socket.send(type="order.submit", requestId="1", order=order_body())
    await socket.send(type="order.submit", requestId="2", order=order_body())
    await asyncio.to_thread(begun.wait, 5)

    stop()
    go_on.set()

    assert (await acknowledged(socket, "order.submit"))["requestId"] == "1"
    assert seqs(await socket.events(1)) == [1]
    assert (await socket.receive())["type"] == "server.shutdown"
    assert await socket.close_code() == 1001
    await socket.disconnect()
    assert len(await asyncio.to_thread(stored_orders)) == 1


async def test_an_order_in_hand_is_acknowledged_before_its_caller_is_refused(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, slow_intake: tuple[threading.Event, ...]
) -> None:
    refused, (begun, go_on) = asyncio.Event(), slow_intake

    async def revoked(_: OrderConsumer) -> None:
        refused.set()
        raise not_authenticated("revoked")

    monkeypatch.setattr("orders.consumers.HEARTBEAT_SECONDS", 0.05)
    socket = await connect()
    await socket.send(type="order.submit", order=order_body())
    await asyncio.to_thread(begun.wait, 5)
    monkeypatch.setattr(OrderConsumer, "check_caller", revoked)
    await refused.wait()
    go_on.set()

    said = []
    while (frame := await socket.receive())["type"] != "error":
        said.append(frame["type"])
    assert "ack" in said
    assert frame["status"] == 401
    assert await socket.close_code() == 4401


async def test_an_order_that_waits_while_the_goodbye_is_said_is_not_placed(
    socket: Socket, stop: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    delivering, go_on, submitted = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def deliver_slowly(*_: object) -> None:
        delivering.set()
        await go_on.wait()

    def loads_and_tells(text: str) -> Any:
        submitted.set()
        return parsing.loads(text)

    order_id = await place()
    await socket.send(type="subscribe", orderId=order_id)
    await acknowledged(socket, "subscribe")
    await socket.events(1)
    monkeypatch.setattr(OrderConsumer, "deliver", deliver_slowly)
    monkeypatch.setattr("orders.consumers.loads", loads_and_tells)
    await execute(order_id)
    await delivering.wait()

    stop()
    await socket.send(type="order.submit", order=order_body())
    await submitted.wait()
    go_on.set()

    assert (await socket.receive())["type"] == "server.shutdown"
    assert await socket.close_code() == 1001
    await socket.disconnect()
    assert await asyncio.to_thread(stored_orders) == [order_id]


async def test_an_order_that_takes_too_long_does_not_hold_up_the_goodbye(
    socket: Socket,
    stop: Callable[[], None],
    slow_intake: tuple[threading.Event, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orders.consumers.FAREWELL_SECONDS", 0.05)
    begun, go_on = slow_intake
    await socket.send(type="order.submit", order=order_body())
    await asyncio.to_thread(begun.wait, 5)

    stop()

    assert (await socket.receive())["type"] == "server.shutdown"
    assert await socket.close_code() == 1001
    go_on.set()
