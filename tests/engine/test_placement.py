"""Where an order comes in: stored once, with its first event, and hinted."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from orders import database, loop, placement
from orders.events import milliseconds
from orders.models import Order
from tests.factories import load, order_request, place, place_one

pytestmark = pytest.mark.usefixtures("no_orders")


def test_an_order_and_its_first_event_are_stored_together() -> None:
    placed = place_one(order_request(client_order_id="mine"))

    order = load(placed.order_id)
    event = order.events.get()
    assert (order.status, order.seq, order.attempt) == ("pending", 1, 1)
    assert (event.status, event.previous_status, event.seq) == ("pending", "", 1)
    assert event.created_at == order.created_at == placed.created_at
    assert event.data == {
        "orderType": "market", "tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5",
        "slippage": "0.01", "clientOrderId": "mine",
    }  # fmt: skip


def test_the_digits_of_an_order_id_are_its_time() -> None:
    for _ in range(20):
        placed = loop.run(placement.place_orders([order_request()] * 3))

        assert {order.order_id[4:17] for order in placed} == {
            str(milliseconds(order.created_at)) for order in placed
        }


def test_a_stored_order_is_hinted(monkeypatch: pytest.MonkeyPatch) -> None:
    hinted: list[str] = []
    monkeypatch.setattr("orders.hints.send_soon", hinted.extend)

    order_id = place(client_order_id="once")
    place(client_order_id="once")

    assert hinted == [order_id]


def test_the_same_client_order_id_is_the_same_order() -> None:
    first = place_one(order_request(client_order_id="a"))

    again = place_one(order_request(client_order_id="a"))

    assert (again.order_id, again.created_at) == (first.order_id, first.created_at)
    assert (first.replayed, again.replayed) == (False, True)
    assert Order.objects.count() == 1


def test_fifty_repeats_at_once_make_one_order_and_equal_answers() -> None:
    request = order_request(client_order_id="many")

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(place_one, [request] * 50))

    assert len({(answer.order_id, answer.created_at) for answer in answers}) == 1
    assert [answer.replayed for answer in answers].count(False) == 1
    assert Order.objects.count() == 1


@pytest.mark.parametrize("change", [{"amount_in": 1}, {"slippage_bps": 50}])
def test_a_client_order_id_cannot_name_another_order(change: dict[str, int]) -> None:
    place(client_order_id="a")

    with pytest.raises(placement.ClientOrderIdReused, match="something else"):
        place(client_order_id="a", **change)


def test_orders_without_a_client_order_id_are_different_orders() -> None:
    assert place() != place()


def test_a_deadline_that_has_passed_is_denied_without_a_row() -> None:
    with pytest.raises(placement.DeadlinePassed):
        place(deadline_at=database.now() - timedelta(seconds=1))

    assert Order.objects.count() == 0


@pytest.mark.parametrize("hours", [-2, 2])
def test_what_is_late_is_not_decided_by_the_clock_of_the_web(
    hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Off(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=hours)

    monkeypatch.setattr(placement, "datetime", Off)
    past, soon = (order_request(deadline_at=database.now() + timedelta(hours=n)) for n in (-1, 1))

    together = loop.run(placement.place_each([past, soon]))
    alone = place_one(soon)
    with pytest.raises(placement.DeadlinePassed):
        place_one(past)

    assert [placed is not None for placed in (*together, alone)] == [False, True, True]
    assert Order.objects.count() == 2


def test_a_repeat_after_the_deadline_gets_the_first_answer() -> None:
    request = order_request(client_order_id="soon", deadline_at=database.now() + timedelta(hours=1))
    first = place_one(request)
    passed = request._replace(deadline_at=database.now())
    Order.objects.update(deadline_at=passed.deadline_at)

    assert place_one(passed).order_id == first.order_id
