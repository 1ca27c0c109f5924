"""The admin: operators look at orders, and change nothing."""

from collections.abc import Callable

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.test import Client

from orders import execution
from orders.models import Order, Status
from tests import factories

pytestmark = pytest.mark.usefixtures("no_orders")

LIST = "/admin/orders/order/"
NO_BREAK_SPACE = "\xa0"


@pytest.fixture
def operator(client: Client, make_user: Callable[..., User]) -> Client:
    client.force_login(make_user("operator", is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def executed() -> Order:
    order_id = factories.place(client_order_id="mine:1")
    execution.execute_order(order_id)
    return factories.load(order_id)


def listed(operator: Client, **query: str) -> set[str]:
    response = operator.get(LIST, query)
    assert response.status_code == 200, response.content
    return {order.id for order in response.context["cl"].result_list}


def test_without_a_sign_in_there_is_a_sign_in(client: Client) -> None:
    response = client.get(LIST)

    assert (response.status_code, response["Location"]) == (302, f"/admin/login/?next={LIST}")


def test_the_list_shows_every_order(operator: Client, executed: Order) -> None:
    waiting = factories.place()

    assert listed(operator) == {executed.id, waiting}
    assert "1.5 SOL → USDC" in operator.get(LIST).text.replace(NO_BREAK_SPACE, " ")


def test_an_order_is_found_by_its_ids_and_its_hash(operator: Client, executed: Order) -> None:
    other = factories.place(client_order_id="mine:2")

    assert listed(operator, q=executed.id) == {executed.id}
    assert listed(operator, q="mine:2") == {other}
    assert listed(operator, q=executed.tx_hash) == {executed.id}
    assert listed(operator, q="mine") == set()


def test_orders_are_filtered(operator: Client, executed: Order) -> None:
    waiting = factories.place()
    failed = factories.order_in(Status.FAILED).id

    assert listed(operator, status__exact="pending") == {waiting}
    assert listed(operator, status__exact="failed") == {failed}
    assert listed(operator, venue__exact=executed.venue) == {executed.id}


def test_an_order_is_shown_with_its_events(operator: Client, executed: Order) -> None:
    response = operator.get(f"{LIST}{quote(executed.id)}/change/")

    assert response.status_code == 200
    for event in executed.events.all():
        assert event.status in response.text
    assert executed.tx_hash in response.text
    assert response.text.count("<div><b>quote</b>") == 2
    assert "confirmed" in response.text


@pytest.mark.parametrize("status", list(Status))
def test_an_order_in_any_state_is_shown(operator: Client, status: Status) -> None:
    order = factories.order_in(status)

    response = operator.get(f"{LIST}{quote(order.id)}/change/")

    assert response.status_code == 200
    assert order.id in response.text


def test_what_a_client_wrote_is_escaped(operator: Client) -> None:
    order_id = factories.place()
    Order.objects.filter(id=order_id).update(failure_message="<script>alert(1)</script>")
    events = factories.load(order_id).events
    events.update(data={"<script>": "<script>alert(2)</script>"})

    page = operator.get(f"{LIST}{quote(order_id)}/change/").text

    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(2)" in page


def test_nothing_is_added_changed_or_deleted(operator: Client, executed: Order) -> None:

    operator.handler.enforce_csrf_checks = False
    before = Order.objects.filter(id=executed.id).values().get()
    detail = f"{LIST}{quote(executed.id)}/"

    assert operator.get(f"{LIST}add/").status_code == 403
    assert operator.post(f"{LIST}add/", {}).status_code == 403
    assert operator.post(f"{detail}change/", {"venue": "raydium"}).status_code == 403
    assert operator.get(f"{detail}delete/").status_code == 403
    assert operator.post(f"{detail}delete/", {"post": "yes"}).status_code == 403
    bulk = {"action": "delete_selected", "_selected_action": [executed.id], "post": "yes"}
    operator.post(LIST, bulk)

    assert Order.objects.filter(id=executed.id).values().get() == before
    page = operator.get(f"{detail}change/").text
    assert 'name="_save"' not in page


def test_a_long_list_does_not_count_queries_by_the_order(
    operator: Client, django_assert_max_num_queries: object
) -> None:
    for _ in range(12):
        factories.place()

    with django_assert_max_num_queries(10):  # type: ignore[operator]
        operator.get(LIST)
