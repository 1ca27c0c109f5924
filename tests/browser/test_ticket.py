"""The ticket and the list, by somebody in a hurry and by somebody without a mouse."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser import desk
from tests.browser.conftest import PASSWORD, OpenPage
from tests.stacks import Running

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]

PLACED = "SELECT count(*) FROM orders_order"


def placed(running: Running) -> int:
    return int(running.sql(PLACED)[0]["count"])


@pytest.mark.parametrize("apart_ms", [0, 150])
def test_a_double_click_places_one_order(
    running: Running, open_page: OpenPage, apart_ms: int
) -> None:
    page = open_page(running)
    desk.ready(page)
    before = placed(running)
    desk.swap_button(page).hover()
    page.mouse.down()
    page.mouse.up()
    page.wait_for_timeout(apart_ms)
    page.mouse.down()
    page.mouse.up()
    expect(desk.swap_button(page)).to_be_enabled()
    desk.timeline_is(page, "confirmed")
    assert placed(running) - before == 1
    desk.place(page)  # and then another
    assert placed(running) - before == 2


def test_a_key_that_is_held_places_one_order(running: Running, open_page: OpenPage) -> None:
    page = open_page(running)
    desk.ready(page)
    before = placed(running)
    page.get_by_label("You pay", exact=True).focus()
    for _ in range(30):
        page.keyboard.down("Enter")
        page.wait_for_timeout(33)
    page.keyboard.up("Enter")
    desk.timeline_is(page, "confirmed")
    assert placed(running) - before == 1


def test_the_button_says_what_is_swapped(running: Running, open_page: OpenPage) -> None:
    page = open_page(running)
    desk.ready(page)
    said = {
        "1,500": "1,500",
        "1 500.25": "1,500.25",
        "1\u202f500": "1,500",
        "1'234.5": "1,234.5",
        "000001": "1",
        ".5": "0.5",
        "1.123456789": "1.123456789",
    }
    for typed, shown in said.items():
        page.get_by_label("You pay", exact=True).fill(typed)
        expect(desk.swap_button(page)).to_have_text(
            re.compile(rf"^Swap {re.escape(shown)} SOL for ≈ [\d.,]+ USDC$")
        )
    order_id = desk.place(page)
    (row,) = running.sql("SELECT amount_in FROM orders_order WHERE id = %s", order_id)
    assert row["amount_in"] == 1_123_456_789
    expect(page.locator(".timeline h2")).to_have_text("1.123456789 SOL → USDC")


def test_what_could_be_read_in_two_ways_is_refused(running: Running, open_page: OpenPage) -> None:
    page = open_page(running)
    desk.ready(page)
    for typed in ["1.234,567", ",500", "1.5,000", "1,5", "1,50,000", "1 500,5"]:
        page.get_by_label("You pay", exact=True).fill("2")
        expect(page.locator("#amount-error")).to_be_empty()
        page.get_by_label("You pay", exact=True).fill(typed)
        expect(page.locator("#amount-error")).to_have_text("Enter an amount, such as 1.5.")
        expect(desk.swap_button(page)).to_be_disabled()


def test_what_the_server_refuses_cannot_be_pressed(
    running: Running, open_page: OpenPage, errors: list[str]
) -> None:
    page = open_page(running)
    desk.ready(page)
    page.get_by_label("You pay", exact=True).fill("9" * 40)
    expect(page.locator("#amount-error")).to_contain_text("9" * 40)
    expect(desk.swap_button(page)).to_be_disabled()
    assert desk.overflow(page) <= 0
    errors[:] = [error for error in errors if "/api/quotes" not in error]


def test_a_venue_that_takes_a_part_only_says_why(running: Running, open_page: OpenPage) -> None:
    """As with `clmm` and `dlmm` pools, of which none takes all of a large order."""
    page = open_page(running)
    desk.ready(page)

    def beyond_each(route: Route) -> None:
        quoted = route.fetch().json()
        for quote in quoted["quotes"]:
            detail = f"{quote['venue']}: the pool cannot take all of it"
            quote["error"] = {"code": "INSUFFICIENT_LIQUIDITY", "detail": detail}
            del quote["amountOut"]
        route.fulfill(json=quoted)

    page.route("**/api/quotes", beyond_each)
    page.get_by_label("You pay", exact=True).fill("5000")  # divided by the pools there are, too
    for venue in ("raydium", "meteora"):
        row = page.locator(f'.ticket tr[data-venue="{venue}"]')
        expect(row.locator(".error")).to_have_text("the pool cannot take all of it")
        expect(row.locator(".tag")).to_have_text("✓ part")
    expect(page.locator(".ticket")).to_contain_text("So much at once moves the price by")


def test_who_presses_keeps_the_focus(running: Running, open_page: OpenPage) -> None:
    page = open_page(running)
    desk.ready(page)
    desk.swap_button(page).focus()
    page.keyboard.press("Enter")
    desk.timeline_is(page, "confirmed")
    assert has_focus(page, ".ticket .primary")
    page.get_by_label("Close this order").press("Enter")
    assert has_focus(page, ".list tbody tr:first-child a")
    running.place_batch(80)
    last = running.place()
    page.goto(f"{running.url}/?order={last}")
    page.locator(".timeline").get_by_role("button", name="Cancel order").press("Enter")
    desk.timeline_is(page, "cancelled")
    assert has_focus(page, ".timeline a")


def has_focus(page: Page, selector: str) -> bool:
    return bool(
        page.evaluate("s => document.activeElement === document.querySelector(s)", selector)
    )


def test_the_title_and_what_is_read_out(running: Running, open_page: OpenPage) -> None:
    order_id = running.place()
    page = open_page(running, f"/orders/{order_id}")
    expect(page).to_have_title("1.5 SOL → USDC confirmed · Order desk")
    page = open_page(running)
    expect(page).to_have_title("Order desk")
    expect(page.locator("#receive")).to_have_attribute("aria-live", "off")  # it ticks
    expect(page.locator(".connection")).to_have_attribute("role", "status")
    expect(page.locator("#amount-error")).to_have_attribute("aria-live", "polite")


def test_own_orders_do_not_make_the_page_longer(running: Running, open_page: OpenPage) -> None:
    running.place_batch(30)
    page = open_page(running)
    desk.ready(page)
    expect(desk.rows(page)).to_have_count(25)
    with page.expect_response("**/api/orders?*"):
        order_id = desk.place(page)
    expect(desk.rows(page).first).to_have_attribute("data-order", order_id)
    expect(desk.rows(page)).to_have_count(25)
    shown = {row.get_attribute("data-order") for row in desk.rows(page).all()}
    with page.expect_response("**/api/orders?*"):
        page.get_by_role("button", name="Older").click()
    expect(desk.rows(page).first).not_to_have_attribute("data-order", order_id)
    newest = running.sql("SELECT id FROM orders_order ORDER BY id DESC LIMIT 26")
    assert {row["id"] for row in newest[:25]} == shown
    expect(desk.rows(page).first).to_have_attribute("data-order", newest[25]["id"])


def test_a_filter_that_is_not_offered_is_none(running: Running, open_page: OpenPage) -> None:
    running.place()
    page = open_page(running, "/?status=bogus&pair=SOL-SOL&venue=uniswap&since=99y")
    expect(desk.rows(page).first).to_be_visible()
    expect(page.get_by_role("button", name="Clear")).to_have_count(0)


def test_a_second_turn_takes_the_first_back(running: Running, open_page: OpenPage) -> None:
    page = open_page(running)
    desk.ready(page)
    amount = page.get_by_label("You pay", exact=True)
    page.get_by_label("Swap direction").click()
    expect(amount).not_to_have_value("1.5")
    page.get_by_label("Swap direction").click()
    expect(amount).to_have_value("1.5")
    expect(desk.swap_button(page)).to_contain_text("Swap 1.5 SOL")


@pytest.mark.parametrize("width", [320, 768, 1440])
def test_large_amounts_stay_in_their_cards(
    running: Running, open_page: OpenPage, width: int
) -> None:
    """And so much at once is warned of."""
    page = open_page(running)
    page.set_viewport_size({"width": width, "height": 900})
    desk.ready(page)
    page.get_by_label("You receive (estimate): token").select_option("BONK")
    page.get_by_label("You pay", exact=True).fill("5000")
    expect(page.locator(".comparison .changed")).to_contain_text("moves the price by")
    desk.place(page)
    desk.timeline_is(page, "confirmed")
    assert desk.overflow(page) <= 0
    assert desk.outside(page) == []


def test_a_sign_in_in_another_tab_is_said(
    running: Running, operator: str, open_page: OpenPage, errors: list[str]
) -> None:
    page = open_page(running)
    desk.ready(page)
    other = open_page(running, "/login")
    other.get_by_label("User name").fill(operator)
    other.get_by_label("Password").fill(PASSWORD)
    other.get_by_role("button", name="Sign in").click()
    expect(other.locator(".empty")).to_contain_text(f"{operator} has no orders yet")
    desk.swap_button(page).click()
    expect(page.locator("[data-refusal]")).to_contain_text("reload this page")
    errors[:] = [error for error in errors if "403" not in error]


def test_an_alert_leaves_no_hole_and_breaks_no_page(running: Running, open_page: OpenPage) -> None:
    page = open_page(running)
    desk.ready(page)
    gauges = page.locator(".gauges")
    assert running.manage("trading", "halt", "--reason", "https://" + "x" * 150) == 0
    try:
        expect(page.locator("[data-alert=halted]")).to_be_visible()
        above, below = gauges.bounding_box(), page.locator(".timeline").bounding_box()
        assert above is not None
        assert below is not None
        assert below["y"] - (above["y"] + above["height"]) < 30
        page.set_viewport_size({"width": 375, "height": 900})
        assert desk.overflow(page) <= 0
    finally:
        assert running.manage("trading", "resume") == 0
