"""The id of the request that placed an order is in the log lines of all that happens to it."""

from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from django.test import Client

from orderengine.logs import leave_out_no_request
from orders import dispatcher, events, execution, lifecycle, loop, requestid
from orders.models import Status
from tests import factories
from tests.api.http import execute
from tests.factories import StubExchange, load

pytestmark = pytest.mark.usefixtures("no_orders")


FIRST: dict[str, Any] = {
    **{"owner_id": None, "seq": 1, "status": "pending", "previous_status": "", "attempt": 1},
    **{"created_at": datetime(2026, 1, 1, tzinfo=UTC), "data": {}},
}


@pytest.fixture
def lines() -> Any:
    structlog.contextvars.clear_contextvars()  # a request of the test before
    merged = structlog.contextvars.merge_contextvars
    with structlog.testing.capture_logs(processors=[merged, leave_out_no_request]) as captured:
        yield captured
    structlog.contextvars.clear_contextvars()


def placed_by(request_id: str) -> str:
    order_id: str = execute(Client(), X_Request_ID=request_id).json()["orderId"]
    structlog.contextvars.clear_contextvars()  # a worker is another process
    return order_id


def told(lines: list[dict[str, Any]]) -> set[tuple[str, str | None]]:
    """(order, request) of the lines about moves; threads of the tests before write others."""
    moved = [line for line in each(lines) if line["event"] == "order.moved"]
    return {(line["order_id"], line.get("request_id")) for line in moved}


def each(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As they are written: one that tells of several orders is one for each."""
    return [{**own, **line} for line in lines for own in line.get("each", [{}])]


def test_a_worker_s_lines_have_the_id_of_the_request(
    lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "exchange", StubExchange)
    first, second = placed_by("req-1"), placed_by("req-2")

    execution.execute_order(first)
    execution.execute_order(second)

    assert told(lines) == {(first, "req-1"), (second, "req-2")}
    first_s = [line for line in each(lines) if line.get("request_id") == "req-1"]
    assert [line["to"] for line in first_s if "to" in line] == [
        "pending", "routing", "building", "submitted", "confirmed",
    ]  # fmt: skip
    assert structlog.contextvars.get_contextvars() == {}


def test_the_line_of_the_move_to_building_says_why_its_route_was_taken(
    lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "exchange", StubExchange)

    execution.execute_order(placed_by("req-1"))

    said = {line["to"]: (line["reason"], line["why"]) for line in lines if "reason" in line}
    assert said == {"building": ("ONLY_VENUE", "Raydium returns 214.000000 USDC")}


def test_the_order_that_runs_counts_not_the_one_that_was_hinted(
    lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "exchange", StubExchange)
    first = placed_by("req-1")
    hinted = factories.order_in(Status.CONFIRMED, client_order_id="other")
    lines.clear()

    execution.execute_order(hinted.id)

    assert told(lines) == {(first, "req-1")}


def test_the_dispatcher_s_lines_have_it_too(lines: list[dict[str, Any]]) -> None:
    order = load(placed_by("req-3"))
    lines.clear()

    loop.run(dispatcher.expire(order))

    assert told(lines) == {(order.id, "req-3")}


def test_an_order_that_no_request_placed_has_none(lines: list[dict[str, Any]]) -> None:
    order = factories.order_in(Status.CONFIRMED)

    with requestid.logged("req-of-another"):
        lifecycle.announce(events.Event(**FIRST, order_id="ord_b"), request_id="")

    assert told(lines) == {(order.id, None), ("ord_b", None)}
