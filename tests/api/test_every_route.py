"""Every route that the registry has venues for: taken, stored, listed, described.

tests/integration/test_third_venue.py asks the same with one venue more.
"""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.test import Client

from dex.types import Strategy
from dex.venues.registry import SIMULATED, VENUES, route_names
from orders import execution
from orders.models import Order, Swap
from tests.api.http import order_body, placed
from tests.api.test_openapi import conforms
from tests.asyncapi import heard

# A live venue is not traded on here.
ROUTES = [name for name in route_names() if SIMULATED.keys() >= set(name.split("+"))]
pytestmark = [pytest.mark.usefixtures("no_orders"), pytest.mark.parametrize("route", ROUTES)]
FILTERS = ("", "status=confirmed", "tokenIn=SOL", "tokenOut=USDC", "orderType=market", "limit=9")


@pytest.fixture
def taken(client: Client, exchange: Callable[..., Any], route: str) -> str:
    """The id of an order that is executed where nothing but this route is there to take."""
    venues = tuple(route.split("+"))
    exchange(venues=venues, strategy=Strategy.SPLIT)
    order_id = placed(client, order_body(amount="1.5" if len(venues) == 1 else "1000"))
    execution.execute_order(order_id)
    return order_id


def listed(client: Client, query: str) -> list[str]:
    page = conforms(client.get(f"/api/orders?{query}"), "get", "/api/orders")
    return [order["orderId"] for order in page["results"]]


def test_it_is_taken_and_stored(taken: str, route: str) -> None:
    order = Order.objects.get(id=taken)

    assert (order.status, order.venue, order.failure_message) == ("confirmed", route, "")
    assert Swap.objects.get(order=order).venue == route


def test_every_filter_lists_it(client: Client, taken: str, route: str) -> None:
    for query in (*FILTERS, f"venue={quote(route)}", f"venue={quote(route)}&status=confirmed"):
        assert listed(client, query) == [taken], query
    assert listed(client, "venue=split") == ([taken] if "+" in route else [])
    for other in set(route_names()) - {route}:
        assert listed(client, f"venue={quote(other)}") == []


def test_both_documents_describe_it(client: Client, taken: str, route: str) -> None:
    order = conforms(client.get(f"/api/orders/{taken}"), "get", "/api/orders/{orderId}")
    path = "/api/orders/{orderId}/events"
    events = conforms(client.get(f"/api/orders/{taken}/events"), "get", path)["results"]

    assert order["venue"] == route
    if "+" not in route:
        [quote] = [quote for quote in order["quotes"] if quote["venue"] == route]
        assert order["priceImpact"] == quote["priceImpact"]
    assert [heard(event)["data"].get("venue") for event in events][2:] == [route] * 3


def test_the_admin_finds_it(
    client: Client, make_user: Callable[..., User], taken: str, route: str
) -> None:
    client.force_login(make_user("operator", is_staff=True, is_superuser=True))

    def found(name: str) -> bool:
        return taken in client.get("/admin/orders/order/", {"venue__exact": name}).text

    assert found(route)
    assert found("split") is ("+" in route)
    assert not any(found(other) for other in VENUES if other != route)


def test_people_choose_among_its_venues(
    client: Client, make_user: Callable[..., User], route: str
) -> None:
    client.force_login(make_user("operator", is_staff=True, is_superuser=True))
    [_, setup] = client.get("/").text.split('<script id="setup" type="application/json">')
    choices = json.loads(setup.partition("</script>")[0])["venues"]
    admin = client.get("/admin/orders/order/").text

    assert {*route.split("+"), "split"} <= set(choices)
    assert all(f"?venue__exact={name}" in admin for name in choices)
