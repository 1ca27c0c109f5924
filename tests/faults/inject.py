"""Runs one process of the engine with faults wrapped around it from outside.

    python -m tests.faults.inject celery -A orderengine worker ...

Nothing in the product knows of this. An order says by its client order id what happens to it:
`crash.<point>.<anything>` kills the process there once, `poison.<point>.<anything>` each time,
`freeze.<point>.<anything>` stops it until somebody continues it. The first transaction of
`freeze.sent` and `slow` orders never lands. What holds for all orders is a file in FAULTS_DIR while
it is there; how often it did something is counted there as well. FAULTS_BREAK names what is broken
on purpose (controls.py).
"""

import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import django
import psycopg

import orderengine.celery  # noqa: F401 - names the settings

FAULTS_DIR = Path(os.environ.get("FAULTS_DIR", os.devnull))
HINTS_FIVEFOLD = FAULTS_DIR / "hints-fivefold"
HINTS_DROPPED = FAULTS_DIR / "hints-dropped"  # those of web processes; the dispatcher's are sent
DOORBELLS_DROPPED = FAULTS_DIR / "doorbells-dropped"
FROZEN = FAULTS_DIR / "frozen"

# Each crash point, in the order in which an order passes them.
POINTS = {
    "stored": "web: after COMMIT, before doorbell and hint",
    "before-hint": "web: after COMMIT and doorbell, before the hint",
    "claimed": "after the claim (the move to routing), before anything else",
    "built": "after the COMMIT of building, where building waits for something",
    "signed": "signed, before the COMMIT of submitted",
    "submitting": "during the COMMIT of submitted: sent to PostgreSQL, answer never read",
    "submitted": "after the COMMIT of submitted, before sending",
    "sent": "after sending",
    "landed": "landed, before it is known",
    "ending": "during the COMMIT of confirmed, which claims the next order as well",
    "before-doorbell": "after the COMMIT of confirmed, before its doorbell",
    "before-ack": "after the end, before the message is acknowledged",
}

_here = threading.local()
# In a worker, client order ids: of each order it has claimed, and of the last that a task executed.
_names: dict[str, str] = {}
_last: dict[str, str] = {}
_task = ContextVar("task", default="")  # the id of the order that its message names


def reach(point: str, client_order_id: str | None) -> None:
    """The order is at this point; die or stop if it says so."""
    if point_of(client_order_id) != point:
        return
    kind = (client_order_id or "").partition(".")[0]
    if kind == "freeze":
        freeze(client_order_id or "")
    elif kind == "poison" or first_time(FAULTS_DIR / f"{client_order_id}.crashed"):
        os.kill(os.getpid(), signal.SIGKILL)


def point_of(client_order_id: str | None) -> str:
    """Where the order wants to die or stop; empty where it does not."""
    kind, _, rest = (client_order_id or "").partition(".")
    return rest.partition(".")[0] if kind in {"crash", "poison", "freeze"} else ""


def freeze(client_order_id: str) -> None:
    """Stop this process unless one is stopped already: somebody must take the order over."""
    if first_time(FROZEN):
        FROZEN.write_text(f"{os.getpid()} {client_order_id}")
        os.kill(os.getpid(), signal.SIGSTOP)


def first_time(marker: Path) -> bool:
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def count(name: str, times: int = 1) -> None:
    with (FAULTS_DIR / f"{name}.counted").open("ab") as counted:
        counted.write(b"." * times)


def around(owner: Any, name: str) -> Callable[[Callable[..., Any]], None]:
    """Replaces a function; the replacement gets the original first."""
    original = getattr(owner, name)

    def put(replacement: Callable[..., Any]) -> None:
        setattr(owner, name, lambda *args, **named: replacement(original, *args, **named))

    return put


def wrap_web() -> None:
    from orders import events, hints  # noqa: PLC0415

    @around(events, "publish")
    def publish(original: Any, event: Any) -> None:
        if event.seq == 1:
            _here.placing = event.data.get("clientOrderId")
            reach("stored", _here.placing)
        elif event.status == "confirmed":
            reach("before-doorbell", _names.get(event.order_id))
        original(event)

    @around(hints, "send_soon")
    def send_soon(original: Any, order_ids: Any) -> None:
        reach("before-hint", getattr(_here, "placing", None))
        if HINTS_DROPPED.exists():
            count(HINTS_DROPPED.name)
        else:
            original(order_ids)

    @around(hints, "send")
    def send(original: Any, order_id: str) -> bool:
        if not HINTS_FIVEFOLD.exists():
            return original(order_id)
        count(HINTS_FIVEFOLD.name, 4)
        return [original(order_id) for _ in range(5)][-1]


def wrap_doorbell() -> None:
    from orders import events  # noqa: PLC0415

    original = events.send

    async def send(rung: Any, connection: Any) -> None:
        if DOORBELLS_DROPPED.exists():
            count(DOORBELLS_DROPPED.name, len(rung))
        else:
            await original(rung, connection)

    events.send = send


def wrap_worker() -> None:
    from celery.worker.request import Request  # noqa: PLC0415

    from dex.exchange import Exchange  # noqa: PLC0415
    from orders import claims, execution, lifecycle  # noqa: PLC0415

    submitting: set[str] = set()  # ids of orders

    @around(execution, "run_in_turn")
    async def run_in_turn(original: Any, hinted: str, *rest: Any) -> Any:
        _task.set(hinted)
        return await original(hinted, *rest)

    @around(claims, "claimed")
    def claimed(original: Any, row: Any) -> Any:
        order = original(row)
        name = _names[order.id] = order.client_order_id or ""
        _last[_task.get()] = name
        reach("claimed", name)
        return order

    @around(Exchange, "build_at_once")
    def build_at_once(original: Any, exchange: Any, route: Any) -> Any:
        name = _names.get(route.request.order_id, "")
        return None if point_of(name) == "built" else original(exchange, route)

    @around(execution, "advance_with_others")
    async def advance(original: Any, order: Any, to: str, **rest: Any) -> None:
        if to == "submitted":
            reach("signed", order.client_order_id)
            submitting.add(order.id)
        await original(order, to, **rest)
        if to in {"building", "submitted"}:
            reach("built" if to == "building" else "submitted", order.client_order_id)

    @around(lifecycle, "write")
    async def write(original: Any, moves: Any) -> Any:
        for order_id in submitting & {move["id"] for move in moves if "signature" in move}:
            if wants_crash("submitting", _names[order_id]):
                send_and_forget(lifecycle.MOVE, lifecycle.parameters(moves))
                reach("submitting", _names[order_id])
        return await original(moves)

    @around(claims, "write_both")
    async def write_both(original: Any, moves: Any, wanted: Any) -> Any:
        for order_id in {move["id"] for move in moves if move["to"] == "confirmed"}:
            if wants_crash("ending", _names[order_id]):
                send_and_forget(*claims.statement_of(moves, wanted))
                reach("ending", _names[order_id])
        return await original(moves, wanted)

    @around(execution, "send")
    async def send(original: Any, order: Any, swap: Any, exchange: Any) -> Any:
        state = await original(order, swap, exchange)
        reach("sent", order.client_order_id)
        return state

    @around(execution, "decided")
    def decided(original: Any, order: Any, state: Any) -> Any:
        if state.fill:
            reach("landed", order.client_order_id)
        return original(order, state)

    @around(Request, "acknowledge")
    def acknowledge(original: Any, request: Any) -> None:
        reach("before-ack", _last.pop(request.id, None))
        original(request)


def wants_crash(point: str, name: str) -> bool:
    return name.startswith(f"crash.{point}.") and not (FAULTS_DIR / f"{name}.crashed").exists()


def send_and_forget(statement: str, params: Any) -> None:
    """It is on its way to PostgreSQL, on a connection whose answer nobody reads."""
    from orders import database  # noqa: PLC0415

    conn = psycopg.connect(database.conninfo(), autocommit=True)
    conn.pgconn.send_query(psycopg.ClientCursor(conn).mogrify(statement, params).encode())
    conn.pgconn.flush()


def drop_first_transactions() -> None:
    """So that an order goes on to a second attempt, and stays in execution for 12 s at least."""
    from dex.simulation import settlement  # noqa: PLC0415

    @around(settlement.Settlement, "outcome_of")
    def outcome_of(original: Any, rules: Any, transaction: Any, height: int) -> Any:
        name = _names.get(transaction.order_id, "")
        if name.startswith(("freeze.sent.", "slow.")) and transaction.attempt == 1:
            return settlement.EXPIRED
        return original(rules, transaction, height)


def main() -> None:
    program = sys.argv[1]
    if program == "daphne":
        import daphne.server  # noqa: F401, PLC0415 - installs its reactor before anybody else
    django.setup()
    wrap_web()
    wrap_doorbell()
    wrap_worker()
    drop_first_transactions()
    if broken := os.environ.get("FAULTS_BREAK"):
        from tests.faults import controls  # noqa: PLC0415

        controls.BREAKS[broken]()
    sys.argv = sys.argv[1:]
    if program == "manage.py":
        runpy.run_path("manage.py", run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=False)


if __name__ == "__main__":
    main()
