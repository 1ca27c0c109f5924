"""One attempt of one order: routing → building → submitted → confirmed, and taking over.

Nothing here loops over attempts: a failed attempt is stored, and the task's retry policy or the
dispatcher brings the order back. All orders of a process are coroutines on one event loop: what
several ask of PostgreSQL at the same moment is asked together, what is rare waits in a thread.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg
import structlog
from django.conf import settings

from dex.errors import OrderRejected, SlippageExceeded, VenueUnavailable
from dex.exchange import Exchange, open_exchange
from dex.tokens import BY_SYMBOL
from dex.types import Fill, Route, Swap, SwapRequest, SwapState, SwapStatus
from orders import claims, database, loop, render, requestid
from orders.executors import EXECUTORS
from orders.lifecycle import ClaimLost, Move, Step, advance_with_others, failure, move_of
from orders.models import RETRYABLE_CODES, FailureCode, Order, Status
from orders.once import once_per_loop
from orders.problems import DATABASE_AWAY
from orders.threads import in_thread

log = structlog.get_logger(__name__)

# Whoever waits for the chain looks up so often: at its lease, and whether it has to leave.
LOOK_UP_SECONDS = 0.5
# Between two sends of the same bytes, while the chain has not seen them.
RESEND_SECONDS = 1.0
# What a worker that was told to stop has not brought to an end by then, it hands over.
HAND_OVER_SECONDS = 5.0
# After the database was away: how often, and how many seconds apart, a worker tries to hand over.
RELEASE_PAUSES = (0.0, 1.0, 2.0, 4.0)

# A new attempt has no venue, quote or transaction yet; the events keep those of the last one.
NO_ROUTE_YET = {
    "venue": "",
    "expected_amount_out": None,
    "min_amount_out": None,
    "fee": None,
    "fee_token": "",
    "price_impact": None,
    "tx_hash": "",
}


# Of the database, not of the order: another worker, or another release, may go on with it.
BROKEN = (*DATABASE_AWAY, psycopg.ProgrammingError)
UNDECIDED = SwapState(status=SwapStatus.PENDING)


class RetryLater(Exception):
    """The attempt failed for a passing reason; the order is pending and due again later."""


class HandedOver(Exception):
    """This worker is about to end: another one goes on with the order."""


def execute_order(order_id: str, *, may_go_on: Callable[[], bool] = lambda: False) -> None:
    """Run the next attempt of this order, or of the first that may run where this one may not.

    Then, as long as `may_go_on` says so, of whatever may run. Each order is claimed when the one
    before has come to its end here: none waits for another. Raises RetryLater when this order is
    pending again for another attempt. The calling thread waits; the work is done on the loop.
    """
    if not leaving.is_set():  # else the dispatcher finds the order for another worker
        loop.run(run_in_turn(order_id, may_go_on))


async def run_in_turn(hinted: str, may_go_on: Callable[[], bool]) -> None:
    try:
        order = await claims.claim(hinted)
        while order is not None:
            order = await run(order, hinted, may_go_on)
    except BROKEN as reason:
        log.warning("claim.failed", order_id=hinted, reason=str(reason).strip())


async def run(order: Order, hinted: str, may_go_on: Callable[[], bool]) -> Order | None:
    """One attempt of a claimed order; answers the next one, claimed, where the task goes on.

    Raises RetryLater of the hinted order. Any other's own hint, or the dispatcher, brings it back.
    """
    with requestid.logged(order.request_id):
        try:
            move = await attempt(order, exchange())
            again = order.id == hinted and move is not None and move["retry_in"] is not None
            go_on = not again and not leaving.is_set() and may_go_on()
            if move is not None and not go_on:
                move["rings"] = True  # the room that is made is not used here
            following = await claims.end(order, move, go_on=go_on)
        except (HandedOver, *BROKEN) as reason:
            log.warning("execution.broken_off", order_id=order.id, reason=str(reason).strip())
            await hand_over(order)
            return None
    if again and order.status == Status.PENDING:  # as it was stored
        raise RetryLater(f"attempt {order.attempt} of {settings.ORDER_MAX_ATTEMPTS} is due later")
    return following


async def hand_over(order: Order) -> None:
    """Give the order up, wherever it stands; if that fails as well, its lease runs out."""
    for pause in RELEASE_PAUSES:
        await asyncio.sleep(pause)
        with suppress(*BROKEN):
            await in_thread(claims.release, order)
            return
        if gone.is_set():
            return


class Flag:
    """An Event that nobody waits for. A signal may come while another is handled, and would wait
    for that one's lock for ever."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def clear(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set


# Set when this process was told to stop, and when its patience with running orders has ended.
leaving, gone = Flag(), Flag()


def leave() -> None:
    """Take no order more, and hand over what is not at its end in HAND_OVER_SECONDS.

    A signal handler may call it: no thread is started, as the signal may come while one is.
    """
    if leaving.is_set():
        return
    leaving.set()
    loop.soon(lambda: asyncio.get_running_loop().call_later(HAND_OVER_SECONDS, gone.set))


async def attempt(order: Order, exchange: Exchange) -> Move | None:
    """Execute a claimed order; answers the move that is left to make, its end or its next attempt.

    None where there is nothing more to write: the order is another worker's, or its transaction
    may still land and the next worker has to ask. Raises HandedOver, and those of BROKEN.
    """
    try:
        if order.status == Status.SUBMITTED:
            swap = await in_thread(claims.live_swap, order, swap_request(order))
            state = UNDECIDED
        else:
            swap = await submit(order, exchange)
            state = await send(order, swap, exchange)
        if not state.is_final:
            state = await await_landing(order, swap, exchange)
        return decided(order, state)
    except ClaimLost as lost:
        log.info("claim.lost", reason=str(lost))
        return None
    except (HandedOver, *BROKEN):
        raise
    except Exception as error:
        if order.status != Status.SUBMITTED:
            return unsent(order, error)
        log.exception("execution.bug", order_id=order.id, status=order.status)
        return None  # whatever was raised: a submitted order is ended by its chain alone


async def submit(order: Order, exchange: Exchange) -> Swap:
    """Route, sign and store the signature: from here on the transaction may be sent.

    Where signing waits for nothing, the decision is stored together with the signature.
    """
    route = await EXECUTORS[order.order_type].choose_route(swap_request(order), exchange)
    building = Step(Status.BUILDING, data=render.route_json(route), changes=route_columns(route))
    swap = exchange.build_at_once(route)
    via = building if swap else None
    if swap is None:
        await advance_with_others(order, **building._asdict())
        swap = await exchange.build(route)
    try:
        await advance_with_others(
            order,
            Status.SUBMITTED,
            data={"txHash": swap.signature, "venue": swap.venue},
            changes={"tx_hash": swap.signature},
            swap=swap,
            via=via,
        )
    except ClaimLost:
        if await is_late(order):
            detail = "its deadline passed before it was sent"
            raise OrderRejected(FailureCode.DEADLINE_EXCEEDED, detail) from None
        raise
    return swap


async def is_late(order: Order) -> bool:
    """Whether the order's own deadline forbids sending anything more."""
    return order.deadline_at is not None and order.deadline_at <= await in_thread(database.now)


async def send(order: Order, swap: Swap, exchange: Exchange) -> SwapState:
    """Hand the bytes over, if the order's deadline has not passed; what the chain says of them.

    Whether they arrived without an answer is only ever learned from the chain's status. So it is
    where they are refused: another worker may have sent them to a chain that took them.
    """
    try:
        return await exchange.send(swap, before=order.deadline_at)
    except VenueUnavailable as error:
        log.warning("send.unanswered", order_id=order.id, tx_hash=swap.signature, error=str(error))
    except OrderRejected as error:
        # Each time it is sent again, so without its stack.
        log.error("send.refused", order_id=order.id, tx_hash=swap.signature, error=str(error))  # noqa: TRY400
    return UNDECIDED


async def await_landing(order: Order, swap: Swap, exchange: Exchange) -> SwapState:
    """Ask until the chain has decided; send the same bytes again while it has not seen them.

    Raises ClaimLost, HandedOver.
    """
    renewed, sent, answered = time.monotonic(), float("-inf"), True
    with exchange.watch(swap) as watch:
        while True:
            try:
                state = await watch.next_state(LOOK_UP_SECONDS)
            except VenueUnavailable as error:
                if answered:  # said once
                    log.warning("status.unanswered", order_id=order.id, error=str(error))
                state, answered = UNDECIDED, False
            if state.is_final:
                return state
            if time.monotonic() - renewed > settings.ORDER_LEASE_SECONDS / 3:
                await in_thread(claims.renew, order)
                renewed = time.monotonic()
            unseen = state.status is SwapStatus.UNKNOWN
            if unseen and time.monotonic() - sent > RESEND_SECONDS and not await is_late(order):
                await in_thread(claims.renew, order)  # a failover may have forgotten the order
                await send(order, swap, exchange)
                sent = time.monotonic()
            if gone.is_set():
                raise HandedOver("this worker was told to stop")


def unsent(order: Order, error: Exception) -> Move:
    """The end of an attempt that has submitted nothing."""
    if isinstance(error, VenueUnavailable | SlippageExceeded):
        return retried(order, error.code, error.detail)
    if isinstance(error, OrderRejected):
        return failed(order, error.code, error.detail)
    log.exception("execution.bug", order_id=order.id, status=order.status)
    return failed(order, FailureCode.INTERNAL, "a fault of the engine; its log has the details")


def decided(order: Order, state: SwapState) -> Move:
    """What the chain's decision makes of a submitted order: its end, or its next attempt."""
    if state.status is SwapStatus.LANDED:
        return confirmed(order, state.fill)
    ends = retried if state.error_code in RETRYABLE_CODES else failed
    return ends(order, state.error_code, state.error)


def confirmed(order: Order, fill: Fill | None) -> Move:
    if fill is None:
        raise AssertionError(f"{order.tx_hash} landed without a fill")
    filled = fill.amount_out
    if filled < (order.min_amount_out or 0) or fill.amount_in != order.amount_in:
        # The chain has decided: it is confirmed. A venue's fault, and somebody has to look at it.
        log.error(
            "fill.not_as_signed",
            order_id=order.id,
            tx_hash=order.tx_hash,
            amount_in=fill.amount_in,
            amount_out=filled,
            min_amount_out=order.min_amount_out,
        )
    order.amount_out = filled
    return move_of(
        order,
        Status.CONFIRMED,
        data=render.fill_json(order),
        changes={"amount_out": filled},
    )


def retried(order: Order, code: str, message: str) -> Move:
    """Back to pending for the next attempt, or failed when there is none left."""
    if order.attempt >= settings.ORDER_MAX_ATTEMPTS:
        return failed(order, code, message)
    delay = settings.ORDER_RETRY_BASE_SECONDS * 2 ** (order.attempt - 1)
    error = {"code": code, "message": message}
    return move_of(
        order, Status.PENDING, data={"error": error}, changes=NO_ROUTE_YET, retry_in=delay
    )


def failed(order: Order, code: str, message: str) -> Move:
    return move_of(order, Status.FAILED, **failure(code, message))


def swap_request(order: Order) -> SwapRequest:
    return SwapRequest(
        token_in=BY_SYMBOL[order.token_in],
        token_out=BY_SYMBOL[order.token_out],
        amount_in=int(order.amount_in),
        slippage_bps=order.slippage_bps,
        order_id=order.id,
        attempt=order.attempt,
    )


def route_columns(route: Route) -> dict[str, Any]:
    """What the order's row keeps of the decision; the event has all of it."""
    fee, fee_token = route.fee
    return {
        "venue": route.venue,
        "expected_amount_out": route.amount_out,
        "min_amount_out": route.min_amount_out,
        "fee": fee,
        "fee_token": fee_token.symbol,
        "price_impact": route.price_impact,
    }


@once_per_loop
def exchange() -> Exchange:
    """The running event loop's access to the venues."""
    return open_exchange(replace(settings.DEX, dsn=database.conninfo()))


async def prepare() -> None:
    """Load the key now, and not with the first order. Raises KeypairFileError."""
    exchange().prepare()
