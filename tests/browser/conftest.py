"""A browser for all tests, a page for each, and engines that several share.

A page that writes an error to the console, or breaks its content security policy, fails its test.
"""

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, WebSocket

from tests.browser.browsers import MISSING, chromium, executable
from tests.conftest import create_database
from tests.stacks import Running, engine

WIDE = {"width": 1440, "height": 900}
PASSWORD = "correct horse battery"
OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if executable() is None:
        pytest.exit(MISSING, returncode=1)
    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def running(migrated: str) -> Iterator[Running]:
    """Orders take about 0.6 s."""
    with engine(
        create_database(migrated),
        DEX_QUOTE_LATENCY_MS="50",
        DEX_SWAP_LATENCY_MS="500",
        QUEUE_RATE_LIMIT="0",
    ) as found:
        yield found


@pytest.fixture(scope="session")
def operator(running: Running) -> str:
    make = (
        "from django.contrib.auth.models import User;"
        f"User.objects.create_superuser('operator', password='{PASSWORD}')"
    )
    assert running.manage("shell", "-c", make) == 0
    return "operator"


@pytest.fixture(scope="session")
def failing(migrated: str) -> Iterator[Running]:
    """No venue ever answers an order or a quote."""
    with engine(
        create_database(migrated), DEX_FAULTS="quote_unavailable=1", ORDER_RETRY_BASE_SECONDS="0.2"
    ) as found:
        yield found


@pytest.fixture(scope="session")
def guarded(migrated: str) -> Iterator[Running]:
    """Callers sign in, and may ask 60 times at once and then once a second."""
    with engine(
        create_database(migrated), API_AUTH_REQUIRED="true", API_RATE_LIMIT="60/m"
    ) as found:
        yield found


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    found = browser.new_context(viewport=WIDE)
    found.set_default_timeout(15_000)
    yield found
    found.close()


@pytest.fixture
def open_page(context: BrowserContext, errors: list[str]) -> OpenPage:
    """Opens a path of an engine."""

    def open_page(engine: Running, path: str = "/", **emulated: Any) -> Page:
        page = context.new_page()
        if emulated:
            page.emulate_media(**emulated)
        watch(page, errors)
        page.on("websocket", tell)
        page.goto(engine.url + path)
        return page

    return open_page


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """What pages complained of; a test that expects some removes them."""
    found: list[str] = []
    yield found
    assert not found


def tell(socket: WebSocket) -> None:
    """What goes over it, in the output of a test that fails."""

    def say(what: str) -> None:
        sys.stdout.write(f"{datetime.now(UTC):%H:%M:%S.%f} {what[:100]}\n")

    say(f"opens {socket.url}")
    socket.on("framesent", lambda data: say(f"> {data!s}"))
    socket.on("framereceived", lambda data: say(f"< {data!s}"))
    socket.on("socketerror", lambda error: say(f"error {error}"))
    socket.on("close", lambda _: say("closed"))


def watch(page: Page, errors: list[str]) -> None:
    def heard(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            errors.append(f"{message.text} ({message.location.get('url', '')})")

    page.on("console", heard)
    page.on("pageerror", lambda error: errors.append(str(error)))
