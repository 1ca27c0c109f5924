"""The admin's statuses can be read on every background that a row may have, light and dark."""

import re
from pathlib import Path

import pytest
from django.contrib import admin

LEAST = 4.9  # to 1
OURS = Path(__file__).parents[2] / "orders/static/orders/admin.css"
DJANGO = Path(admin.__file__).parent / "static/admin/css"
COLOUR = re.compile(r"--([\w-]+): (#[0-9a-f]{3,6});")
TEXTS = ("running", "confirmed", "failed", "pending", "withdrawn")
BACKGROUNDS = ("body-bg", "darkened-bg", "selected-row", "selected-bg")


def block(css: str, selector: str) -> dict[str, str]:
    """The colours that the rule of a theme sets."""
    found = re.search(re.escape(selector) + r"(?:,\s*:root)? {([^}]*)}", css)
    assert found, selector
    return dict(COLOUR.findall(found[1]))


def colours(theme: str) -> dict[str, str]:
    django = (DJANGO / ("base.css" if theme == "light" else "dark_mode.css")).read_text()
    selector = f'html[data-theme="{theme}"]'
    return block(django, selector) | block(OURS.read_text(), selector)


def luminance(colour: str) -> float:
    """WCAG 2."""
    digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_statuses_can_be_read(theme: str) -> None:
    found = colours(theme)
    weak = {
        (text, background): ratio
        for text in TEXTS
        for background in BACKGROUNDS
        if (ratio := contrast(found[f"order-{text}"], found[background])) < LEAST
    }
    assert weak == {}
    assert contrast(found["body-fg"], found["order-halted-bg"]) >= LEAST


def test_the_dark_colours_are_those_of_who_prefers_dark() -> None:
    css = OURS.read_text()
    preferred = css.partition("prefers-color-scheme: dark")[2].partition("}")[0]

    assert dict(COLOUR.findall(preferred)) == block(css, 'html[data-theme="dark"]')
