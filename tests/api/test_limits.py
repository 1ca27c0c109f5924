"""Rate limits: each key its bucket, and nobody waits for a Redis that is away."""

import asyncio
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings
from rest_framework.views import APIView
from structlog.testing import capture_logs

from orders import consumers, limits
from orders.access import Throttle
from orders.keys import Caller
from orders.problems import Problem
from tests.api.conftest import PASSWORD
from tests.api.http import EXECUTE, bearer, execute, order_body, problem, stored_orders
from tests.api.sockets import Connect, refusal
from tests.api.test_openapi import conforms

pytestmark = pytest.mark.usefixtures("no_orders", "three_a_minute")

CLIENT = limits.client
# Far more than a check costs on a busy machine, far less than a second.
SLACK = 0.15


@pytest.fixture
def three_a_minute(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """As settings have it where API_RATE_LIMIT is set; test_settings.py checks that they do."""
    settings.API_RATE_LIMIT = (3, 60)
    monkeypatch.setattr(APIView, "throttle_classes", [Throttle])
    monkeypatch.setattr(limits, "breaker", limits.Breaker())
    use_redis(monkeypatch, settings.REDIS_URL, socket_timeout=5)  # however busy the machine is
    for key in limits.client().scan_iter("limit:*"):
        limits.client().delete(key)


@pytest.fixture
def hanging_redis(three_a_minute: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It takes connections and says nothing, as one that is stopped does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        use_redis(monkeypatch, url)
        yield


def use_redis(monkeypatch: pytest.MonkeyPatch, url: str, **changes: Any) -> None:
    options = CLIENT().connection_pool.connection_kwargs
    kept = {name: options[name] for name in ("socket_timeout", "socket_connect_timeout", "retry")}
    other = redis.Redis.from_url(url, **{**kept, **changes})
    monkeypatch.setattr(limits, "client", lambda: other)


def granted(bucket: str) -> bool:
    try:
        limits.spend(bucket)
    except Problem:
        return False
    return True


def test_past_the_limit_requests_are_429_until_some_time_has_passed(
    client: Client, alice: User
) -> None:
    header = bearer(alice)
    answers = [execute(client, Authorization=header) for _ in range(5)]

    assert [answer.status_code for answer in answers] == [201, 201, 201, 429, 429]
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0", "0"]
    assert {answer["RateLimit-Limit"] for answer in answers} == {"3"}
    assert 55 <= int(answers[2]["RateLimit-Reset"]) <= 60
    problem(answers[3], 429, "TOO_MANY_REQUESTS")
    assert 15 <= int(answers[3]["Retry-After"]) <= 20
    assert len(stored_orders()) == 3


def test_a_refusal_counts_and_says_what_is_left(client: Client, alice: User) -> None:
    answer = execute(client, {}, Authorization=bearer(alice))

    problem(answer, 400)
    assert answer["RateLimit-Remaining"] == "2"


def test_each_key_and_each_address_has_its_own_bucket(client: Client, alice: User) -> None:
    headers = [{"Authorization": bearer(alice)} for _ in range(2)]
    for _ in range(3):
        client.get("/api/orders", headers=headers[0])

    assert client.get("/api/orders", headers=headers[0]).status_code == 429
    assert client.get("/api/orders", headers=headers[1]).status_code == 200
    assert client.get("/api/orders").status_code == 200
    others = {client.get("/api/orders", REMOTE_ADDR="192.0.2.1").status_code for _ in range(3)}
    assert others == {200}
    assert client.get("/api/orders", REMOTE_ADDR="192.0.2.1").status_code == 429


def test_a_session_counts_as_its_user() -> None:
    assert limits.bucket_of(Caller(7), "192.0.2.1") == "user.7"


def test_health_is_asked_as_often_as_one_likes(client: Client) -> None:
    answers = [client.get("/health/live") for _ in range(6)]

    assert {answer.status_code for answer in answers} == {200}


def test_a_bucket_fills_again_at_its_rate(settings: Settings) -> None:
    settings.API_RATE_LIMIT = (5, 5)
    assert [granted("x") for _ in range(6)] == [True] * 5 + [False]

    deadline = time.monotonic() + 3
    while not granted("x"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not granted("x")


def test_a_bucket_that_was_emptied_at_another_rate_is_no_more_than_empty(
    settings: Settings,
) -> None:
    settings.API_RATE_LIMIT = (50, 3600)
    assert [granted("x") for _ in range(50)] == [True] * 50

    settings.API_RATE_LIMIT = (10, 60)

    refused(within=6, of=10)


def test_nor_is_one_of_before_redis_clock_was_set_back(settings: Settings) -> None:
    settings.API_RATE_LIMIT = (10, 60)
    limits.client().set("limit:x", int((time.time() + 3600) * 1_000_000))

    refused(within=6, of=10)


def refused(*, within: int, of: int) -> None:
    """The next request of `x` is, for no longer than so many seconds."""
    with pytest.raises(Problem) as caught:
        limits.spend("x")
    said = caught.value.headers
    assert 1 <= int(said["Retry-After"]) <= within
    assert (said["RateLimit-Limit"], said["RateLimit-Remaining"]) == (str(of), "0")


def test_of_a_bucket_that_is_full_again_nothing_is_kept() -> None:
    for spent in (1, 2, 3):
        assert granted("x")

        left = limits.client().pttl("limit:x")
        assert 0 < left <= spent * 20_000  # milliseconds until it is full


def test_many_at_once_are_counted_one_by_one(settings: Settings) -> None:
    settings.API_RATE_LIMIT = (20, 3600)
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(granted, ["x"] * 60))

    assert outcomes.count(True) == 20


async def test_new_sockets_count(connect: Connect, alice: User) -> None:
    header = bearer(alice)
    for _ in range(3):
        await (await connect(Authorization=header)).hello()

    fourth = await connect(Authorization=header)

    await refusal(fourth, 429, "TOO_MANY_REQUESTS")
    assert await fourth.close_code() == 4429


async def test_orders_submitted_on_a_socket_count_and_the_socket_stays(
    connect: Connect, alice: User
) -> None:
    one = await connect(Authorization=bearer(alice))
    await one.hello()

    for number in range(2):
        await one.send(type="order.submit", requestId=str(number), order=order_body())
        assert (await one.receive())["type"] == "ack"
        await one.receive()
    await one.send(type="order.submit", requestId="2", order=order_body())

    refused = await refusal(one, 429, "TOO_MANY_REQUESTS")
    assert refused["inReplyTo"] == "2"
    assert f"in {refused['retryAfter']} s" in refused["detail"]
    assert len(await asyncio.to_thread(stored_orders)) == 2
    await one.until_pong()


@pytest.mark.usefixtures("hanging_redis")
def test_a_redis_that_hangs_holds_up_one_request_and_refuses_none(client: Client) -> None:
    begun = time.monotonic()
    assert execute(client).status_code == 201
    first = time.monotonic() - begun
    for _ in range(20):
        limits.spend("x")
    rest = time.monotonic() - begun - first

    assert first < 0.2 + SLACK
    assert rest < SLACK


def test_a_redis_that_is_gone_refuses_nobody(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_redis(monkeypatch, "redis://127.0.0.1:1/0")

    answers = [execute(client) for _ in range(5)]

    assert {answer.status_code for answer in answers} == {201}
    assert "RateLimit-Limit" not in answers[0]


def test_when_redis_is_back_requests_count_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAUSE_SECONDS", 0.05)
    with monkeypatch.context() as patched:
        use_redis(patched, "redis://127.0.0.1:1/0")
        assert [granted("x") for _ in range(5)] == [True] * 5

    deadline = time.monotonic() + 5
    while not limits.spend("y"):
        assert time.monotonic() < deadline
    assert [granted("y") for _ in range(3)] == [True, True, False]


def test_unknown_keys_count_by_address(client: Client, alice: User) -> None:
    wrong = {"Authorization": f"Bearer oee_{'a' * 8}_{'b' * 43}"}

    answers = [client.get("/api/orders", headers=wrong).status_code for _ in range(5)]

    assert answers == [401, 401, 401, 429, 429]
    assert execute(client, Authorization=bearer(alice)).status_code == 201


async def test_frames_that_say_nothing_count(connect: Connect, alice: User) -> None:
    one = await connect(Authorization=bearer(alice))
    await one.hello()

    for _ in range(2):
        await one.send(type="surprise")
        await refusal(one, 400, "UNKNOWN_TYPE")
    await one.send_text("{")

    await refusal(one, 429, "TOO_MANY_REQUESTS")
    await one.until_pong()


async def test_frames_that_are_not_counted_are_heard_at_a_pace(
    connect: Connect, alice: User, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.API_RATE_LIMIT = (20, 60)
    monkeypatch.setattr(limits, "FRAMES_AT_ONCE", 20)
    hers = bearer(alice)
    sockets = [await connect(Authorization=hers) for _ in range(2)]
    for each in sockets:
        await each.hello()

    begun = time.monotonic()
    for number in range(40):  # of her sockets together: 20 at once, then 50 a second
        await sockets[number % 2].until_pong()
    taken = time.monotonic() - begun

    assert taken > 0.35
    settings.API_RATE_LIMIT = None
    begun = time.monotonic()
    for _ in range(100):
        await sockets[0].until_pong()
    assert time.monotonic() - begun < 1.5


@pytest.mark.parametrize(
    ("allowance", "at_once", "each"),
    [((600, 60), 1_000, 0.02), ((6_000, 60), 6_000, 0.005)],
)
def test_the_pace_follows_the_limit(
    settings: Settings, allowance: tuple[int, int], at_once: int, each: float
) -> None:
    settings.API_RATE_LIMIT = allowance
    pace = limits.Pace()

    waits = [pace.wait(1000.0) for _ in range(at_once + 2)]

    assert waits == pytest.approx([0.0] * at_once + [each, 2 * each], abs=1e-6)
    assert pace.wait(2000.0) == 0


def test_no_more_paces_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_PACES", 3)
    monkeypatch.setattr(limits, "_paces", {})

    assert limits.pace_of("a") is limits.pace_of("a")
    for number in range(10):
        limits.pace_of(str(number))

    assert len(limits._paces) <= 3


async def test_wrong_tickets_count_by_address(connect: Connect) -> None:
    for _ in range(3):
        await refusal(await connect("?ticket=wrong"), 401, "NOT_AUTHENTICATED")

    await refusal(await connect("?ticket=wrong"), 429, "TOO_MANY_REQUESTS")


async def test_a_caller_has_no_more_sockets_than_leave_room_for_others(
    connect: Connect, alice: User, bob: User, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.API_RATE_LIMIT = (100, 60)
    monkeypatch.setattr(consumers, "MAX_SOCKETS", 2)
    hers = bearer(alice)
    first, second = [await connect(Authorization=hers) for _ in range(2)]
    await first.hello()
    await second.hello()

    third = await connect(Authorization=hers)
    await refusal(third, 429, "TOO_MANY_SOCKETS")
    assert await third.close_code() == 4429
    await (await connect(Authorization=bearer(bob))).hello()
    await first.disconnect()
    await (await connect(Authorization=hers)).hello()


def test_the_document_has_the_headers_of_what_is_counted(client: Client, alice: User) -> None:
    header = bearer(alice)
    answers = [execute(client, Authorization=header) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [201, 201, 201, 429]
    for answer in answers:
        assert "RateLimit-Remaining" in answer
        conforms(answer, "post", EXECUTE)


@pytest.mark.parametrize("path", ["/login", "/admin/login/"])
def test_passwords_are_not_tried_without_end(path: str, make_user: Callable[..., User]) -> None:
    make_user("operator", is_staff=True)
    client = Client()

    def sign_in(password: str, address: str = "192.0.2.1", name: str = "operator") -> str:
        form = {"username": name, "password": password}
        return client.post(path, form, REMOTE_ADDR=address).text

    wrong = [sign_in("wrong") for _ in range(10)]
    assert all("Too many tries" not in page for page in wrong)
    # Ten hashes take more than a second where the machine is busy.
    assert re.search(r"Too many tries\. The next may be made in [1-6] s\.", sign_in(PASSWORD))
    for same in ("operator ", " operator", "\uff4fperator"):
        assert "Too many tries" in sign_in(PASSWORD, name=same)
    assert "Too many tries" not in sign_in("wrong", name="other")
    others = [sign_in("wrong", name=f"name {number}") for number in range(17)]
    assert "Too many tries" in others[-1]
    assert sign_in(PASSWORD, "192.0.2.2") == ""  # sent on


@pytest.mark.parametrize("limited", [True, False])
def test_a_failed_sign_in_is_logged_without_what_was_typed(
    settings: Settings, limited: bool
) -> None:
    settings.API_RATE_LIMIT = (3, 60) if limited else None
    with capture_logs() as lines:
        Client().post("/login", {"username": "my password", "password": "x"})

    (line,) = [line for line in lines if line["event"] == "sign_in.failed"]
    assert line == {"event": "sign_in.failed", "log_level": "warning", "address": "127.0.0.1"}


async def test_cancels_on_a_socket_count(connect: Connect, alice: User) -> None:
    one = await connect(Authorization=bearer(alice))
    await one.hello()

    for _ in range(2):
        await one.send(type="order.cancel", orderId="ord_0000000000000_aaaaaaaaaa")
        await refusal(one, 404, "NOT_FOUND")
    await one.send(type="order.cancel", orderId="ord_0000000000000_aaaaaaaaaa")

    await refusal(one, 429, "TOO_MANY_REQUESTS")
