"""What a client asks for, over REST or WebSocket: one call each, refusals as problems."""

from typing import Any

from dex.errors import OrderRejected, VenueUnavailable
from orders import placement, render
from orders.execution import exchange
from orders.lifecycle import ClaimLost, IllegalTransition
from orders.models import FailureCode, Order
from orders.placement import ClientOrderIdReused, DeadlinePassed, Placed
from orders.problems import FieldError, Problem
from orders.serializers import OrderRequestSerializer, QuoteRequestSerializer


def place(body: Any, owner_id: int | None) -> Placed:
    """Raises Problem, rest_framework's ValidationError, psycopg.OperationalError."""
    request = OrderRequestSerializer(data=body).validated_request(owner_id)
    try:
        return placement.place_order(request)
    except ClientOrderIdReused as error:
        raise Problem(status=409, code="CLIENT_ORDER_ID_REUSED", detail=str(error)) from None
    except DeadlinePassed as error:
        late = FieldError(pointer="/deadline", code="deadline_passed", detail=str(error))
        raise Problem(status=400, code="VALIDATION", detail=str(error), errors=[late]) from None


def withdraw(order: Order) -> None:
    """Cancel a waiting order. Raises Problem."""
    try:
        placement.withdraw(order)
    except (IllegalTransition, ClaimLost):
        detail = f"Order {order.id} has left pending: only a waiting order can be cancelled."
        raise Problem(status=409, code="NOT_CANCELLABLE", detail=detail) from None


def quote(body: Any) -> dict[str, Any]:
    """Both venues' quotes and the route that would be taken now. Raises Problem."""
    wanted = QuoteRequestSerializer(data=body)
    wanted.is_valid(raise_exception=True)
    try:
        return render.route_json(exchange().route(wanted.swap_request()))
    except VenueUnavailable as error:
        raise Problem(status=503, code=error.code, detail=error.detail) from None
    except OrderRejected as error:
        status = 400 if error.code == FailureCode.INSUFFICIENT_LIQUIDITY else 404
        raise Problem(status=status, code=error.code, detail=error.detail) from None
