"""What tests do and see on the order desk.

Playwright's own wait_for_function asks again by eval, which the page's policy refuses.
"""

import json
from contextlib import suppress
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.stacks import wait_until

# Of what a card holds, that which is drawn beside it.
OUTSIDE = """() => [...document.querySelectorAll(".card")].flatMap((card) =>
  [...card.querySelectorAll("table, td, p, button, output")]
    .filter((e) => e.offsetParent)
    .filter((e) => e.getBoundingClientRect().right > card.getBoundingClientRect().right + 1)
    .map((e) => e.outerHTML.slice(0, 200)))"""
STEPS = ["pending", "routing", "building", "submitted", "confirmed", "result"]
QUICK = 15_000


def swap_button(page: Page) -> Locator:
    return page.locator(".ticket .primary")


def ready(page: Page) -> None:
    """The ticket has a quote and the socket is live."""
    expect(swap_button(page)).to_contain_text("≈", timeout=QUICK)
    expect(page.locator(".connection")).to_have_attribute("data-state", "live", timeout=QUICK)


def place(page: Page) -> str:
    """The id of the order that the ticket places."""
    before = shown_order(page)
    swap_button(page).click()
    wait_until(lambda: shown_order(page) != before)
    return shown_order(page)


def shown_order(page: Page) -> str:
    return page.locator(".timeline").first.get_attribute("data-order") or ""


def timeline_is(page: Page, status: str) -> None:
    expect(page.locator(".timeline header .status")).to_have_attribute(
        "data-status", status, timeout=QUICK
    )


def has_steps(page: Page, *wanted: str) -> None:
    found = page.locator(".timeline .step")
    expect(found).to_have_count(len(wanted))
    assert [step.get_attribute("data-step") for step in found.all()] == list(wanted)


def raw_frames(page: Page) -> list[dict[str, Any]]:
    """The frames that the timeline folds away."""
    text = page.locator(".timeline .raw pre").text_content() or ""
    decoder, found = json.JSONDecoder(), []
    while text := text.lstrip():
        frame, end = decoder.raw_decode(text)
        found.append(frame)
        text = text[end:]
    return found


def rows(page: Page) -> Locator:
    return page.locator(".list tbody tr")


def overflow(page: Page) -> int:
    """By how many pixels the page scrolls sideways. The chart is redrawn after a change of size."""

    def beyond() -> int:
        return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))

    with suppress(AssertionError):
        wait_until(lambda: beyond() <= 0, seconds=2)
    return beyond()


def outside(page: Page) -> list[str]:
    """What a card holds and draws beside it."""
    found: list[str] = page.evaluate(OUTSIDE)
    return found
