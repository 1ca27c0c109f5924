"""The pictures of the README: `make screenshots HOST=http://127.0.0.1:3000`.

Places a burst and a single order first, so that there is something to see.
"""

import sys
from pathlib import Path

from playwright.sync_api import Browser, Error

from tests.browser import desk
from tests.browser.browsers import chromium

FOLDER = Path(__file__).parent.parent.parent / "docs" / "images"
PICTURES = {
    "desk-dark.png": ({"width": 1440, "height": 1000}, "dark"),
    "desk-phone.png": ({"width": 390, "height": 1000}, "light"),
}


def main(url: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    try:
        with chromium() as browser:
            for name, (size, scheme) in PICTURES.items():
                take(browser, url, name, size, scheme)
    except (Error, FileNotFoundError) as error:
        sys.exit(str(error).partition("\n")[0])


def take(browser: Browser, url: str, name: str, size: dict[str, int], scheme: str) -> None:
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page = context.new_page()
    page.goto(url)
    desk.ready(page)
    page.locator(".burst").click()
    page.wait_for_timeout(5000)
    desk.place(page)
    desk.timeline_is(page, "confirmed")
    page.locator(".burst").click()
    page.wait_for_timeout(2000)
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=FOLDER / name)
    print(FOLDER / name)
    context.close()


if __name__ == "__main__":
    main(sys.argv[1])
