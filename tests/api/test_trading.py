"""What a client is told while trading is halted."""

from collections.abc import Awaitable, Callable

import pytest
from asgiref.sync import sync_to_async
from django.test import Client

from orders import trading
from orders.events import iso
from tests.api.http import BATCH, execute, order_body, placed, post, problem, stored_orders
from tests.api.sockets import Socket, refusal

pytestmark = pytest.mark.usefixtures("no_orders")


@pytest.mark.parametrize("path", ["one order", "a batch"])
def test_a_new_order_is_refused_and_told_why(client: Client, path: str) -> None:
    halt = trading.halt("alice", "the chain is congested")
    assert halt is not None

    if path == "one order":
        response = execute(client)
    else:
        response = post(client, BATCH, {"orders": [order_body()]})

    detail = problem(response, 503, "TRADING_HALTED")["detail"]
    assert detail.startswith(
        f"Trading has been halted since {iso(halt.halted_at)} (the chain is congested): "
    )
    assert "alice" not in detail
    assert int(response["Retry-After"]) > 0
    assert stored_orders() == []


def test_a_reason_may_be_left_out(client: Client) -> None:
    halt = trading.halt("alice")
    assert halt is not None

    detail = problem(execute(client), 503, "TRADING_HALTED")["detail"]

    assert f"halted since {iso(halt.halted_at)}: " in detail


def test_a_repeat_of_an_order_stored_before_gets_its_first_answer(client: Client) -> None:
    body = order_body(clientOrderId="mine")
    first = execute(client, body)
    trading.halt("alice")

    again = execute(client, body)

    assert (again.status_code, again.json()) == (201, first.json())
    assert again["Idempotency-Replayed"] == "true"


def test_a_waiting_order_can_be_cancelled(client: Client) -> None:
    order_id = placed(client)
    trading.halt("alice")

    response = post(client, f"/api/orders/{order_id}/cancel", {})

    assert response.json()["status"] == "cancelled"


def test_a_halt_that_ended_a_moment_ago_is_said_as_well(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    trading.halt("alice")
    monkeypatch.setattr(trading, "current", lambda: None)

    detail = problem(execute(client), 503, "TRADING_HALTED")["detail"]

    assert "halted until a moment ago: " in detail


@pytest.mark.asyncio
async def test_a_submit_is_refused_and_the_socket_stays(
    connect: Callable[..., Awaitable[Socket]],
) -> None:
    await sync_to_async(trading.halt)("alice", "a drill")
    socket = await connect()
    await socket.hello()

    await socket.send(type="order.submit", requestId="r-1", order=order_body())

    frame = await refusal(socket, 503, "TRADING_HALTED")
    assert frame["inReplyTo"] == "r-1"
    assert "(a drill)" in frame["detail"]
    assert await socket.until_pong() == []
