"""Daphne's access log says what was asked for, and never with which ticket."""

import io
from datetime import UTC, datetime

import pytest
from daphne.access import AccessLogGenerator

import orderengine.asgi  # noqa: F401  (as a web process: it is what keeps tickets out)

TICKET = "kR3-eVq_0a1b2c3d4e5f6g7h8i9j0kLmNoPqRsTuVwX"


def logged(path: str) -> str:
    stream = io.StringIO()
    details = {"path": path, "client": "127.0.0.1:5", "method": "GET", "status": 426, "size": 9}
    AccessLogGenerator(stream)("http", "complete", {**details, "date": datetime.now(UTC)})
    return stream.getvalue()


@pytest.mark.parametrize("name", ["ticket", "Ticket", "%74icket", "a=b&ticket"])
def test_a_ticket_is_left_out(name: str) -> None:
    line = logged(f"/api/orders/execute?orderId=x&{name}={TICKET}")

    assert TICKET not in line
    assert "GET /api/orders/execute?..." in line


def test_every_other_query_is_kept() -> None:
    assert "GET /api/orders?status=failed" in logged("/api/orders?status=failed")
