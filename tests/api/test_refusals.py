"""POST /api/orders/execute: what is refused, where the pointer points, and that no row is made."""

import json
import time
from typing import Any

import pytest
from django.test import Client

from dex import tokens
from tests.api.http import (
    EXECUTE,
    execute,
    order_body,
    pointers,
    problem,
    stored_orders,
)

pytestmark = pytest.mark.usefixtures("no_orders")


def refused(client: Client, body: Any) -> dict[str, Any]:
    answer = problem(execute(client, body), 400, "VALIDATION")
    assert stored_orders() == []
    return answer


def one(field: str, value: str) -> str:
    """An order's JSON with this raw value as the field."""
    fields = {"tokenIn": '"SOL"', "tokenOut": '"USDC"', "amount": "1.5", field: value}
    return "{" + ",".join(f'"{name}":{raw}' for name, raw in fields.items()) + "}"


@pytest.mark.parametrize("field", ["tokenIn", "tokenOut", "amount"])
def test_a_missing_field_is_named(client: Client, field: str) -> None:
    body = order_body()
    del body[field]

    answer = refused(client, body)

    assert answer["errors"] == [
        {"pointer": f"/{field}", "code": "required", "detail": "This field is required."}
    ]


def test_every_missing_field_is_named_at_once(client: Client) -> None:
    assert pointers(refused(client, {})) == {"/tokenIn", "/tokenOut", "/amount"}


@pytest.mark.parametrize(
    ("name", "pointer"),
    [
        ("limitPrice", "/limitPrice"),
        ("amount_in", "/amount_in"),
        ("a/b~c", "/a~1b~0c"),
        ("non_field_errors", "/non_field_errors"),
    ],
)
def test_an_unknown_field_is_refused(client: Client, name: str, pointer: str) -> None:
    answer = refused(client, order_body(**{name: 1}))

    assert pointers(answer) == {pointer}
    assert answer["errors"][0]["code"] == "unknown_field"


def test_an_unknown_field_hides_no_other_error(client: Client) -> None:
    answer = refused(client, order_body(tokenIn="X", slippage=9, side="buy"))

    assert pointers(answer) == {"/side", "/tokenIn", "/slippage"}
    codes = {error["pointer"]: error["code"] for error in answer["errors"]}
    assert codes["/side"] == "unknown_field"
    assert codes["/slippage"] == "slippage_out_of_range"


def test_an_unknown_field_with_half_a_surrogate_is_refused(client: Client) -> None:
    refused(client, one("\\ud800", "1"))


@pytest.mark.parametrize("value", ["true", "false", "null", "[]", "{}", "[1]", '{"a":1}'])
@pytest.mark.parametrize(
    "field",
    ["tokenIn", "tokenOut", "amount", "slippage", "orderType", "clientOrderId", "deadline"],
)
def test_a_value_of_the_wrong_type_is_refused(client: Client, field: str, value: str) -> None:
    assert pointers(refused(client, one(field, value))) == {f"/{field}"}


@pytest.mark.parametrize(
    "value",
    [
        '""',
        '"abc"',
        '"1,5"',
        '" 1"',
        '"1 "',
        '"1\\n"',
        '"1e"',
        '"e3"',
        '"1e+400"',
        '"1e-10"',
        '"0x10"',
        '"NaN"',
        '"Infinity"',
        '"-1"',
        '"+1"',
        '"1_000"',
        '"."',
        "-1",
        "-0.000000001",
        "0",
        "0.0",
        "-0.0",
        '"0"',
        "1e400",
        "-1e400",
        "1e-400",
        "0e99",
        "0.0000000001",
        "0.100000000000000005",
        '"1.0000000001"',
        "18446744073.709551616",
        "1e30",
        pytest.param("1e9999999999999999999", id="exponent-past-decimal"),
        pytest.param("1e99999999999999999999", id="exponent-past-reckoning"),
        pytest.param("9" * 4000, id="4000-digits"),
        pytest.param("9" * 5000, id="5000-digits"),
        pytest.param(f'"{"9" * 5000}"', id="string-of-5000-digits"),
        pytest.param(f"1.{'1' * 5000}", id="5000-decimals"),
    ],
)
def test_an_amount_that_is_none_is_refused(client: Client, value: str) -> None:
    assert pointers(refused(client, one("amount", value))) == {"/amount"}


def test_the_refusal_of_an_amount_shows_every_digit_of_it(client: Client) -> None:
    answer = refused(client, one("amount", "0.100000000000000005"))

    assert pointers(answer) == {"/amount"}
    assert "0.100000000000000005" in answer["detail"]


def test_an_amount_of_more_digits_than_python_reads_is_refused(client: Client) -> None:
    refused(client, one("amount", "9" * 100_000))


@pytest.mark.parametrize(
    "value",
    [
        "0",
        '"0"',
        "-0.01",
        "0.5001",
        "0.50001",
        "1",
        "50",
        "0.00001",
        "0.01001",
        '"abc"',
        '""',
        "1e400",
        "1e-30",
        "0.01000000000000000000000000000000001",
        '"0.50000000000000000000000000000000000001"',
    ],
)
def test_a_slippage_out_of_bounds_or_between_basis_points_is_refused(
    client: Client, value: str
) -> None:
    assert pointers(refused(client, one("slippage", value))) == {"/slippage"}


@pytest.mark.parametrize(("field", "example"), [("amount", "1.5"), ("slippage", "0.01")])
def test_who_gives_no_number_is_shown_one_that_would_do(
    client: Client, field: str, example: str
) -> None:
    (error,) = refused(client, order_body(**{field: "much"}))["errors"]
    assert error["detail"] == f'A decimal number is expected, such as {example} or "{example}".'
    assert execute(client, order_body(**{field: example})).status_code == 201


@pytest.mark.parametrize(
    "value",
    [
        "5",
        '""',
        '"DOGE"',
        '"SOL "',
        '"SOL/USDC"',
        '"\\u017fOL"',
        '"\\u0000"',
        '"\\ud800"',
        f'"{"x" * 100_000}"',
    ],
    ids=lambda value: value[:12],
)
@pytest.mark.parametrize("field", ["tokenIn", "tokenOut"])
def test_an_unknown_token_is_refused_with_the_known_ones(
    client: Client, field: str, value: str
) -> None:
    answer = refused(client, one(field, value))

    assert pointers(answer) == {f"/{field}"}
    assert all(token.symbol in answer["detail"] for token in tokens.TOKENS)
    assert len(answer["detail"]) < 500


@pytest.mark.parametrize("token_out", ["SOL", tokens.SOL.mint])
def test_a_token_is_not_traded_for_itself(client: Client, token_out: str) -> None:
    answer = refused(client, order_body(tokenIn="SOL", tokenOut=token_out))

    assert pointers(answer) == {"/tokenOut"}
    assert answer["errors"][0]["code"] == "same_token"


@pytest.mark.parametrize("value", ['"limit"', '"MARKET "', "1", '""'])
def test_an_order_type_that_is_not_there_is_refused(client: Client, value: str) -> None:
    assert pointers(refused(client, one("orderType", value))) == {"/orderType"}


@pytest.mark.parametrize(
    "value",
    [
        "123",
        "123.5",
        "true",
        '""',
        '"a b"',
        '" a"',
        '"a "',
        '"a\\n"',
        '"ä"',
        '"a/b"',
        '"a\\u0000"',
        '"\\ud800"',
        pytest.param(f'"{"x" * 65}"', id="65"),
        pytest.param(f'"{"x" * 100_000}"', id="100000"),
    ],
)
def test_a_client_order_id_of_other_characters_is_refused(client: Client, value: str) -> None:
    assert pointers(refused(client, one("clientOrderId", value))) == {"/clientOrderId"}


@pytest.mark.parametrize(
    "value",
    [
        '"soon"',
        '""',
        "5",
        "4102444800",
        '"2099-13-01T00:00:00Z"',
        '"2099-01-01T00:00:00Z\\u0000"',
        '"2099-01-01T00:00:00Z\\n"',
        '"2099-01-01T00:00:00Z tomorrow"',
        '"\\uff12099-01-01T00:00:00Z"',
        '"2099-01-01x00:00:00Z"',
        '"2099-01-01"',
        '"20990101"',
        '"2099-W01-1"',
        '"2020-01-01T00:00:00Z"',
        '"0001-01-01T00:00:00+14:00"',
        '"9999-12-31T23:59:59-14:00"',
    ],
)
def test_a_deadline_that_is_none_or_has_passed_is_refused(client: Client, value: str) -> None:
    assert pointers(refused(client, one("deadline", value))) == {"/deadline"}


@pytest.mark.parametrize("value", ["2099-01-01t00:00:00z", "2099-01-01T00:00:00.123456+02:00"])
def test_a_deadline_is_any_timestamp_of_rfc_3339(client: Client, value: str) -> None:
    assert execute(client, order_body(deadline=value)).status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="empty"),
        pytest.param("   ", id="blank"),
        "null",
        "[]",
        "5",
        '"text"',
        "true",
        "{",
        '{"tokenIn":"SOL",}',
        "{'tokenIn':'SOL'}",
        one("amount", "NaN"),
        one("amount", "Infinity"),
        one("amount", "-Infinity"),
        one("amount", "01"),
        one("amount", "1.5") + "x",
        pytest.param(b"\xff\xfe\xff", id="not-utf-8"),
        pytest.param(json.dumps(order_body()).encode("utf-16"), id="utf-16"),
        pytest.param(json.dumps(order_body()).encode("utf-32-le"), id="utf-32"),
        pytest.param(one("clientOrderId", '"\xe4"').encode("latin1"), id="latin1"),
        pytest.param("[" * 100_000, id="deep-list"),
        pytest.param('{"amount":' * 20_000, id="deep-object"),
        pytest.param("\x00", id="nul"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(client: Client, body: str | bytes) -> None:
    refused(client, body)


@pytest.mark.parametrize("field", ["tokenIn", "amount", "orderType", "deadline", "other"])
@pytest.mark.parametrize("depth", [100, 600, 700, 750, 800, 850, 900, 950])
def test_a_deep_value_is_refused_at_any_depth(client: Client, field: str, depth: int) -> None:
    refused(client, one(field, "[" * depth + "]" * depth))


@pytest.mark.parametrize(("depth", "word"), [(31, "tokenIn"), (32, "nested too deeply")])
def test_a_body_is_nested_32_deep_at_most(client: Client, depth: int, word: str) -> None:
    assert word in refused(client, one("tokenIn", "[" * depth + "]" * depth))["detail"]


def test_a_field_given_twice_is_refused(client: Client) -> None:
    body = '{"tokenIn":"SOL","tokenOut":"USDC","amount":1,"amount":2}'

    assert "amount" in refused(client, body)["detail"]


def test_a_field_given_twice_among_thousands_is_found_at_once(client: Client) -> None:
    names = ",".join(f'"{n:x}":1' for n in [*range(25_000), 24_999])
    asked = time.monotonic()

    assert "'61a7' is given twice" in refused(client, f"{{{names}}}")["detail"]
    assert time.monotonic() - asked < 2  # looking through all names for each took ten seconds


def test_a_body_too_large_is_refused(client: Client) -> None:
    response = execute(client, one("amount", "1" + " " * 300_000))

    assert response.status_code in {400, 413}
    problem(response, response.status_code)
    assert stored_orders() == []


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "",
    ],
)
def test_another_media_type_is_refused(client: Client, content_type: str) -> None:
    response = client.post(EXECUTE, one("amount", "1"), content_type=content_type)

    problem(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert stored_orders() == []


def test_json_with_a_charset_is_json(client: Client) -> None:
    response = client.post(EXECUTE, "{}", content_type="application/json; charset=utf-8")

    assert pointers(problem(response, 400, "VALIDATION")) == {"/tokenIn", "/tokenOut", "/amount"}


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip"])
def test_a_body_in_another_coding_is_refused(client: Client, coding: str) -> None:
    response = execute(client, **{"Content-Encoding": coding})

    answer = problem(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert answer["detail"] == f"Content-Encoding {coding}: send the body as it is."
    assert stored_orders() == []


def test_a_body_as_it_is_may_say_so(client: Client) -> None:
    assert execute(client, **{"Content-Encoding": "Identity"}).status_code == 201
