"""GET /api/orders/activity: what became of the orders of the last minutes."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from orders import activity, database
from orders.events import iso
from orders.models import Order, Status
from tests import factories
from tests.api.http import bearer, pointers, problem

pytestmark = pytest.mark.usefixtures("no_orders")

PATH = "/api/orders/activity"
NOTHING = {"confirmed": 0, "failed": 0, "cancelled": 0, "expired": 0, "p50Ms": None, "p95Ms": None}


def ended(status: Status, at: datetime, took: float = 1.0, **changes: Any) -> str:
    """An order that ended at `at`, `took` seconds after it was placed."""
    order = factories.order_in(status, **changes)
    Order.objects.filter(id=order.id).update(
        created_at=at - timedelta(seconds=took), completed_at=at
    )
    return order.id


def a_bucket(ago: float) -> datetime:
    """Where a bucket begins that many seconds ago."""
    return activity.bucket_of(database.now() - timedelta(seconds=ago))


def results(client: Client, **query: Any) -> Any:
    response = client.get(PATH, query)
    assert response.status_code == 200, response.content
    return response.json()["results"]


def test_of_no_orders_there_is_no_bucket(client: Client) -> None:
    factories.place()

    body = client.get(PATH).json()

    assert (body["bucketSeconds"], body["results"]) == (5, [])
    first, last = map(datetime.fromisoformat, (body["from"], body["to"]))
    assert timedelta(minutes=15) <= last - first < timedelta(minutes=15, seconds=5)
    assert first.second % 5 == first.microsecond == 0


def test_orders_are_counted_by_when_and_how_they_ended(client: Client) -> None:
    first, second = a_bucket(60), a_bucket(30)
    ended(Status.CONFIRMED, first)
    ended(Status.FAILED, first + timedelta(seconds=4.999))
    ended(Status.CANCELLED, second)
    ended(Status.EXPIRED, second + timedelta(seconds=1))

    assert results(client) == [
        {**NOTHING, "at": iso(first), "confirmed": 1, "failed": 1, "p50Ms": 1000, "p95Ms": 1000},
        {**NOTHING, "at": iso(second), "cancelled": 1, "expired": 1},
    ]


def test_latencies_are_those_of_confirmed_orders(client: Client) -> None:
    at = a_bucket(30)
    for seconds in range(1, 21):
        ended(Status.CONFIRMED, at, took=seconds)
    ended(Status.FAILED, at, took=500)

    [bucket] = results(client)

    assert (bucket["p50Ms"], bucket["p95Ms"]) == (10_000, 19_000)


@pytest.mark.parametrize(("minutes", "seen"), [(1, 1), (3, 2), (60, 3)])
def test_the_window_is_as_long_as_asked_for(client: Client, minutes: int, seen: int) -> None:
    for ago in (30, 150, 3000, 4000):
        ended(Status.CONFIRMED, a_bucket(ago))

    assert len(results(client, minutes=minutes)) == seen


@pytest.mark.parametrize("query", ["minutes=0", "minutes=61", "minutes=1.5", "minutes=", "since=1"])
def test_a_wrong_query_is_refused(client: Client, query: str) -> None:
    body = problem(client.get(f"{PATH}?{query}"), 400, "VALIDATION")

    assert pointers(body) == {f"/{query.partition('=')[0]}"}


def test_a_window_of_too_many_orders_begins_later(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "MOST_ORDERS", 3)
    old, cut, whole = a_bucket(120), a_bucket(90), a_bucket(60)
    for at in (old, cut, cut, whole, whole):
        ended(Status.CONFIRMED, at)

    body = client.get(PATH).json()

    assert [bucket["at"] for bucket in body["results"]] == [iso(whole)]
    assert body["from"] == iso(cut + timedelta(seconds=5))


def test_an_owner_sees_their_own_only(client: Client, alice: User, bob: User) -> None:
    at = a_bucket(30)
    for owner_id in (alice.pk, alice.pk, None):
        ended(Status.CONFIRMED, at, owner_id=owner_id)

    def seen(**headers: str) -> int:
        found = client.get(PATH, headers=headers).json()["results"]
        return sum(bucket["confirmed"] for bucket in found)

    mine, theirs = (seen(Authorization=bearer(user)) for user in (alice, bob))
    assert (mine, theirs, seen()) == (2, 0, 1)
