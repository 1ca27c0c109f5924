"""The WebSocket: every event of an order from seq 1, whenever the socket opens."""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from orders import connecting, intake, keys, limits, lookups, presence, queries
from orders.bells import MOST_BEHIND, Bell, Inbox, of_one_order
from orders.events import iso, order_group, owner_group
from orders.hub import hub
from orders.keys import TRUST_SECONDS
from orders.models import TERMINAL, Order
from orders.parsing import loads
from orders.problems import DATABASE_AWAY, Problem, problem_of
from orders.serializers import FRAMES, reference
from orders.threads import in_socket_thread

log = structlog.get_logger(__name__)

Frame = dict[str, Any]
PROTOCOL = 1
HEARTBEAT_SECONDS = 15.0
# How long a heartbeat may be late because PostgreSQL does not answer.
CHECK_SECONDS = 1.0
MAX_FOLLOWED = 1000
MAX_SOCKETS = 1000  # of one caller in one process, where requests are limited
open_of: Counter[str] = Counter()
# Orders of which a socket knows what it was sent, though it follows them no more.
RECENT = 2 * MOST_BEHIND
# The close code of a refusal, by the status of its problem.
CLOSE_CODES = {400: 4400, 401: 4401, 403: 4403, 404: 4404, 429: 4429}
TRY_AGAIN_LATER = 1013
GOING_AWAY = 1001
# After an event could not be read for a socket.
AGAIN_SECONDS = 1.0
# How long an answer that is on its way may hold up the goodbye.
FAREWELL_SECONDS = 3.0


@dataclass
class Following:
    """One order on one socket: no event up to `after` is sent, and none up to `last` again."""

    after: int
    last: int


class OrderConsumer(AsyncWebsocketConsumer):
    """One socket. What arrives for it waits in its inbox; `deliver` keeps seqs in order."""

    # The process's hub listens to the channel layer for all sockets: one that opens while Redis
    # is away is served like any other.
    channel_layer_alias = ""

    def __init__(self) -> None:
        super().__init__()
        self.inbox = Inbox()
        self.following: dict[str, Following] = {}
        self.following_all = False
        self.sent: dict[str, int] = {}  # the last seq of each of RECENT
        self.has_place = False
        self.pace = limits.Pace()
        self.closing = False
        self.close_after = ""  # the order of the address, if it names one
        self.sending = asyncio.Lock()
        self.tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        number = presence.opened()
        hub()  # tells the other web processes how many there are
        try:
            await super().__call__(scope, receive, scope.get("send_frame", send))
        finally:  # also where Daphne cancels it, which waits no longer for what it waits for
            presence.closed(number)
            self.let_go()

    async def connect(self) -> None:
        await self.accept()  # a close code reaches the client only after this
        self.start(self.farewell(self.scope["shutdown"]))  # type: ignore[typeddict-item]
        try:
            self.caller = await connecting.authenticate(self.scope)
            self.owner_id = self.caller.owner_id
            self.trusted_until = self.now() + TRUST_SECONDS
            self.bucket = limits.bucket_of(self.caller, connecting.address(self.scope))
            self.take_place()
            await self.spend()
            wanted = connecting.subscription(self.scope)
            await self.say(type="hello", protocol=PROTOCOL, serverTime=iso(datetime.now(UTC)))
            self.start(self.pump(), self.heartbeat())
            if wanted is not None:
                self.close_after = wanted["orderId"]
                async with self.sending:
                    await self.replay(wanted["orderId"], wanted["afterSeq"])
        except Exception as error:  # every refusal is said before the socket closes
            await self.refuse(problem_of(error))

    def let_go(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.tasks.clear()
        if self.has_place:
            open_of[self.bucket] -= 1
            if not open_of[self.bucket]:
                del open_of[self.bucket]
        for order_id in list(self.following):
            self.unfollow(order_id)
        if self.following_all:
            hub().leave(owner_group(self.owner_id), self.inbox)

    def start(self, *loops: Any) -> None:
        self.tasks += [asyncio.create_task(loop) for loop in loops]

    async def refuse(self, problem: Problem, **answered: str) -> None:
        self.closing = True
        await self.say(**problem.as_frame(), **answered)
        await self.close(CLOSE_CODES.get(problem.status, TRY_AGAIN_LATER))

    async def farewell(self, shutdown: asyncio.Event) -> None:
        """When this process stops: the client goes on at another one, with `afterSeq`."""
        await shutdown.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS), self.sending:
                pass  # an order that is being placed is acknowledged first
        self.closing = True
        await self.say(type="server.shutdown", timestamp=iso(datetime.now(UTC)))
        await self.close(GOING_AWAY)

    async def say(self, **frame: Any) -> None:
        await self.send(text_data=json.dumps(frame))

    async def heartbeat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await self.say(type="heartbeat", timestamp=iso(datetime.now(UTC)))
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await self.check_caller()
            except (TimeoutError, *DATABASE_AWAY) as error:  # asked again after the next one
                log.debug("socket.unchecked", error=repr(error))
            except Problem as problem:
                async with self.sending:
                    await self.refuse(problem)
                return

    # What the client says -----------------------------------------------------------------------

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """A wrong frame is answered with an `error` frame; the socket stays."""
        if self.closing:
            return
        said, frame = None, None
        if wait := self.pace.wait(self.now()):
            await asyncio.sleep(wait)
        try:
            said = self.parse(text_data)
            frame = self.checked(said)
            await self.check_caller()
            await getattr(self, "on_" + frame["type"].replace(".", "_"))(frame)
        except Exception as error:  # problem_of() logs what is a fault of ours
            is_wrong = frame is None
            await self.answer(said, await self.counted(error) if is_wrong else problem_of(error))

    async def answer(self, said: Any, problem: Problem) -> None:
        """Not in receive(): the problem knows where it passed, and a name there would keep both."""
        request_id = reference(said)
        answered = {} if request_id is None else {"inReplyTo": request_id}
        if problem.status == 401:
            await self.refuse(problem, **answered)
        else:
            await self.say(**problem.as_frame(), **answered)

    async def counted(self, error: Exception) -> Problem:
        """Of a frame that says nothing right: it counts as a request, too."""
        try:
            await self.spend()
        except Problem as too_often:
            return too_often
        return problem_of(error)

    async def check_caller(self) -> None:
        """Raises Problem once the key this socket was opened with is revoked."""
        if self.owner_id is not None and self.now() >= self.trusted_until:
            await in_socket_thread(keys.check_still_good, self.caller)
            self.trusted_until = self.now() + TRUST_SECONDS

    def take_place(self) -> None:
        """Raises Problem where the caller has as many sockets as one may: others need some, too."""
        if settings.API_RATE_LIMIT is None:
            return
        if open_of[self.bucket] >= MAX_SOCKETS:
            detail = f"More than {MAX_SOCKETS} sockets of one caller: close some."
            raise Problem(status=429, code="TOO_MANY_SOCKETS", detail=detail)
        open_of[self.bucket] += 1
        self.has_place = True
        self.pace = limits.pace_of(self.bucket)

    async def spend(self) -> None:
        """Raises Problem where the caller has asked too often."""
        if settings.API_RATE_LIMIT is not None:
            await in_socket_thread(limits.spend, self.bucket)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def parse(self, text: str | None) -> Any:
        if text is None:
            detail = "A text frame of JSON is expected, not a binary one."
            raise Problem(status=400, code="MALFORMED", detail=detail)
        try:
            return loads(text)
        except ValueError as error:
            raise Problem(status=400, code="MALFORMED", detail=f"Not JSON: {error}.") from None

    def checked(self, frame: Any) -> Frame:
        kind = frame.get("type") if isinstance(frame, dict) else None
        if not isinstance(kind, str) or kind not in FRAMES:
            known = ", ".join(FRAMES)
            detail = f"A JSON object with a known type is expected; known are {known}."
            raise Problem(status=400, code="UNKNOWN_TYPE", detail=detail)
        serializer = FRAMES[kind](data=frame)
        serializer.is_valid(raise_exception=True)
        return {**serializer.validated_data, "type": kind}

    async def on_ping(self, frame: Frame) -> None:
        answered = {"requestId": frame["requestId"]} if "requestId" in frame else {}
        await self.say(type="pong", timestamp=iso(datetime.now(UTC)), **answered)

    async def on_subscribe(self, frame: Frame) -> None:
        if frame.get("scope") == "all":
            await hub().join(owner_group(self.owner_id), self.inbox)
            self.following_all = True
            await self.say(**acknowledged(frame))
            return
        async with self.sending:  # of an order that is followed the last event may be on its way
            if "afterSeq" not in frame and frame["orderId"] in self.following:
                await self.say(**acknowledged(frame))  # and it goes on
            else:
                after = frame.get("afterSeq", 0)
                await self.replay(frame["orderId"], after, ack=acknowledged(frame))

    async def on_unsubscribe(self, frame: Frame) -> None:
        async with self.sending:
            if frame.get("scope") == "all":
                hub().leave(owner_group(self.owner_id), self.inbox)
                self.inbox.forget(owner_group(self.owner_id))
                self.following_all = False
            else:
                self.unfollow(frame["orderId"])
            await self.say(**acknowledged(frame))

    async def on_order_submit(self, frame: Frame) -> None:
        await self.spend()
        async with self.sending:  # what `scope: all` hears of the order meanwhile waits
            if self.closing:
                return  # nobody would hear of this order: it is not placed
            self.require_room()
            placed = await intake.place(frame["order"], self.owner_id, "/order")
            answer = {**placed.as_json(), "replayed": placed.replayed}
            request_id = frame.get("requestId")
            await self.say(type="ack", action="order.submit", requestId=request_id, **answer)
            if placed.order_id not in self.following:
                await self.follow_placed(placed.order_id)

    async def on_order_cancel(self, frame: Frame) -> None:
        await self.spend()
        order = await self.own_order(frame["orderId"])
        await in_socket_thread(intake.withdraw, order)
        answer = {"orderId": order.id, "status": order.status}
        request_id = frame.get("requestId")
        await self.say(type="ack", action="order.cancel", requestId=request_id, **answer)

    async def own_order(self, order_id: str) -> Order:
        found = await lookups.order(order_id, self.owner_id)
        if found is None:
            raise no_such_order(order_id)
        return found.order

    # What the client hears ----------------------------------------------------------------------

    async def replay(self, order_id: str, after: int, *, ack: Frame | None = None) -> None:
        """Join first, then read: nothing can fall between the two. The caller holds `sending`.

        `ack` is said before the first event.
        """
        order = await self.own_order(order_id)
        before = self.following.get(order_id)
        if before is None:
            self.require_room()
        await hub().join(order_group(order_id), self.inbox)
        following = self.following[order_id] = Following(after, min(after, order.seq))
        try:
            if ack is not None:
                await self.say(**ack)
            await self.read_rows(order_id, following, replayed=True)
        except Exception:
            if before is None:  # what was sent of it is what was before
                self.following.pop(order_id, None)
                hub().leave(order_group(order_id), self.inbox)
            else:
                self.following[order_id] = before
            raise
        if order.status in TERMINAL and order_id in self.following:
            await self.end(order_id)  # the client had every event before, or they are dropped

    async def follow_placed(self, order_id: str) -> None:
        """An order that was acknowledged: whatever happens now, it is no refusal of the order."""
        try:
            await self.replay(order_id, self.sent.get(order_id, 0))
        except Exception as error:  # the hub's poll brings its events
            log.warning("socket.replay_failed", order_id=order_id, error=repr(error))
            await hub().join(order_group(order_id), self.inbox)
            self.following[order_id] = Following(0, self.sent.get(order_id, 0))

    def require_room(self) -> None:
        """Raises Problem where the socket follows as many orders as one may."""
        if len(self.following) >= MAX_FOLLOWED:
            detail = f"A socket follows at most {MAX_FOLLOWED} orders: unsubscribe from some."
            raise Problem(status=429, code="TOO_MANY_SUBSCRIPTIONS", detail=detail)

    def unfollow(self, order_id: str) -> None:
        if (following := self.following.pop(order_id, None)) is not None:
            hub().leave(order_group(order_id), self.inbox)
            self.remember(order_id, following.last)

    def remember(self, order_id: str, seq: int) -> None:
        self.sent.pop(order_id, None)
        self.sent[order_id] = seq
        if len(self.sent) > RECENT:
            del self.sent[next(iter(self.sent))]

    async def pump(self) -> None:
        """Bring what the doorbells announce to the client, until the socket closes."""
        while True:
            await self.inbox.filled()
            async with self.sending:
                if self.inbox.overflowed:
                    await self.refuse(left_behind())
                    return
                if self.inbox.is_empty():
                    continue  # its group was left meanwhile
                bell = self.inbox.take()
                try:
                    await self.deliver(bell)
                    continue
                except Exception as error:  # the next bell or poll finds the rows again
                    log.warning("socket.delivery_failed", order_id=bell.order_id, error=repr(error))
                if of_one_order(bell.group):
                    hub().ring_again(bell.order_id)
                    continue
                # Also of an order that is followed by itself: it may not be when this is read.
                self.inbox.put_back(bell)
            await asyncio.sleep(AGAIN_SECONDS)

    async def deliver(self, bell: Bell) -> None:
        following = self.following.get(bell.order_id)
        if following is None:
            if self.following_all and bell.group == owner_group(self.owner_id):
                await self.pass_on(bell)
        elif bell.frame is not None and bell.seq == following.last + 1:
            await self.forward(following, bell.frame, bell.text)
        elif bell.seq > following.last or (bell.frame is None and not of_one_order(bell.group)):
            await self.read_rows(bell.order_id, following, replayed=False)
            if bell.seq > following.last:  # read from a server that is behind
                hub().ring_again(bell.order_id)

    async def pass_on(self, bell: Bell) -> None:
        """Of an order that is followed for `scope: all` alone."""
        last = self.sent.get(bell.order_id, 0)  # when it was followed by itself
        if bell.frame is not None and bell.seq > last:
            await self.send(text_data=bell.text)
            if last:
                self.remember(bell.order_id, bell.seq)
        elif bell.frame is None:
            after = max(last, bell.seq - 1)
            for event in await in_socket_thread(
                queries.events_after, bell.order_id, self.owner_id, after
            ):
                await self.send(text_data=json.dumps(event.frame(replayed=False)))
                self.remember(bell.order_id, event.seq)

    async def read_rows(self, order_id: str, following: Following, *, replayed: bool) -> None:
        for event in await in_socket_thread(
            queries.events_after, order_id, self.owner_id, following.last
        ):
            frame = event.frame(replayed=replayed)
            await self.forward(following, frame, json.dumps(frame))

    async def forward(self, following: Following, frame: Frame, text: str) -> None:
        if frame["seq"] > following.after:  # else the client says that it has it
            await self.send(text_data=text)
        following.last = frame["seq"]
        if frame["status"] in TERMINAL:
            await self.end(frame["orderId"])

    async def end(self, order_id: str) -> None:
        """No more comes of this order."""
        self.unfollow(order_id)
        if order_id == self.close_after:
            self.closing = True
            await self.close(1000)


def acknowledged(frame: Frame) -> Frame:
    """Of a subscription or the end of one: what it said comes back."""
    said = ("scope", "orderId", "requestId")
    return {"type": "ack", "action": frame["type"]} | {n: frame[n] for n in said if n in frame}


def left_behind() -> Problem:
    detail = (
        "More orders have moved than are kept for a socket that does not keep up. Subscribe again, "
        "and read what is missing from GET /api/orders."
    )
    return Problem(status=503, code="LEFT_BEHIND", detail=detail)


def no_such_order(order_id: str) -> Problem:
    return Problem(status=404, code="NOT_FOUND", detail=f"There is no order {order_id}.")
