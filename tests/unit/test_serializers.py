"""What is right is found out the short way, and is what DRF's own way finds."""

from decimal import Decimal
from typing import Any

import pytest
from rest_framework import serializers

from orders.problems import problem_of
from orders.serializers import (
    BatchRequestSerializer,
    OrderFilterSerializer,
    OrderRequestSerializer,
    Strict,
    SubmitFrame,
    SubscriptionFrame,
)

ORDER = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5"}
RIGHT = [
    (OrderRequestSerializer, ORDER),
    (OrderRequestSerializer, {**ORDER, "slippage": 0, "amount": 2} | {"slippage": Decimal("0.5")}),
    (OrderRequestSerializer, {**ORDER, "orderType": "market", "clientOrderId": "a.b-c"}),
    (OrderRequestSerializer, {**ORDER, "deadline": "2030-01-01T00:00:00Z", "slippage": "0.01"}),
    (BatchRequestSerializer, {"orders": [ORDER, {**ORDER, "clientOrderId": "b"}]}),
    (OrderFilterSerializer, {}),
    (OrderFilterSerializer, {"status": "failed", "limit": "7", "tokenIn": "BONK"}),
    (SubmitFrame, {"type": "order.submit", "requestId": "r", "order": ORDER}),
    (SubscriptionFrame, {"type": "subscribe", "scope": "all"}),
    (SubscriptionFrame, {"type": "subscribe", "orderId": "ord_1"}),
]
WRONG = [
    *((OrderRequestSerializer, body) for body in (None, [], "SOL", 1, {}, {"tokenIn": "SOL"})),
    *(
        (OrderRequestSerializer, {**ORDER, **change})
        for change in (
            *({name: None} for name in ("amount", "tokenIn", "orderType", "deadline")),
            {"clientOrderId": None, "slippage": None},
            {"amount": "-1"},
            {"amount": "0"},
            {"tokenOut": "SOL"},
            {"tokenIn": "DOGE", "slippage": "2"},
            {"slippage": "0.00001"},
            {"orderType": "limit"},
            {"clientOrderId": ""},
            {"deadline": "soon"},
            {"color": "red", "amount": "x"},
        )
    ),
    (BatchRequestSerializer, {"orders": []}),
    (BatchRequestSerializer, {"orders": [ORDER] * 101}),
    (BatchRequestSerializer, {"orders": [ORDER, {**ORDER, "amount": "x"}, None]}),
    (BatchRequestSerializer, {"orders": [{**ORDER, "clientOrderId": "a"}] * 2}),
    (OrderFilterSerializer, {"limit": "0"}),
    (OrderFilterSerializer, {"status": ""}),
    (SubmitFrame, {"type": "order.submit", "order": "SOL"}),
    (SubscriptionFrame, {"type": "subscribe"}),
    (SubscriptionFrame, {"type": "subscribe", "scope": "all", "orderId": "ord_1"}),
]


def by_drf(of: type[Strict], body: Any) -> Any:
    """Of the serializers within as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Strict, "sound", skip)
        return of().run_validation(body)


def skip(*_: Any) -> None:
    raise serializers.SkipField


@pytest.mark.parametrize(("of", "body"), RIGHT, ids=str)
def test_what_is_right_is_what_drf_finds(of: type[Strict], body: Any) -> None:
    assert of().sound(body) == by_drf(of, body)


@pytest.mark.parametrize(("of", "body"), WRONG, ids=lambda value: str(value)[:60])
def test_what_is_wrong_is_refused_in_drf_s_words(of: type[Strict], body: Any) -> None:
    with pytest.raises(serializers.ValidationError) as refused:
        of().run_validation(body)
    with pytest.raises(serializers.ValidationError) as expected:
        by_drf(of, body)

    assert refused.value.get_full_details() == expected.value.get_full_details()


@pytest.mark.parametrize(
    ("of", "body", "said"),
    [
        (OrderRequestSerializer, [], "A JSON object is expected."),
        (BatchRequestSerializer, {"orders": ["SOL"]}, "A JSON object is expected."),
        (BatchRequestSerializer, {"orders": {}}, "A list of orders is expected."),
    ],
)
def test_what_has_another_shape_is_not_told_in_python_s_words(
    of: type[Strict], body: Any, said: str
) -> None:
    with pytest.raises(serializers.ValidationError) as refused:
        of().run_validation(body)

    assert [error.detail for error in problem_of(refused.value).errors] == [said]
