"""Negative controls: the engine broken on purpose. The suite must find each of them out.

`BREAKS` is what inject.py does to each process of the engine; a control says what is then done and
which of the suite's findings must come of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.faults import inject, verify
from tests.faults.clients import OVERHEARD_SECONDS, Clients
from tests.faults.fleet import Fleet
from tests.faults.scenarios import Run, eventually, freeze_once

SETTINGS = {
    "ORDER_LEASE_SECONDS": "3",
    "DEX_QUOTE_LATENCY_MS": "20",
    "DEX_SWAP_LATENCY_MS": "300-400",
}
LEASE_AND_VALIDITY = 20.0


def no_fence() -> None:
    from orders import claims, lifecycle  # noqa: PLC0415

    for owner, name in ((lifecycle, "MOVE"), (claims, "TURN")):
        setattr(owner, name, getattr(owner, name).replace("AND o.fence = m.fence", ""))
    claims.RENEW = claims.RENEW.replace(" AND fence = %(fence)s", "")


def sign_anew() -> None:
    """Taking over a submitted order makes a new attempt at once instead of asking the chain."""
    from orders import execution, lifecycle  # noqa: PLC0415
    from orders.models import Status  # noqa: PLC0415

    @inject.around(execution, "attempt")
    async def attempt(original: Any, order: Any, *rest: Any) -> Any:
        if order.status == Status.SUBMITTED:
            return lifecycle.move_of(order, Status.PENDING, data={}, retry_in=0)
        return await original(order, *rest)


def only_doorbells() -> None:
    """A socket passes on what it hears after its first read, and never looks at the rows again."""
    from orders import consumers, hub  # noqa: PLC0415

    async def deaf_poll(self: Any) -> None:
        pass

    async def deliver(self: Any, bell: Any) -> None:
        if bell.frame is not None and (following := self.following.get(bell.order_id)):
            await self.forward(following, bell.frame, bell.text)

    hub.Hub._poll = deaf_poll
    consumers.OrderConsumer.deliver = deliver


BREAKS: dict[str, Callable[[], None]] = {
    "no fence": no_fence,
    "sign anew": sign_anew,
    "only doorbells": only_doorbells,
}


@dataclass(frozen=True)
class Control:
    """Each of `findings` must be in a violation within `patience` seconds of the act."""

    name: str
    act: Callable[[Run], Awaitable[None]]
    findings: tuple[str, ...]
    patience: float = LEASE_AND_VALIDITY
    fleet: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    # What breaks it, beside BREAKS: processes that are left out, settings that are wrong.
    without: dict[str, Any] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"control: {self.name}"


@dataclass
class Outcome:
    """What the suite found of a control's `findings`, on the broken engine or on the whole one."""

    name: str
    broken: bool
    found: list[str]
    missing: int

    @property
    def as_expected(self) -> bool:
        return self.missing == 0 if self.broken else not self.found

    def __str__(self) -> str:
        engine = "broken" if self.broken else "whole"
        verdict = ("red" if self.found else "green") + ("" if self.as_expected else ", WRONGLY")
        return f"control: {self.name:<24} {engine}: {verdict}  {'; '.join(self.found)}"


async def stop_and_continue(run: Run) -> None:
    with suppress(TimeoutError):  # the worker does not find out that it was replaced
        await freeze_once(run)


async def crash_after_sending(run: Run) -> None:
    for _ in range(3):
        await run.clients.place("crash.sent")


async def lose_hints(run: Run) -> None:
    for _ in range(3):
        await run.clients.place("crash.before-hint")


async def drop_doorbells(run: Run) -> None:
    run.marks(inject.DOORBELLS_DROPPED).touch()
    await run.clients.place_all(5, rate=10)


async def place_many(run: Run) -> None:
    await run.clients.place_all(40, rate=20)


CONTROLS = [
    Control(
        "no fence",
        stop_and_continue,
        ("one-landed",),
        environment={"DEX_SWAP_LATENCY_MS": "2000-2500"},
    ),
    Control("sign anew", crash_after_sending, ("one-landed",)),
    Control(
        "no dispatcher",
        lose_hints,
        ("heard nothing after seq 1 (pending)",),
        8,
        without={"dispatchers": 0},
    ),
    Control("only doorbells", drop_doorbells, ("a socket heard nothing after", "scope: all"), 8),
    Control(
        "Celery's rate_limit only",
        place_many,
        ("starts-a-minute", "in-execution-at-once"),
        30,
        fleet={"workers": 4, "starts": 20},
        environment={"WORKER_RATE_LIMIT": "20/m", "DEX_SWAP_LATENCY_MS": "40000"},
        broken={"QUEUE_CONCURRENCY": "0", "QUEUE_RATE_LIMIT": "0"},
    ),
]


async def try_out(control: Control, seed: str, *, broken: bool = True) -> Outcome:
    """A fleet of its own, broken or whole; what of it was found out."""
    environment = {**SETTINGS, **control.environment, "DEX_SEED": seed}
    if broken:
        environment |= control.broken
        if control.name in BREAKS:
            environment["FAULTS_BREAK"] = control.name
    shape = {"webs": 1, "dispatchers": 1, **control.fleet, **(control.without if broken else {})}
    fleet = Fleet(environment, **shape)
    async with fleet.running():
        clients = Clients(fleet.urls, seed, name="control")
        await clients.overhear()
        await control.act(Run(fleet, clients, long=False))

        def found() -> list[str]:
            """The first violation of each kind that must be found."""
            violations = verify.violations(fleet, clients)
            firsts = (next((v for v in violations if f in v), "") for f in control.findings)
            return list(filter(None, firsts))

        def all_found() -> bool:
            return len(found()) == len(control.findings)

        settling = asyncio.create_task(clients.settle(control.patience))
        with suppress(TimeoutError):
            await eventually(all_found, control.patience + OVERHEARD_SECONDS + 5, every=1.0)
        settling.cancel()
        await clients.close()
        seen = found()
        return Outcome(control.name, broken, seen, len(control.findings) - len(seen))
