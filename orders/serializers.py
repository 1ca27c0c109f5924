"""The requests a client may send: what each field may be, and the sentence when it is not."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, InvalidOperation
from functools import cached_property
from heapq import nsmallest
from typing import Any, cast

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail

from dex import tokens
from dex.types import SwapRequest, Token
from dex.venues.registry import ANY_SPLIT, route_names
from orders import requestid
from orders.models import OrderType, Status
from orders.pages import Filter
from orders.placement import OrderRequest

NUMBER = re.compile(r"\d{1,40}(\.\d{1,40})?(e[+-]?\d{1,3})?", re.ASCII | re.I)
TIMESTAMP = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?", re.ASCII | re.I
)
INTEGER = re.compile(r"-?\d{1,20}", re.ASCII)
MAX_EXPONENT = 40
MOST_IN_BATCH = 100
MOST_UNKNOWN = 20  # fields of one object that a refusal names
EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


class TokenField(serializers.Field[Token, str, str, Any]):
    default_error_messages = {
        "unknown_token": "{given!r} is not traded here: use one of {known}, or its mint."
    }

    def to_internal_value(self, data: Any) -> Token:
        found = tokens.find(data) if isinstance(data, str) else None
        if found is None:
            known = ", ".join(token.symbol for token in tokens.TOKENS)
            self.fail("unknown_token", given=str(data)[:50], known=known)
        return found


class DecimalNumber(serializers.Field[Decimal, Any, str, Any]):
    """A JSON number or a string of digits, exactly as written."""

    default_error_messages = {
        "not_a_number": 'A decimal number is expected, such as {example} or "{example}".',
        "out_of_range": "A number of at most {digits} digits is expected.",
    }

    def __init__(self, *, example: str, **options: Any) -> None:
        super().__init__(**options)
        self.example = example

    def to_internal_value(self, data: Any) -> Decimal:
        if isinstance(data, bool) or not isinstance(data, int | Decimal | str):
            self.fail("not_a_number", example=self.example)
        if isinstance(data, str) and not NUMBER.fullmatch(data):
            self.fail("not_a_number", example=self.example)
        try:
            number = Decimal(data)
        except (InvalidOperation, ValueError):
            self.fail("not_a_number", example=self.example)
        if not number.is_finite() or abs(number.adjusted()) > MAX_EXPONENT:
            self.fail("out_of_range", digits=MAX_EXPONENT)
        return number


class Timestamp(serializers.DateTimeField):
    """Date and time; UTC where no zone is given. Python's own reader takes far more for one."""

    default_error_messages = {
        "invalid": "A timestamp such as 2025-11-08T10:30:00.000Z is expected."
    }

    def to_internal_value(self, value: Any) -> Any:
        if not isinstance(value, str) or not TIMESTAMP.fullmatch(value):
            self.fail("invalid")
        return super().to_internal_value(value.upper())


def as_shown(moment: datetime | None) -> datetime | None:
    """To the millisecond: who repeats a request may have its timestamps from an answer."""
    return moment and moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class WholeNumber(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, str) and not INTEGER.fullmatch(data):
            self.fail("invalid")
        return super().to_internal_value(data)


class ClientOrderId(serializers.RegexField):
    """A string, also where a number would have the same characters."""

    default_error_messages = {
        "invalid": "1 to 64 of the characters A-Z a-z 0-9 _ . : - are expected, in a string."
    }

    def __init__(self) -> None:
        super().__init__(r"^[A-Za-z0-9_.:-]{1,64}\Z", required=False, trim_whitespace=False)

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


def each_once(parameters: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Those of an address. Raises ValidationError where one is given twice."""
    times = Counter(name for name, _ in parameters)
    if repeated := {name: "Give it once." for name in times if times[name] > 1}:
        raise serializers.ValidationError(repeated, code="repeated")
    return dict(parameters)


class Strict(serializers.Serializer[Any]):
    """Refuses fields it does not know."""

    default_error_messages = {"invalid": "A JSON object is expected."}

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """DRF's, after a shorter way that answers the same and serves where nothing is wrong."""
        try:
            return self.sound(data)
        except (serializers.ValidationError, serializers.SkipField):
            return super().run_validation(data)

    def sound(self, data: Any) -> dict[str, Any]:
        """What each field makes of a value that is right; raises for any other."""
        if not isinstance(data, dict) or not data.keys() <= self.names:
            raise serializers.SkipField
        found = {}
        for name, field, convert, check in self.plan:
            if name in data:
                value = convert(data[name])
            elif field.required:
                raise serializers.SkipField
            elif field.default is serializers.empty:
                continue
            else:
                value = field.get_default()
            found[name] = value if check is None else check(value)
        return cast(dict[str, Any], self.validate(found))

    @cached_property
    def plan(self) -> list[tuple[str, Any, Callable[[Any], Any], Callable[[Any], Any] | None]]:
        """Each field with what reads a value of it, and its `validate_…`, if it has one."""
        return [
            (name, field, reader_of(field), getattr(self, f"validate_{name}", None))
            for name, field in self.fields.items()
        ]

    @cached_property
    def names(self) -> set[str]:
        return set(self.fields)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := set(data) - set(self.fields)):
            known = ", ".join(self.fields) or "none"
            named = nsmallest(MOST_UNKNOWN, unknown)  # each is an error, and takes its time
            said = ErrorDetail(f"Unknown field; known are {known}.", code="unknown_field")
            wrong: dict[str, Any] = {name: [said] for name in named}
            try:
                super().to_internal_value(data)
            except serializers.ValidationError as error:
                wrong |= cast(dict[str, Any], error.detail)
            raise serializers.ValidationError(wrong)
        return super().to_internal_value(data)


def reader_of(field: Any) -> Callable[[Any], Any]:
    """The field's `run_validation`, or what is left of it where that asks for nothing more."""
    plain = type(field).run_validation is serializers.Field.run_validation
    reader = field.to_internal_value if plain and not field.validators else field.run_validation
    return cast(Callable[[Any], Any], reader)


class QuoteRequestSerializer(Strict):
    tokenIn = TokenField()
    tokenOut = TokenField()
    amount = DecimalNumber(example="1.5")
    slippage = DecimalNumber(example="0.01", default=Decimal("0.01"))

    def validate_slippage(self, value: Decimal) -> int:
        """In basis points."""
        points = value.scaleb(4, EXACT)
        if points != points.to_integral_value() or not 0 < points <= 5_000:
            raise serializers.ValidationError(
                "A fraction above 0 and up to 0.5 in whole basis points is expected, such as 0.01.",
                code="slippage_out_of_range",
            )
        return int(points)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["tokenIn"] == attrs["tokenOut"]:
            raise serializers.ValidationError(
                {"tokenOut": "tokenIn and tokenOut are the same token."}, code="same_token"
            )
        try:
            attrs["amount_in"] = tokens.to_base_units(attrs["tokenIn"], attrs["amount"])
        except ValueError as error:
            raise serializers.ValidationError(
                {"amount": f"{error}"}, code="amount_out_of_range"
            ) from None
        return attrs

    def swap_request(self) -> SwapRequest:
        """Of valid data, for a bare quote."""
        fields = self.validated_data
        return SwapRequest(
            token_in=fields["tokenIn"],
            token_out=fields["tokenOut"],
            amount_in=fields["amount_in"],
            slippage_bps=fields["slippage"],
        )


class OrderRequestSerializer(QuoteRequestSerializer):
    orderType = serializers.ChoiceField(choices=OrderType.choices, default=OrderType.MARKET)
    clientOrderId = ClientOrderId()
    deadline = Timestamp(required=False)

    def request(self, body: Any, owner_id: int | None) -> OrderRequest:
        """The order asked for; keeps nothing of it. Raises ValidationError."""
        return self.request_of(self.run_validation(body), owner_id, requestid.bound())

    @staticmethod
    def request_of(fields: dict[str, Any], owner_id: int | None, request_id: str) -> OrderRequest:
        return OrderRequest(
            owner_id=owner_id,
            order_type=str(fields["orderType"]),
            token_in=fields["tokenIn"],
            token_out=fields["tokenOut"],
            amount_in=fields["amount_in"],
            slippage_bps=fields["slippage"],
            client_order_id=fields.get("clientOrderId"),
            deadline_at=as_shown(fields.get("deadline")),
            request_id=request_id,
        )


class BatchRequestSerializer(Strict):
    orders: serializers.ListSerializer[Any] = serializers.ListSerializer(
        child=OrderRequestSerializer(),
        min_length=1,
        max_length=MOST_IN_BATCH,
        error_messages={"not_a_list": "A list of orders is expected."},
    )

    def validate_orders(self, orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
        first: dict[str, int] = {}
        errors: list[dict[str, Any]] = [{} for _ in orders]
        for position, name in enumerate(order.get("clientOrderId") for order in orders):
            if name is not None and first.setdefault(name, position) != position:
                sentence = f"Order {first[name]} of this batch has the same client order id."
                errors[position] = {"clientOrderId": [sentence]}
        if any(errors):
            raise serializers.ValidationError(errors, code="duplicate")
        return orders

    def requests(self, body: Any, owner_id: int | None) -> list[OrderRequest]:
        """The orders asked for; keeps nothing of them. Raises ValidationError."""
        orders, request_id = self.run_validation(body)["orders"], requestid.bound()
        request_of = OrderRequestSerializer.request_of
        return [request_of(fields, owner_id, request_id) for fields in orders]


class OrderFilterSerializer(Strict):
    """The query of GET /api/orders."""

    status = serializers.ChoiceField(choices=Status.choices, required=False)
    tokenIn = TokenField(required=False)
    tokenOut = TokenField(required=False)
    venue = serializers.ChoiceField(choices=[*route_names(), ANY_SPLIT], required=False)
    orderType = serializers.ChoiceField(choices=OrderType.choices, required=False)
    clientOrderId = ClientOrderId()
    createdAfter = Timestamp(
        required=False, help_text="`createdAt`, as it is shown, is later: to the millisecond."
    )
    createdBefore = Timestamp(
        required=False, help_text="`createdAt`, as it is shown, is earlier: to the millisecond."
    )
    limit = WholeNumber(min_value=1, max_value=200, default=50)
    cursor = serializers.CharField(required=False, trim_whitespace=False)

    def wanted(self) -> Filter:
        """Raises ValidationError."""
        self.is_valid(raise_exception=True)
        given = self.validated_data
        return Filter(
            order_type=given.get("orderType"),
            status=given.get("status"),
            venue=given.get("venue"),
            token_in=given["tokenIn"].symbol if "tokenIn" in given else None,
            token_out=given["tokenOut"].symbol if "tokenOut" in given else None,
            client_order_id=given.get("clientOrderId"),
            created_after=given.get("createdAfter"),
            created_before=given.get("createdBefore"),
        )


class ActivitySerializer(Strict):
    """The query of GET /api/orders/activity."""

    minutes = WholeNumber(min_value=1, max_value=60, default=15)


class AfterSeqSerializer(Strict):
    """The query of GET …/events."""

    afterSeq = WholeNumber(min_value=0, max_value=2**31 - 1, default=0)


class Reference(serializers.CharField):
    """A string of at most 64 characters that stays as it was written."""

    default_error_messages = {"invalid": "A string is expected."}

    def __init__(self, *, required: bool = True) -> None:
        super().__init__(max_length=64, required=required, trim_whitespace=False)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


REFERENCE = Reference()


def reference(frame: Any) -> str | None:
    """The requestId, whatever else is wrong with the frame; None where it has no right one."""
    try:
        found: str = REFERENCE.run_validation(frame["requestId"])
    except (TypeError, LookupError, serializers.ValidationError):
        return None
    return found


class OrderReference(Strict):
    type = serializers.CharField()
    orderId = Reference()
    requestId = Reference(required=False)


class PingFrame(Strict):
    type = serializers.CharField()
    requestId = Reference(required=False)


class SubscriptionFrame(Strict):
    """One order, or `scope: all`."""

    type = serializers.CharField()
    orderId = Reference(required=False)
    afterSeq = WholeNumber(min_value=0, max_value=2**31 - 1, required=False)
    scope = serializers.ChoiceField(choices=["all"], required=False)
    requestId = Reference(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("orderId" in attrs) == ("scope" in attrs):
            raise serializers.ValidationError(
                {"orderId": "Either orderId or scope is expected."}, code="required"
            )
        return attrs


class SubmitFrame(Strict):
    type = serializers.CharField()
    requestId = Reference(required=False)
    order = serializers.DictField()  # checked as the body of a POST


# The frames a client may send, by their type.
FRAMES: dict[str, type[Strict]] = {
    "subscribe": SubscriptionFrame,
    "unsubscribe": SubscriptionFrame,
    "order.submit": SubmitFrame,
    "order.cancel": OrderReference,
    "ping": PingFrame,
}


class SocketQuerySerializer(Strict):
    """The query of the WebSocket's address."""

    ticket = serializers.CharField(max_length=64, required=False)
    orderId = Reference(required=False)
    afterSeq = WholeNumber(min_value=0, max_value=2**31 - 1, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "afterSeq" in attrs and "orderId" not in attrs:
            raise serializers.ValidationError(
                {"orderId": "afterSeq is a seq of an order: name the order, too."}, code="required"
            )
        return attrs
