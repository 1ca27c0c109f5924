"""A request whose head is known is answered as any other: the short way, compared with the long."""

import re
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from pytest_django import Settings

from orderengine import http, repeated
from orderengine.repeated import RepeatedRequests
from orders import keys, placement, trading
from tests.api.asgi import ASGIClient, ask, begin
from tests.api.http import (
    BATCH,
    EXECUTE,
    ORDER_ID,
    TIMESTAMP,
    bearer,
    order_body,
    problem,
    stored_orders,
)
from tests.api.test_together import asking

pytestmark = pytest.mark.usefixtures("no_orders")

# What is another one in each answer.
OF_THE_MOMENT = re.compile(rf"{ORDER_ID}|{TIMESTAMP}|req_\w{{16}}")


class Ways:
    """The short way, which knows the heads that have been asked with, around the long one."""

    def __init__(self) -> None:
        self.long = http.application.application
        self.short = RepeatedRequests(self.count)
        self.went_long = 0

    async def count(self, *call: Any) -> None:
        self.went_long += 1
        await self.long(*call)

    def ask(self, body: Any, path: str = EXECUTE, *, long: bool = False, **headers: str) -> Any:
        app = self.long if long else self.short
        return begin(ask(**asking(body, path, **headers), app=app)).result(10)


@pytest.fixture
def ways() -> Ways:
    """Both heads are known: of an order and of a batch."""
    found = Ways()
    for path, body in ((EXECUTE, order_body()), (BATCH, {"orders": [order_body()]})):
        assert found.ask(body, path).status_code == 201
    assert found.went_long == 2
    return found


def shown(answer: HttpResponse) -> tuple[int, dict[str, str], str]:
    """Of an answer what the next one like it has as well."""
    headers = {n.lower(): OF_THE_MOMENT.sub("", value) for n, value in answer.items()}
    return answer.status_code, headers, OF_THE_MOMENT.sub("", answer.text)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (EXECUTE, order_body()),
        (EXECUTE, order_body(slippage=0.005, orderType="market", deadline="2100-01-01T00:00Z")),
        (EXECUTE, order_body(amount="0")),
        (EXECUTE, order_body(tokenOut="SOL")),
        (EXECUTE, order_body(amount="1", surprise=1)),
        (EXECUTE, order_body(deadline="2020-01-01T00:00:00Z")),
        (EXECUTE, order_body(tokenIn="\ud800")),
        (EXECUTE, []),
        (EXECUTE, b""),
        (EXECUTE, b"{"),
        (EXECUTE, b"\xff"),
        (EXECUTE, b'{"amount": 1, "amount": 2}'),
        (EXECUTE, b"[" * 100_000),
        (EXECUTE, b" " * 300_000),
        (BATCH, {"orders": [order_body()] * 3}),
        (BATCH, {"orders": []}),
        (BATCH, {"orders": [order_body(), order_body(amount="x")]}),
    ],
)
def test_both_ways_answer_alike(ways: Ways, path: str, body: Any) -> None:
    long = ways.ask(body, path, long=True)
    short = ways.ask(body, path)

    assert shown(short) == shown(long)
    assert ways.went_long == 2


def test_a_repeat_and_a_name_used_for_something_else_are_answered_alike(ways: Ways) -> None:
    first = ways.ask(order_body(), Idempotency_Key="name")

    for body, path, key in (
        (order_body(amount="2"), EXECUTE, {"Idempotency_Key": "name"}),
        (order_body(clientOrderId="other"), EXECUTE, {"Idempotency_Key": "name"}),
        ({"orders": [order_body(clientOrderId="name")]}, BATCH, {}),
        ({"orders": [order_body()]}, BATCH, {"Idempotency_Key": "name"}),
    ):
        assert shown(ways.ask(body, path, **key)) == shown(ways.ask(body, path, long=True, **key))
    again = ways.ask(order_body(), Idempotency_Key="name")
    assert again.text == first.text
    assert again["Idempotency-Replayed"] == "true"
    assert ways.went_long == 2


@pytest.mark.parametrize("long", [False, True])
def test_whoever_goes_before_the_end_of_the_body_places_nothing(ways: Ways, long: bool) -> None:
    stored, asked = len(stored_orders()), asking(order_body())
    said = {"type": "http.request", "body": asked["body"], "more_body": True}
    messages, sent = iter([said, {"type": "http.disconnect"}]), []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    begin((ways.long if long else ways.short)(asked["scope"], receive, send)).result(10)

    assert sent == []
    assert len(stored_orders()) == stored


def test_what_follows_a_repeat_is_none(ways: Ways) -> None:
    named = order_body(clientOrderId="name")
    ways.ask(named)

    again = ways.ask(named, User_Agent="of another head")
    another = ways.ask(order_body(), User_Agent="of another head")

    assert again["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in another
    assert ways.went_long == 3


def test_a_request_keeps_its_id(ways: Ways) -> None:
    assert ways.ask(order_body(), X_Request_ID="mine-1")["X-Request-ID"] == "mine-1"
    refusal = problem(ways.ask(order_body(amount="0"), X_Request_ID="mine-2"), 400, "VALIDATION")
    assert refusal["requestId"] == "mine-2"
    assert ways.ask(order_body(), X_Request_ID="<>")["X-Request-ID"].startswith("req_")
    assert ways.went_long == 2


def test_a_halt_and_a_database_that_is_away_are_answered_alike(
    ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    trading.halt("operator")
    try:
        halted = [shown(ways.ask(order_body(), long=long)) for long in (False, True)]
    finally:
        trading.resume("operator")
    assert halted[0] == halted[1]
    assert halted[0][0] == 503

    async def away(request: Any) -> Any:
        raise psycopg.OperationalError("gone")

    monkeypatch.setattr("orders.intake.place_together", lambda: away)
    gone = [shown(ways.ask(order_body(), long=long)) for long in (False, True)]
    assert gone[0] == gone[1]
    assert gone[0][0] == 503
    assert ways.went_long == 2


def test_an_order_whose_answer_is_lost_is_not_placed_again(
    ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = len(stored_orders())
    place = placement.place_each

    async def place_and_lose_the_answer(request: Any) -> Any:
        await place([request])
        raise psycopg.OperationalError("gone")

    monkeypatch.setattr("orders.intake.place_together", lambda: place_and_lose_the_answer)

    problem(ways.ask(order_body()), 503, "DATABASE_UNAVAILABLE")

    assert len(stored_orders()) == stored + 1


# Who asks ----------------------------------------------------------------------------------------


def owners() -> list[int | None]:
    return [row["owner_id"] for row in placement.database.rows(OWNERS, {})]


OWNERS = "SELECT owner_id FROM orders_order ORDER BY id"


@pytest.mark.usefixtures("auth_required")
def test_each_key_is_looked_at_and_one_head_serves_them_all(alice: User, bob: User) -> None:
    ways = Ways()
    of_alice, of_bob = bearer(alice), bearer(bob)
    assert ways.ask(order_body(), Authorization=of_alice).status_code == 201
    problem(ways.ask(order_body()), 401, "NOT_AUTHENTICATED")
    assert ways.ask(order_body(), Authorization=of_bob).status_code == 201  # not trusted before
    long = ways.went_long

    assert ways.ask(order_body(), Authorization=of_alice).status_code == 201
    assert ways.ask(order_body(), Authorization=of_bob).status_code == 201
    assert ways.went_long == long
    assert owners() == [alice.pk, bob.pk, alice.pk, bob.pk]

    problem(ways.ask(order_body(), Authorization=of_alice[:-1] + "?"), 401)
    problem(ways.ask(order_body(), Authorization="Basic YTpi"), 401)
    keys.revoke(of_bob.removeprefix("Bearer ").split("_")[1])
    keys._trusted.clear()  # as time does
    problem(ways.ask(order_body(), Authorization=of_bob), 401)


def test_two_keys_that_are_both_good_are_none(alice: User, bob: User) -> None:
    ways, hers, his = Ways(), bearer(alice), bearer(bob)
    for header in (hers, his):
        assert ways.ask(order_body(), Authorization=header).status_code == 201
    call = asking(order_body(), Authorization=hers)
    call["scope"]["headers"].append((b"authorization", his.encode()))

    problem(begin(ask(**call, app=ways.short)).result(10), 401, "NOT_AUTHENTICATED")


def test_a_session_goes_the_long_way(ways: Ways, alice: User) -> None:
    browser = ASGIClient()
    browser.force_login(alice)
    cookie = f"sessionid={browser.cookies['sessionid'].value}"
    for _ in range(2):  # without its CSRF token
        problem(ways.ask(order_body(), Cookie=cookie), 403, "FORBIDDEN")
        assert ways.ask(order_body(), Cookie="theme=dark").status_code == 201

    assert ways.went_long == 6


def test_nobody_is_let_in_by_what_is_remembered_where_a_key_is_needed(
    ways: Ways, settings: Settings
) -> None:
    settings.API_AUTH_REQUIRED = True
    ways.ask(order_body())

    assert ways.went_long == 3


def test_where_requests_are_counted_they_go_the_long_way(ways: Ways, settings: Settings) -> None:
    settings.API_RATE_LIMIT = (600, 60)
    ways.ask(order_body())

    assert ways.went_long == 3


# What is remembered ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "elsewhere.example"},
        {"Content_Type": "text/plain"},
        {"Origin": "https://app.example.com"},
        {"Accept_Language": "de"},
    ],
)
def test_another_head_is_another_request(ways: Ways, headers: dict[str, str]) -> None:
    long = shown(ways.ask(order_body(), long=True, **headers))

    for _ in range(2):
        assert shown(ways.ask(order_body(), **headers)) == long
    assert ways.went_long == (3 if long[0] == 201 else 4)


def test_another_method_of_a_known_head_is_another_request(ways: Ways) -> None:
    stored = len(stored_orders())
    call = asking(order_body(), method="PUT")

    problem(begin(ask(**call, app=ways.short)).result(10), 405)

    assert len(stored_orders()) == stored


def test_another_scheme_is_another_request(ways: Ways) -> None:
    call = asking(order_body())
    call["scope"]["scheme"] = "https"

    begin(ask(**call, app=ways.short)).result(10)

    assert ways.went_long == 3


def test_what_is_answered_to_a_cookie_is_not_remembered() -> None:
    ways = Ways()

    assert ways.ask(order_body(), Cookie="theme=dark").status_code == 201

    assert ways.short.known == {}


def test_refusals_and_other_paths_are_not_remembered(ways: Ways) -> None:
    before = dict(ways.short.known)
    ways.ask(order_body(amount="0"), Accept_Language="en")
    ways.ask(order_body(), "/api/quotes")
    ways.ask({}, "/api/tickets")

    assert ways.short.known == before


def test_no_more_is_remembered_than_there_is_room_for(
    ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeated, "MOST_REMEMBERED", 3)
    for number in range(5):
        ways.ask(order_body(), Traceparent=f"00-{number}")
        assert len(ways.short.known) <= 3
    ways.ask(order_body(), Traceparent="0" * 5_000)

    assert len(repr(ways.short.known)) < 5_000
