"""The admin: operators look at orders, withdraw and hint them, and change nothing else."""

import csv
import io
import re
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.http import HttpResponse
from django.test import Client
from pytest_django import Settings
from structlog.testing import capture_logs

from dex.venues.registry import SIMULATED
from orderengine import logs
from orders import database, execution, lifecycle, placement, queries, trading
from orders.admin import OrderAdmin, actions, paging
from orders.models import Order, Status
from tests import factories
from tests.api.http import problem

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


def test_the_orders_of_a_user_are_found_by_his_name(
    operator: Client, make_user: Callable[..., User]
) -> None:
    hers = factories.place(owner_id=make_user("alice").pk)
    factories.place()

    assert listed(operator, q="alice") == {hers}
    assert listed(operator, q="alic") == set()
    act(operator, "cancel", hers, across=True, query="?q=alice")
    assert factories.load(hers).status == Status.CANCELLED


def test_a_user_who_has_placed_orders_is_not_deleted(
    operator: Client, make_user: Callable[..., User]
) -> None:
    alice, bob = make_user("alice"), make_user("bob")
    factories.place(owner_id=alice.pk)

    assert operator.get(f"/admin/auth/user/{alice.pk}/delete/").status_code == 403
    page = operator.get(f"/admin/auth/user/{bob.pk}/delete/")
    form = {"post": "yes", "csrfmiddlewaretoken": str(page.context["csrf_token"])}
    assert operator.post(f"/admin/auth/user/{bob.pk}/delete/", form).status_code == 302
    assert "delete_selected" not in operator.get("/admin/auth/user/").text
    assert set(User.objects.values_list("username", flat=True)) == {"operator", "alice"}


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
    [building] = [step for step in response.context["steps"] if step.event.status == "building"]
    assert [quote["venue"] for quote in building.quotes] == list(SIMULATED)
    chosen = [quote["venue"] for quote in building.quotes if quote["chosen"]]
    assert "+".join(chosen) == executed.venue
    assert building.event.data["reason"]["text"] in response.text
    assert [bool(step.took) for step in response.context["steps"]] == [True] * 4 + [False]


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


def test_the_failure_of_an_order_is_said(operator: Client) -> None:
    order = factories.order_in(Status.ROUTING)
    retry = {"error": {"code": "QUOTE_UNAVAILABLE", "message": "no venue answered"}}
    lifecycle.advance(order, Status.PENDING, data=retry, retry_in=0)
    claimed = factories.claim(order.id)
    assert claimed is not None
    lifecycle.advance(claimed, Status.FAILED, **lifecycle.failure("NO_ROUTE", "no venue trades it"))

    page = operator.get(f"{LIST}{quote(order.id)}/change/").text

    for said in ("QUOTE_UNAVAILABLE", "no venue answered", "NO_ROUTE", "no venue trades it"):
        assert said in page
    assert page.count("attempt 2") == 3


def test_an_order_whose_events_were_dropped_has_a_page(operator: Client) -> None:
    order = factories.order_in(Status.CONFIRMED)
    order.events.all().delete()

    assert "Its events were dropped" in operator.get(f"{LIST}{quote(order.id)}/change/").text


def test_a_venue_that_refused_is_named_once(operator: Client) -> None:
    order = factories.order_in(Status.ROUTING)
    error = {"code": "INSUFFICIENT_LIQUIDITY", "detail": "meteora: the pool cannot take all of it"}
    data = {"quotes": [{"venue": "meteora", "error": error}]}
    lifecycle.advance(order, Status.BUILDING, data=data)

    page = operator.get(f"{LIST}{quote(order.id)}/change/").text

    assert "<b>INSUFFICIENT_LIQUIDITY</b> the pool cannot take all of it</td>" in page


# Pages ------------------------------------------------------------------------------------------


def shown(operator: Client, path: str) -> list[str]:
    response = operator.get(path)
    assert response.status_code == 200, path
    return [order.id for order in response.context["cl"].result_list]


@pytest.fixture
def two_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OrderAdmin, "list_per_page", 2)


def test_pages_lead_on_and_back(operator: Client, two_a_page: None) -> None:
    ids = sorted((factories.place() for _ in range(5)), reverse=True)

    def links(path: str) -> tuple[str | None, str | None]:
        page = operator.get(path).context["cl"]
        return page.newer, page.older

    assert shown(operator, LIST) == ids[:2]
    newer, older = links(LIST)
    assert newer is None
    assert shown(operator, LIST + str(older)) == ids[2:4]
    newer, oldest = links(LIST + str(older))
    assert shown(operator, LIST + str(newer)) == ids[:2]
    assert shown(operator, LIST + str(oldest)) == ids[4:]
    newer, older = links(LIST + str(oldest))
    assert older is None
    assert shown(operator, LIST + str(newer)) == ids[2:4]


def test_a_page_looks_no_further_than_its_window_and_says_so(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "WINDOW", 3)
    ids = sorted((factories.order_in(Status.CONFIRMED).id for _ in range(7)), reverse=True)
    Order.objects.filter(id__in=(ids[1], ids[6])).update(venue="raydium")

    first = operator.get(f"{LIST}?venue__exact=raydium")
    page = first.context["cl"]

    assert [order.id for order in page.result_list] == [ids[1]]
    assert page.looked_back_to.id == ids[2]
    assert "Look further back" in first.text
    assert shown(operator, LIST + page.older) == []
    page = operator.get(LIST + page.older).context["cl"]
    assert shown(operator, LIST + page.older) == [ids[6]]
    assert operator.get(LIST + page.older).context["cl"].older is None


def test_what_an_index_has_in_order_needs_no_window(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "WINDOW", 1)
    failed = factories.order_in(Status.FAILED).id
    for _ in range(3):
        factories.order_in(Status.CONFIRMED)

    page = operator.get(f"{LIST}?status__exact=failed").context["cl"]

    assert [order.id for order in page.result_list] == [failed]
    assert page.older is None


@pytest.mark.parametrize("query", ["before=x", "after=ord_1", "o=1", "p=99", "all=", "created=x"])
def test_a_wrong_address_shows_the_first_page(operator: Client, query: str) -> None:
    ids = sorted((factories.place() for _ in range(3)), reverse=True)

    assert shown(operator, f"{LIST}?{query}") == ids


def test_orders_of_a_time_are_found(operator: Client) -> None:
    old, new = factories.place(), factories.place()
    stamp = f"ord_{int(time.time() - 7200) * 1000}_aaaaaaaaaa"
    database.rows("DELETE FROM orders_orderevent WHERE order_id = %(id)s RETURNING 1", {"id": old})
    Order.objects.filter(id=old).update(id=stamp)

    assert listed(operator, created="hour") == {new}
    assert listed(operator, created="day") == {new, stamp}


@pytest.mark.parametrize(
    "query",
    ["", "?status__exact=confirmed", "?status__exact=failed", "?venue__exact=raydium", "?q=mine:1"],
)
def test_nothing_is_counted(
    operator: Client, asked: list[str], two_a_page: None, query: str
) -> None:
    for n in range(4):
        factories.place(client_order_id=f"mine:{n}")
        factories.order_in(Status.FAILED)
    asked.clear()

    response = operator.get(LIST + query)
    selected = [order.id for order in response.context["cl"].result_list]
    act(operator, "cancel", *selected, across=True, query=query)

    read = [sql.lower() for sql in asked if sql.startswith("SELECT")]
    assert read
    assert [sql for sql in read if "count(" in sql] == []


def test_an_id_of_a_client_is_found_whoever_owns_the_order(
    operator: Client, alice: User, bob: User
) -> None:
    for owner_id in (alice.pk, bob.pk, None):
        factories.place(client_order_id="mine:1", owner_id=owner_id)

    assert len(queries.ids_called("mine:1")) == 3


# Actions ----------------------------------------------------------------------------------------


def act(
    operator: Client, action: str, *ids: str, across: bool = False, query: str = ""
) -> HttpResponse:
    """As the form of the list posts it."""
    token = operator.get(LIST).context["csrf_token"]
    body = {
        "action": action,
        "index": "0",
        "select_across": "1" if across else "0",
        "_selected_action": list(ids),
        "csrfmiddlewaretoken": str(token),
    }
    return operator.post(LIST + query, body)


def told(operator: Client) -> list[str]:
    return [str(message) for message in operator.get(LIST).context["messages"]]


def test_waiting_orders_are_cancelled_and_the_others_counted(operator: Client) -> None:
    waiting = [factories.place() for _ in range(2)]
    running = factories.order_in(Status.ROUTING).id

    act(operator, "cancel", *waiting, running)

    assert told(operator) == ["2 orders cancelled; 1 order had already left pending."]
    assert {factories.load(order_id).status for order_id in waiting} == {Status.CANCELLED}
    assert factories.load(running).status == Status.ROUTING
    assert LogEntry.objects.filter(object_id__in=waiting).count() == 2
    assert [event.data for event in queries.events_after(waiting[0], None, 1)] == [
        {"by": "operator"}
    ]


def test_what_was_cancelled_before_postgresql_was_lost_is_told_and_kept(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = [factories.place() for _ in range(4)]
    withdraw, done, asked = placement.withdraw, [], count(1)

    def lost(order: Order, *, by: str) -> None:
        if next(asked) == 3:  # the last one is not asked for
            raise psycopg.OperationalError("terminating connection")
        withdraw(order, by=by)
        done.append(order.id)

    monkeypatch.setattr(placement, "withdraw", lost)
    with capture_logs() as lines:
        act(operator, "cancel", *waiting)

    assert told(operator) == [
        "2 orders cancelled; then PostgreSQL gave no answer: whether one more was is not known."
    ]
    assert LogEntry.objects.filter(object_id__in=done).count() == 2
    said = [(line["order_id"], line["by"]) for line in lines if line["event"] == "order.withdrawn"]
    assert said == [(order_id, "operator") for order_id in done]


def test_of_all_that_match_those_that_wait_are_cancelled(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "MOST_CANCELLED", 2)
    factories.order_in(Status.CONFIRMED)
    waiting = [factories.place() for _ in range(3)]

    act(operator, "cancel", waiting[0], across=True)

    assert told(operator) == [
        "2 orders cancelled; more are waiting: do it again for the next ones."
    ]
    act(operator, "cancel", waiting[0], across=True)
    assert not Order.objects.filter(status=Status.PENDING).exists()


def test_orders_are_hinted_again(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    hinted: list[str] = []
    monkeypatch.setattr("orders.hints.send_soon", lambda order_ids: None)
    monkeypatch.setattr("orders.hints.send", lambda order_id: hinted.append(order_id) or True)
    waiting, ended = factories.place(), factories.order_in(Status.CONFIRMED).id

    act(operator, "hint", waiting, ended)

    assert hinted == [waiting]
    assert told(operator) == ["1 order hinted; 1 order had ended before."]


def test_a_redis_that_is_away_is_said(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orders.hints.send", lambda order_id: False)

    act(operator, "hint", factories.place(), factories.place())

    [said] = told(operator)
    assert said.startswith("0 orders hinted; Redis takes no more")


async def exported(operator: Client, *ids: str, **options: Any) -> list[dict[str, str]]:
    response = await sync_to_async(act)(operator, "export", *ids, **options)
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(response.content.decode())))


@pytest.mark.asyncio
async def test_orders_are_exported(operator: Client) -> None:
    order_id = await sync_to_async(factories.place)(client_order_id="-1+cmd")
    await sync_to_async(execution.execute_order)(order_id)

    [row] = await exported(operator, order_id)

    assert (row["orderId"], row["status"], row["amount"]) == (order_id, "confirmed", "1.5")
    assert row["clientOrderId"] == "'-1+cmd"
    assert float(row["executedPrice"]) > 0


@pytest.mark.asyncio
async def test_all_that_match_are_exported_window_by_window(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "WINDOW", 2)
    ids = [await sync_to_async(factories.place)() for _ in range(5)]
    failed = (await sync_to_async(factories.order_in)(Status.FAILED)).id

    found = await exported(operator, failed, across=True, query="?status__exact=pending")
    assert {row["orderId"] for row in found} == set(ids)

    monkeypatch.setattr(actions, "MOST_EXPORTED", 3)
    found = await exported(operator, failed, across=True)
    assert [row["orderId"] for row in found] == sorted([*ids, failed], reverse=True)[:3]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"), ("+1", "'+1"), ("@x", "'@x"), ("-x", "'-x"), ("\tx", "'\tx"),
        ("-0.01", "-0.01"), (None, ""), ("plain", "plain"),
    ],
)  # fmt: skip
def test_no_cell_is_a_formula(value: str | None, cell: str) -> None:
    assert actions.safe(value) == cell


# Who may ----------------------------------------------------------------------------------------


@pytest.fixture
def onlooker(client: Client, make_user: Callable[..., User]) -> Client:
    """May view, and nothing else."""
    user = make_user("onlooker", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_order", "view_halt"]))
    client.force_login(user)
    return client


def test_an_onlooker_does_nothing(onlooker: Client) -> None:
    order_id = factories.place()

    page = onlooker.get(LIST)
    act(onlooker, "cancel", order_id)

    assert page.status_code == 200
    assert set(dict(page.context["action_form"].fields["action"].choices)) == {"", "export"}
    assert factories.load(order_id).status == Status.PENDING
    assert "Halt trading" not in page.text
    for path in (HALT, RESUME):
        token = str(onlooker.get(LIST).context["csrf_token"])
        assert onlooker.post(path, {"csrfmiddlewaretoken": token}).status_code == 403
    assert trading.current() is None


def test_an_action_needs_the_csrf_token(operator: Client) -> None:
    order_id = factories.place()
    body = {"action": "cancel", "index": "0", "_selected_action": [order_id]}

    assert operator.post(LIST, body).status_code == 403
    assert operator.post(HALT, {}).status_code == 403
    assert factories.load(order_id).status == Status.PENDING
    assert trading.current() is None


# Halting ----------------------------------------------------------------------------------------

HALT, RESUME, HALTS = (f"/admin/orders/halt/{name}" for name in ("now/", "resume/", ""))


def press(operator: Client, path: str, **body: str) -> HttpResponse:
    token = str(operator.get(LIST).context["csrf_token"])
    return operator.post(path, {"csrfmiddlewaretoken": token, **body})


def test_an_operator_halts_and_resumes_trading(operator: Client) -> None:
    assert "Trading is open" in operator.get(LIST).text

    answer = press(operator, HALT, reason="<b>a drill</b>", page="order")

    assert (answer.status_code, answer["Location"]) == (302, LIST)
    halt = trading.current()
    assert halt is not None
    assert (halt.halted_by, halt.reason) == ("operator", "<b>a drill</b>")
    for page in (LIST, HALTS):
        text = operator.get(page).text
        assert "Trading is halted" in text
        assert "by operator: &lt;b&gt;a drill&lt;/b&gt;" in text

    answer = press(operator, RESUME, page="halt")

    assert answer["Location"] == HALTS
    assert trading.current() is None
    history = operator.get(HALTS)
    assert [h.resumed_by for h in history.context["cl"].result_list] == ["operator"]


def test_what_is_so_already_is_said(operator: Client) -> None:
    press(operator, RESUME)
    assert told(operator) == ["Trading was not halted."]
    press(operator, HALT)
    press(operator, HALT)
    assert told(operator) == ["Trading was halted already."]


def test_a_reason_is_one_printable_line(operator: Client) -> None:
    press(operator, HALT, reason=" a\x00 drill,\r\n over " + "x" * 300)

    halt = trading.current()
    assert halt is not None
    assert halt.reason.startswith("a drill, over xxx")
    assert len(halt.reason) == trading.LONGEST_REASON


def test_a_halt_is_a_post(operator: Client) -> None:
    assert operator.get(HALT).status_code == operator.get(RESUME).status_code == 405
    assert trading.current() is None


def test_a_halt_that_cannot_be_stored_is_said(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: str) -> None:
        raise psycopg.OperationalError("timeout")

    monkeypatch.setattr(trading, "halt", away)

    press(operator, HALT)

    assert told(operator)[0].startswith("PostgreSQL did not answer in time")


@pytest.mark.parametrize(
    ("development", "url", "seen"),
    [(True, "http://127.0.0.1:5555/", True), (True, "", False), (False, "http://f/", False)],
)
def test_flower_is_linked_in_development(
    operator: Client, settings: Settings, development: bool, url: str, seen: bool
) -> None:
    settings.DEVELOPMENT, settings.FLOWER_URL = development, url

    assert ("Flower</a>" in operator.get("/admin/").text) is seen


def test_no_page_has_anything_inline(operator: Client, executed: Order) -> None:
    trading.halt("alice")
    for path in ("/admin/", LIST, HALTS, f"{LIST}{quote(executed.id)}/change/"):
        page = operator.get(path).text
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)[^>]*>", page), path


@pytest.mark.parametrize("name", ["status__exact", "venue__exact", "failure_code__exact", "q"])
def test_a_filter_with_a_nul_is_refused_as_a_wrong_one(operator: Client, name: str) -> None:
    answer = operator.get(f"/admin/orders/order/?{name}=%00")

    assert (answer.status_code, answer["Location"]) == (302, "/admin/orders/order/?e=1")


@pytest.mark.parametrize(
    "address",
    [
        *("order/?id__regex=(((", "order/?created_at__year=0", "order/?fee__range=1"),
        *("order/?created_at__year=99999999999", "order/?price_impact__gt=1e9999999999"),
        *("apikey/?label__regex=(((", "apikey/?label=%00", "halt/?reason=%00"),
    ],
)
def test_a_filter_that_means_nothing_is_refused_as_a_wrong_one(
    operator: Client, address: str
) -> None:
    answer = operator.get(f"/admin/orders/{address}")

    assert (answer.status_code, answer["Location"]) == (
        302, f"/admin/orders/{address.partition('?')[0]}?e=1",
    )  # fmt: skip


@pytest.mark.parametrize("path", ["orders/order/%00/change/", "auth/group/?name=%00"])
def test_what_no_row_can_have_is_refused_and_no_fault(
    operator: Client, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    operator.raise_request_exception = False
    caplog.handler.addFilter(logs.Bugs())

    answer = operator.get(f"/admin/{path}")

    problem(answer, 400, "VALIDATION")
    assert not caplog.records


def test_an_order_is_found_by_its_address_as_it_is(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django's links escape the underscore; what somebody pastes does not."""
    monkeypatch.setattr(placement, "new_suffixes", lambda count: ["24zffvr1f2"] * count)
    order = factories.place()
    assert order.endswith("_24zffvr1f2")

    for address in (order, quote(order)):
        page = operator.get(f"{LIST}{address}/change/")
        assert page.status_code == 200
        assert page.context["original"].id == order


def test_an_order_s_page_leads_to_the_desk_and_to_what_can_be_done(operator: Client) -> None:
    waiting = factories.place()
    page = operator.get(f"{LIST}{waiting}/change/").text
    assert f'href="/orders/{waiting}"' in page
    assert re.findall(r'name="action" value="(\w+)"', page) == ["cancel", "hint"]
    form = page[page.index('class="order-deeds"') : page.index('value="cancel"')]

    operator.post(
        LIST, {"action": "cancel", **dict(re.findall(r'name="(\w+)" value="(\w+)"', form))}
    )

    assert factories.load(waiting).status == Status.CANCELLED
    page = operator.get(f"{LIST}{waiting}/change/").text
    assert f'href="/orders/{waiting}"' in page
    assert 'name="action"' not in page
