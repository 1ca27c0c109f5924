"""Each reader of the environment: what it takes, and that a wrong value names its variable."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from orderengine import environment as read

NAME = "ORDERS_TEST_VALUE"
LEVELS = ("debug", "info")

READERS: dict[str, Callable[[], Any]] = {
    "integer": lambda: read.integer(NAME, 7),
    "at least one": lambda: read.integer(NAME, 7, minimum=1),
    "number": lambda: read.number(NAME, 7.0, minimum=0, maximum=3600),
    "flag": lambda: read.flag(NAME, default=True),
    "choice": lambda: read.choice(NAME, "info", LEVELS),
    "hosts": lambda: read.hosts(NAME, ["a"]),
    "range": lambda: read.millisecond_range(NAME, (1, 2)),
    "rate": lambda: read.rate(NAME, "20/s"),
}
DEFAULTS = {
    "integer": 7,
    "at least one": 7,
    "number": 7.0,
    "flag": True,
    "choice": "info",
    "hosts": ["a"],
    "range": (1, 2),
    "rate": "20/s",
}


@pytest.mark.parametrize("reader", READERS)
def test_what_is_unset_has_its_default(monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    monkeypatch.delenv(NAME, raising=False)

    assert READERS[reader]() == DEFAULTS[reader]
    assert not read.isset(NAME)


@pytest.mark.parametrize("reader", [name for name in READERS if name != "rate"])
def test_what_is_empty_has_its_default(monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    monkeypatch.setenv(NAME, "")

    assert READERS[reader]() == DEFAULTS[reader]
    assert not read.isset(NAME)


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_rate_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(NAME, text)

    assert READERS["rate"]() is None


@pytest.mark.parametrize(
    ("reader", "text", "value"),
    [
        ("integer", "0", 0),
        ("integer", "12", 12),
        ("at least one", "1", 1),
        ("number", "0", 0.0),
        ("number", "0.5", 0.5),
        ("number", "3600", 3600.0),
        *[("flag", text, True) for text in ("1", "true", "True", "yes", "on", " TRUE ")],
        *[("flag", text, False) for text in ("0", "false", "False", "no", "off")],
        ("choice", "debug", "debug"),
        ("choice", "INFO", "info"),
        ("hosts", "a.example", ["a.example"]),
        ("hosts", " a , .b,,[::1] ", ["a", ".b", "[::1]"]),
        ("hosts", "*", ["*"]),
        ("range", "0", (0, 0)),
        ("range", "2000", (2000, 2000)),
        ("range", "2000-3000", (2000, 3000)),
        ("range", "5-5", (5, 5)),
        ("range", "0-3600000", (0, 3_600_000)),
        ("rate", "20/s", "20/s"),
        ("rate", "100/m", "100/m"),
        ("rate", "1.5/h", "1.5/h"),
        ("rate", "10", "10"),
    ],
)
def test_a_good_value_is_read(
    monkeypatch: pytest.MonkeyPatch, reader: str, text: str, value: object
) -> None:
    monkeypatch.setenv(NAME, text)

    assert READERS[reader]() == value
    assert read.isset(NAME)


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        *[("integer", text) for text in ("ten", "1.5", "-1", "1e3", "10 men", "0x10", "\u0661")],
        *[("integer", text) for text in ("2147483648", "9" * 5000)],
        *[("at least one", text) for text in ("0", "-1")],
        *[("number", text) for text in ("x", "-1", "-0.1", "nan", "inf", "-inf", "1,5", "1e300")],
        *[("flag", text) for text in ("maybe", "2", "tru", "-")],
        *[("choice", text) for text in ("verbose", "infos", "1", f"${NAME}", "$OTHER", "$")],
        *[("hosts", text) for text in ("http://a", "a:80", "a/", "*.a", "a b", f"${NAME}")],
        *[("range", text) for text in ("fast", "3000-2000", "-5", "1-2-3", "1.5", "2000..3000")],
        *[("range", text) for text in ("3600001", "0-3600001", "999999999999999")],
        *[
            ("rate", text)
            for text in ("fast", "20/d", "/s", "-1/s", "20 / s", "20/s/s", "1e3/s", "9999999999/s")
        ],
    ],
)
def test_a_wrong_value_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, reader: str, text: str
) -> None:
    monkeypatch.setenv(NAME, text)

    with pytest.raises(ImproperlyConfigured) as refusal:
        READERS[reader]()

    message = str(refusal.value)
    assert NAME in message
    assert repr(text) in message
    assert "expected" in message
    assert "literal" not in message  # Python's own words
    assert "\n" not in message
