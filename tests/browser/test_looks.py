"""Every size and theme, without a mouse, and for those who do not see it."""

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser import desk
from tests.browser.conftest import OpenPage
from tests.stacks import Running, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]
SERIOUS = {"serious", "critical"}
TEXTS = """() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(e).backgroundColor);
      if (a > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll(".status, .step .title, .gauge .name, .muted, .tag")]
    .filter((e) => e.offsetParent && e.textContent.trim())
    .map((e) => {
      const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.trim()];
    });
}"""

SOME_CONFIRMED = re.compile(r"[1-9]\d* confirmed")  # other tests have the same stack
# Pixels of the chart in the colour of confirmed orders, as it is in the theme at present.
BARS = """(() => {
  const key = document.querySelector(".chart .legend");
  const probe = key.appendChild(document.createElement("i"));
  probe.style.color = "var(--confirmed)";
  const [r, g, b] = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
  probe.remove();
  const canvas = document.querySelector(".chart canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let found = 0;
  for (let n = 0; n < data.length; n += 4)
    if (data[n] === r && data[n + 1] === g && data[n + 2] === b && data[n + 3] === 255) found += 1;
  return found;
})()"""


def violations(page: Page) -> list[str]:
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:200]}"
        for rule in found
        if rule["impact"] in SERIOUS
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 375, 768, 1440])
def test_fits_and_reads(running: Running, open_page: OpenPage, width: int, scheme: str) -> None:
    page = open_page(running, color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    desk.ready(page)
    desk.place(page)
    desk.timeline_is(page, "confirmed")
    page.get_by_label("custom").check()
    page.locator(".raw summary").click()
    assert desk.overflow(page) <= 0
    assert violations(page) == []
    contrasts: list[tuple[float, str]] = page.evaluate(TEXTS)
    assert len(contrasts) > 20
    assert [found for found in contrasts if found[0] < 4.9] == []


LONG = [
    ("BONK", "SOL", "12345678.5"),
    ("SOL", "USDC", "1000"),
    ("SOL", "BONK", "1500"),
    ("USDC", "BONK", "25000.5"),
    ("BONK", "USDC", "123456789012"),
    ("SOL", "USDC", "18446744073.7"),
]


@pytest.fixture(scope="module")
def long_orders(running: Running) -> None:
    """Of large amounts, two of them failed."""
    for token_in, token_out, amount in LONG:
        running.place(tokenIn=token_in, tokenOut=token_out, amount=amount)


@pytest.mark.usefixtures("long_orders")
@pytest.mark.parametrize("width", [320, 360, 1101, 1200, 1280, 1440])
def test_long_amounts_and_failures_stay_in_the_table(
    running: Running, open_page: OpenPage, width: int
) -> None:
    page = open_page(running)
    page.set_viewport_size({"width": width, "height": 900})
    expect(page.locator(".list .error").first).to_have_text(
        "INSUFFICIENT_LIQUIDITY", timeout=15_000
    )
    desk.ready(page)
    assert desk.overflow(page) <= 0
    assert desk.outside(page) == []


@pytest.mark.parametrize("width", [1199, 1200, 1920])
def test_an_order_alone_is_as_wide_as_its_page(
    running: Running, open_page: OpenPage, width: int, errors: list[str]
) -> None:
    page = open_page(running, "/orders/ord_1700000000000_aaaaaaaaaa")
    expect(page.locator(".timeline .error")).to_be_visible()
    page.set_viewport_size({"width": width, "height": 900})
    whole, card = page.locator(".alone").bounding_box(), page.locator(".timeline").bounding_box()
    assert whole is not None
    assert card is not None
    assert card["x"] - whole["x"] < 20
    assert whole["width"] - card["width"] < 40
    errors[:] = [error for error in errors if "ord_1700000000000" not in error]


def test_theme_is_chosen_and_kept(running: Running, open_page: OpenPage) -> None:
    page = open_page(running, color_scheme="light")
    page.get_by_label("Theme").select_option("dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"


def test_the_chart_keeps_its_bars_in_another_theme(running: Running, open_page: OpenPage) -> None:
    page = open_page(running, color_scheme="light")
    desk.ready(page)
    desk.place(page)
    expect(page.locator(".chart .muted")).to_contain_text(SOME_CONFIRMED, timeout=20_000)
    page.route("**/api/orders/activity*", lambda route: None)  # nothing is told any more
    wait_until(lambda: page.evaluate(BARS) > 0, seconds=5)  # they follow the text
    page.get_by_label("Theme").select_option("dark")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    wait_until(lambda: page.evaluate(BARS) > 0, seconds=5)


def test_nothing_moves_for_who_does_not_want_it(running: Running, open_page: OpenPage) -> None:
    page = open_page(running, reduced_motion="reduce")
    desk.ready(page)
    desk.place(page)
    assert page.evaluate("document.getAnimations().length") == 0


def test_keyboard_alone(running: Running, open_page: OpenPage) -> None:
    """From the address bar to a confirmed order, its frames, and back from the table."""
    page = open_page(running)
    desk.ready(page)
    keys = page.keyboard
    keys.press("Tab")
    assert focused(page) == "Skip to the orders"
    reach(page, "You pay", "id", "amount")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    keys.press("Enter")
    desk.timeline_is(page, "confirmed")
    reach(page, "the frames", "tagName", "SUMMARY")
    keys.press("Space")
    expect(page.locator(".raw")).to_have_attribute("open", "")
    reach(page, "a row", "className", "", inside=".list")
    keys.press("Enter")
    expect(page.locator(".list tr.selected")).to_have_count(1)


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.textContent.trim()"))


def reach(page: Page, what: str, name: str, value: str, inside: str = "body") -> None:
    """Tab until the element that has the focus is the one."""
    found = f"e => e.{name} === '{value}' && e.closest('{inside}') !== null"
    for _ in range(60):
        if page.evaluate(f"({found})(document.activeElement)"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"no way by Tab to {what}")
