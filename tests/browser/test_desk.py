"""The order desk as a user has it, on real processes."""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import redis
from playwright.sync_api import Page, WebSocket, WebSocketRoute, expect

from dex.venues.registry import SIMULATED
from tests.browser import desk
from tests.browser.conftest import OpenPage
from tests.conftest import create_database
from tests.stacks import Running, answers, engine, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]


def test_place_an_order_and_see_six_steps(running: Running, open_page: OpenPage) -> None:
    page = open_page(running)
    desk.ready(page)
    expect(desk.swap_button(page)).to_have_text(re.compile(r"^Swap 1\.5 SOL for ≈ [\d.,]+ USDC$"))
    order_id = desk.place(page)
    desk.timeline_is(page, "confirmed")
    desk.has_steps(page, *desk.STEPS)
    stored = running.sql("SELECT tx_hash FROM orders_order WHERE id = %s", order_id)[0]["tx_hash"]
    expect(page.locator(".timeline .hash code")).to_have_attribute("title", stored)
    routing = page.locator(".timeline [data-step=routing]")
    expect(routing).to_contain_text(re.compile(r"[A-Z][a-z0-9_]+ by \d+ bps"))
    expect(routing.locator("tr[data-venue]")).to_have_count(len(SIMULATED))
    expect(page.locator(".timeline [data-step=result]")).to_contain_text("USDC received through")
    assert [frame["seq"] for frame in desk.raw_frames(page)] == [1, 2, 3, 4, 5]
    expect(desk.rows(page).first).to_have_attribute("data-order", order_id)
    expect(page.locator(".timeline [aria-live=polite]")).to_contain_text("confirmed")


def test_comparison_marks_the_better_venue_and_is_refreshed(
    running: Running, open_page: OpenPage
) -> None:
    page = open_page(running)
    desk.ready(page)
    comparison = page.locator(".comparison")
    best = comparison.locator("tr.chosen")
    expect(best).to_have_count(1)
    expect(best).to_contain_text("✓ chosen")
    others = comparison.locator("tr[data-venue]:not(.chosen)")
    expect(others).to_have_count(len(SIMULATED) - 1)
    expect(others.first).to_contain_text(re.compile(r"\d+ bps"))
    with page.expect_response("**/api/quotes", timeout=7000):  # without a hand
        pass
    expect(comparison).to_contain_text(re.compile(r"Quoted [01] s ago"))


def test_the_other_direction(running: Running, open_page: OpenPage) -> None:
    page = open_page(running)
    desk.ready(page)
    page.get_by_label("Swap direction").click()
    expect(desk.swap_button(page)).to_have_text(re.compile(r"^Swap \d+\.?\d* USDC for ≈ .* SOL$"))
    desk.place(page)
    desk.timeline_is(page, "confirmed")


def test_faults_stand_under_their_fields(
    running: Running, open_page: OpenPage, errors: list[str]
) -> None:
    page = open_page(running)
    desk.ready(page)
    amount = page.get_by_label("You pay", exact=True)
    amount.fill("1.5x")
    expect(page.locator("#amount-error")).to_have_text("Enter an amount, such as 1.5.")
    expect(amount).to_have_attribute("aria-invalid", "true")
    expect(desk.swap_button(page)).to_be_disabled()
    amount.fill("0.0000000001")
    expect(page.locator("#amount-error")).to_contain_text("SOL has 9 decimals, this has 10")
    amount.fill("99999999999999")  # only the server knows that this is too much
    expect(page.locator("#amount-error")).to_contain_text("99999999999999")
    page.get_by_label("custom").check()
    page.get_by_label("Slippage in per cent").fill("51")
    expect(page.locator("#slippage-error")).to_contain_text("up to 50")
    errors[:] = [error for error in errors if "/api/quotes" not in error]


# The most that the gauge has shown: "7 of 10".
WATCHED = """() => {
  const gauge = document.querySelector("[data-gauge='in execution'] strong");
  window.most = 0;
  setInterval(() => { window.most = Math.max(window.most, parseInt(gauge.textContent)); }, 20);
}"""


def test_ten_at_once_twice_and_never_more_than_ten_in_execution(
    running: Running, open_page: OpenPage
) -> None:
    page = open_page(running)
    desk.ready(page)
    ended = "SELECT count(*), count(completed_at) AS ended FROM orders_order"
    before = running.sql(ended)[0]["count"]
    page.evaluate(WATCHED)
    for _ in range(2):
        page.locator(".burst").click()
        expect(page.locator(".burst")).to_be_enabled()
    wait_until(lambda: running.sql(ended)[0]["ended"] >= before + 20, seconds=30)
    wait_until(lambda: page.evaluate("window.most") > 0)
    assert page.evaluate("window.most") <= 10
    assert running.sql(ended)[0]["count"] - before == 20
    confirmed = desk.rows(page).locator("[data-status=confirmed]")
    wait_until(lambda: confirmed.count() >= 20)  # what the database has is on its way to the page
    in_execution = """
        SELECT max(n) FROM (
            SELECT sum(step) OVER (ORDER BY at, step) AS n FROM (
                SELECT created_at AS at,
                    CASE WHEN status = 'routing' THEN 1
                         WHEN status IN ('confirmed', 'failed') THEN -1 END AS step
                FROM orders_orderevent WHERE status IN ('routing', 'confirmed', 'failed')) s) t
    """
    assert running.sql(in_execution)[0]["max"] <= 10


ANSWERS_AT_ONCE = """
window.WebSocket = class {
  static OPEN = 1;
  readyState = 1;
  constructor() { setTimeout(() => this.onmessage({ data: '{"type": "hello"}' })); }
  send(text) { if (text.includes("ping")) this.onmessage({ data: '{"type": "pong"}' }); }
};
"""


def test_a_connection_that_is_live_before_the_page_is_painted_is_shown(
    running: Running, open_page: OpenPage
) -> None:
    page = open_page(running)
    page.add_init_script(ANSWERS_AT_ONCE)
    page.reload()
    expect(page.locator(".connection")).to_have_attribute("data-state", "live")


@pytest.fixture
def slow(migrated: str) -> Iterator[Running]:
    """Orders are with the chain for 2 s."""
    with engine(create_database(migrated), DEX_SWAP_LATENCY_MS="2000") as found:
        yield found


def test_dropped_connection_resumes_without_gap(
    slow: Running, open_page: OpenPage, errors: list[str]
) -> None:
    """The web process is killed while an order is with the chain, and starts again."""
    page = open_page(slow)
    heard: list[list[int]] = []  # the seqs of each socket
    page.on("websocket", lambda socket: listen(socket, heard))
    page.reload()
    desk.ready(page)
    desk.place(page)
    desk.timeline_is(page, "submitted")
    web = slow.processes.pop("web")
    web.kill()
    web.wait()
    expect(page.locator(".connection")).to_have_attribute("data-state", "reconnecting")
    slow.wait_for_all()
    slow.start("web", [str(part) for part in web.args])
    wait_until(lambda: answers(f"{slow.url}/health/live"), seconds=30)
    expect(page.locator(".connection")).to_contain_text(
        "resumed, 1 update caught up", timeout=desk.QUICK
    )
    desk.timeline_is(page, "confirmed")
    assert [frame["seq"] for frame in desk.raw_frames(page)] == [1, 2, 3, 4, 5]
    before, after = [seqs for seqs in heard if seqs]
    assert set(before) == {1, 2, 3, 4}
    assert after == [5]  # what was missed, and nothing twice
    errors.clear()  # the browser tells of each request that the dead process did not answer


def test_events_lost_on_a_connection_that_stays_are_asked_for_at_a_heartbeat(
    running: Running, open_page: OpenPage
) -> None:
    """As while Redis is away: `scope: all` does not say what was rung meanwhile."""
    page = open_page(running)
    routes: list[WebSocketRoute] = []
    lost: list[dict[str, Any]] = []
    losing = [True]

    def lossy(route: WebSocketRoute) -> None:
        routes.append(route)
        server = route.connect_to_server()

        def pass_on(payload: str | bytes) -> None:
            frame = json.loads(payload)
            if losing and frame["type"] == "order.status" and frame["seq"] > 1:
                lost.append(frame)
            else:
                route.send(payload)

        server.on_message(pass_on)

    page.route_web_socket("**/api/orders/execute", lossy)
    page.reload()
    desk.ready(page)
    desk.place(page)
    wait_until_heard(page, lambda: [frame["status"] for frame in lost][-1:] == ["confirmed"])
    assert shown_status(page) != "confirmed"
    losing.clear()
    routes[-1].send(json.dumps({"type": "heartbeat"}))

    desk.timeline_is(page, "confirmed")
    assert [frame["seq"] for frame in desk.raw_frames(page)] == [1, 2, 3, 4, 5]


def shown_status(page: Page) -> str | None:
    return page.locator(".timeline header .status").get_attribute("data-status")


def wait_until_heard(page: Page, condition: Callable[[], bool]) -> None:
    """Playwright calls its handlers only while it waits."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)


def listen(socket: WebSocket, heard: list[list[int]]) -> None:
    seqs: list[int] = []
    heard.append(seqs)

    def note(payload: str | bytes) -> None:
        frame = json.loads(payload)
        if frame["type"] == "order.status":
            seqs.append(frame["seq"])

    socket.on("framereceived", note)


def test_api_away_is_said_and_mended(
    running: Running, open_page: OpenPage, errors: list[str]
) -> None:
    page = open_page(running)
    desk.ready(page)
    web = running.processes.pop("web")
    web.kill()
    web.wait()
    alert = page.locator("[data-alert=away]")
    expect(alert).to_contain_text("The engine does not answer", timeout=desk.QUICK)
    desk.swap_button(page).click()
    refused = page.locator("[data-refusal=UNREACHABLE]")
    expect(refused).to_contain_text("Press again: it is placed once in any case")
    running.start("web", [str(part) for part in web.args])
    expect(alert).to_have_count(0, timeout=30_000)
    desk.place(page)
    expect(refused).to_have_count(0)
    desk.timeline_is(page, "confirmed")
    errors.clear()


def test_filters_survive_a_reload(running: Running, open_page: OpenPage) -> None:
    for _ in range(2):
        running.place(tokenIn="BONK", amount="1000000")
    running.wait_for_all()
    page = open_page(running)
    page.get_by_label("Filter by pair").select_option("BONK-USDC")
    page.get_by_label("Filter by status").select_option("confirmed")
    expect(desk.rows(page)).to_have_count(2)
    assert "status=confirmed" in page.url
    assert "pair=BONK-USDC" in page.url
    page.reload()
    expect(desk.rows(page)).to_have_count(2)
    expect(page.get_by_label("Filter by pair")).to_have_value("BONK-USDC")
    page.get_by_label("Filter by status").select_option("expired")
    expect(page.locator(".orders .empty")).to_contain_text("No order matches")
    page.go_back()
    expect(desk.rows(page)).to_have_count(2)


def test_pages_and_newcomers(running: Running, open_page: OpenPage) -> None:
    order = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "0.1"}
    httpx.post(
        f"{running.url}/api/orders/batch", json={"orders": [order] * 60}, timeout=20
    ).raise_for_status()
    page = open_page(running)
    expect(desk.rows(page)).to_have_count(25)
    first = desk.rows(page).first.get_attribute("data-order") or ""
    page.get_by_role("button", name="Older").click()
    expect(desk.rows(page).first).not_to_have_attribute("data-order", first)
    assert "cursor=" in page.url
    page.get_by_role("button", name="Newer").click()
    expect(desk.rows(page).first).to_have_attribute("data-order", first)
    for _ in range(2):
        newest = running.place()
    fresh = page.locator(".fresh")
    expect(fresh).to_have_text("2 new")
    expect(desk.rows(page).first).to_have_attribute("data-order", first)
    fresh.click()
    expect(desk.rows(page).first).to_have_attribute("data-order", newest)
    expect(fresh).to_have_count(0)


def test_cancel_a_waiting_order(running: Running, open_page: OpenPage) -> None:
    order = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "0.2"}
    httpx.post(
        f"{running.url}/api/orders/batch", json={"orders": [order] * 100}, timeout=20
    ).raise_for_status()
    last = running.place()
    page = open_page(running, f"/?order={last}")
    page.locator(".timeline").get_by_role("button", name="Cancel order").click()
    desk.timeline_is(page, "cancelled")
    expect(page.locator(".timeline [data-step=result]")).to_contain_text("Nothing was swapped")


def test_one_order_by_its_address(running: Running, open_page: OpenPage) -> None:
    order_id = running.place()
    page = open_page(running, f"/orders/{order_id}")
    desk.timeline_is(page, "confirmed")
    desk.has_steps(page, *desk.STEPS)
    expect(page.locator(".ticket")).to_have_count(0)


def test_unknown_order(running: Running, open_page: OpenPage, errors: list[str]) -> None:
    page = open_page(running, "/orders/ord_1700000000000_aaaaaaaaaa")
    expect(page.locator(".timeline .error")).to_contain_text("no such order, or it is not yours")
    errors[:] = [error for error in errors if "ord_1700000000000" not in error]


def test_failure_shows_its_attempts_code_and_sentence(
    failing: Running, open_page: OpenPage, errors: list[str]
) -> None:
    page = open_page(failing)
    expect(page.locator(".comparison .error")).to_contain_text("No quote:")
    expect(desk.swap_button(page)).to_have_text("Swap 1.5 SOL for USDC")
    desk.place(page)
    desk.timeline_is(page, "failed")
    retries = page.locator(".timeline [data-step=pending]", has_text="again, for a retry")
    expect(retries).to_have_count(2)
    expect(retries.first).to_contain_text("QUOTE_UNAVAILABLE")
    expect(page.locator("[data-failure=QUOTE_UNAVAILABLE]")).to_have_text(
        re.compile(r"^QUOTE_UNAVAILABLE \w")
    )
    errors[:] = [error for error in errors if "/api/quotes" not in error]


def sign_in(page: Page, username: str) -> None:
    page.get_by_label("User name").fill(username)
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Sign in").click()


@pytest.fixture(scope="session")
def trader(guarded: Running) -> str:
    make = (
        "from django.contrib.auth.models import User;"
        "User.objects.create_user('trader', password='correct horse battery')"
    )
    assert guarded.manage("shell", "-c", make) == 0
    return "trader"


def test_sign_in_place_and_sign_out(
    guarded: Running, trader: str, open_page: OpenPage, errors: list[str]
) -> None:
    page = open_page(guarded)
    assert "/login" in page.url
    sign_in(page, trader)
    desk.ready(page)
    expect(page.locator(".user")).to_contain_text(trader)
    desk.place(page)
    desk.timeline_is(page, "confirmed")
    assert not errors
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(re.compile("/login"))
    page.goto(guarded.url)
    assert "/login" in page.url
    # What the page was asking for as it was left.
    errors[:] = [error for error in errors if "401 (Unauthorized)" not in error]


def test_too_many_requests_are_counted_down(
    guarded: Running, trader: str, open_page: OpenPage, errors: list[str]
) -> None:
    page = open_page(guarded)
    sign_in(page, trader)
    desk.ready(page)
    use_up(guarded, trader)
    desk.swap_button(page).click()
    expect(desk.swap_button(page)).to_have_text(re.compile(r"Too many orders: again in \d+ s"))
    expect(desk.swap_button(page)).to_be_disabled()
    expect(desk.swap_button(page)).to_be_enabled(timeout=desk.QUICK)
    errors.clear()  # 429, as asked for


def use_up(guarded: Running, username: str) -> None:
    """This user is refused for 3 s, and then has all requests again.

    A page that asks until it is refused leaves a gap, each second, for the one that is watched.
    """
    [user] = guarded.sql("SELECT id FROM auth_user WHERE username = %s", username)
    with redis.Redis.from_url(guarded.environment["REDIS_URL"]) as client:
        seconds, _ = client.time()
        client.set(f"limit:user.{user['id']}", (seconds + 63) * 1_000_000, px=3_000)
