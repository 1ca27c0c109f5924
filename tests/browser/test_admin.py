"""What an operator does in the admin, and what the desk shows of it."""

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import desk
from tests.browser.conftest import PASSWORD, WIDE, OpenPage
from tests.stacks import ORDER, Running

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]


def sign_in(page: Page, username: str) -> None:
    page.locator("#id_username").fill(username)
    page.locator("#id_password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def test_list_and_timeline(running: Running, operator: str, open_page: OpenPage) -> None:
    order_id = running.place()
    running.wait_for_all()
    page = open_page(running, "/admin/orders/order/")
    sign_in(page, operator)
    row = page.locator("#result_list tbody tr", has_text=order_id)
    expect(row).to_contain_text("✓ confirmed")
    page.locator("#searchbar").fill(order_id)
    page.locator("#searchbar").press("Enter")
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    page.get_by_role("link", name=order_id).click()
    timeline = page.locator(".order-timeline")
    for status in ("pending", "routing", "building", "submitted", "confirmed"):
        expect(timeline).to_contain_text(status)
    expect(timeline.locator("table")).to_contain_text("✓")


def test_halt_and_resume(
    running: Running, operator: str, open_page: OpenPage, browser: Browser
) -> None:
    trader = browser.new_context(viewport=WIDE).new_page()
    trader.goto(running.url)
    desk.ready(trader)
    page = open_page(running, "/admin/orders/order/")
    sign_in(page, operator)
    page.locator("input[name=reason]").fill("Raydium's prices are wrong")
    page.get_by_role("button", name="Halt trading").click()
    expect(page.locator("#content")).to_contain_text("halted")
    expect(page.locator("#content")).to_contain_text(operator)
    alert = trader.locator("[data-alert=halted]")
    expect(alert).to_contain_text("Raydium's prices are wrong")
    expect(desk.swap_button(trader)).to_have_text("Trading is halted")
    expect(desk.swap_button(trader)).to_be_disabled()
    answer = httpx.post(f"{running.url}/api/orders/execute", json=ORDER)
    assert (answer.status_code, answer.json()["code"]) == (503, "TRADING_HALTED")
    page.get_by_role("button", name="Resume").click()
    expect(alert).to_have_count(0)
    expect(desk.swap_button(trader)).to_be_enabled()
    running.place()
    trader.context.close()
