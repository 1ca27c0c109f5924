"""Locust: market orders at a steady rate, each followed on the WebSocket to its end.

    locust -f locustfiles/orders.py --headless --host http://127.0.0.1:3000

ORDERS_PER_MINUTE (100) and RUN_TIME (1m) come from the environment. Users and spawn rate follow
from them unless given: the first order leaves at once and the rest evenly. Orders under way at the
end are waited for. Both WebSocket times count from the sending of the POST. API_KEY, if set,
signs in.
"""

import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

import locust.stats
from locust import HttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from websocket import ABNF, WebSocketException, WebSocketTimeoutException, create_connection

Event = dict[str, Any]

PATH = "/api/orders/execute"


def rate(text: str) -> float:
    try:
        if 0 < (found := float(text)) < float("inf"):
            return found
    except ValueError:
        pass
    sys.exit(f"ORDERS_PER_MINUTE={text}: a number above 0 is expected (RATE of `make load`)")


ORDERS_PER_MINUTE = rate(os.environ.get("ORDERS_PER_MINUTE") or "100")
# Each user's own pace by default: longer than an order takes, so that none is late for its next.
SECONDS_PER_USER = 12
TIMEOUT_SECONDS = 60

# The legal moves of docs/order_lifecycle.md; "" is before the first event.
MOVES = {
    "": {"pending"},
    "pending": {"routing", "failed", "cancelled", "expired"},
    "routing": {"routing", "building", "pending", "failed"},
    "building": {"submitted", "routing", "pending", "failed"},
    "submitted": {"confirmed", "pending", "failed"},
    "confirmed": set(),
    "failed": set(),
    "cancelled": set(),
    "expired": set(),
}


class Trade(NamedTuple):
    token_in: str
    token_out: str
    smallest: str  # the amount is 1 to 100 times this


TRADES = [
    Trade("SOL", "USDC", "0.01"),
    Trade("USDC", "SOL", "1.5"),
    Trade("JUP", "USDC", "1.25"),
    Trade("RAY", "SOL", "0.5"),
    Trade("BONK", "USDT", "50000"),
]


class WrongAnswer(Exception):
    """What the engine sent about an order breaks its contract, or the order was not confirmed."""


def set_defaults(parser: LocustArgumentParser) -> None:
    locust.stats.CONSOLE_STATS_INTERVAL_SEC = 10
    parser.set_defaults(
        num_users=max(1, round(ORDERS_PER_MINUTE * SECONDS_PER_USER / 60)),
        spawn_rate=ORDERS_PER_MINUTE / 60,
        run_time=os.environ.get("RUN_TIME") or "1m",
        stop_timeout=TIMEOUT_SECONDS + 5,
    )


def check_host(environment: Environment, **_: object) -> None:
    if not (host := environment.host):  # a worker hears of it later, and so may the web page
        return
    if not host.startswith(("http://", "https://")):
        sys.exit(f"--host {host}: an address such as http://127.0.0.1:3000 is expected")
    environment.host = host.rstrip("/")


events.init_command_line_parser.add_listener(set_defaults)  # type: ignore[no-untyped-call]
events.init.add_listener(check_host)  # type: ignore[no-untyped-call]


class Trader(HttpUser):
    def on_start(self) -> None:
        if key := os.environ.get("API_KEY"):
            self.client.headers["Authorization"] = f"Bearer {key}"
        self.due = time.monotonic()

    def wait_time(self) -> float:
        """Until this user's next order is due: a fixed timetable, however long an order took."""
        assert self.environment.parsed_options is not None  # noqa: S101
        self.due += self.environment.parsed_options.num_users * 60 / ORDERS_PER_MINUTE
        return max(0.0, self.due - time.monotonic())

    @task
    def trade(self) -> None:
        sent = time.perf_counter()
        with self.client.post(PATH, json=new_order(), catch_response=True) as answer:
            if answer.status_code != 201:
                if answer.status_code:  # 0: no connection, which Locust words itself
                    answer.failure(f"{answer.status_code}: {answer.text}")
                return
            order_id = answer.json()["orderId"]
            sign_in = answer.request.headers.get("Authorization")
        self.follow(order_id, sent, {"Authorization": sign_in} if sign_in else {})

    def follow(self, order_id: str, sent: float, headers: Mapping[str, str]) -> None:
        """Report the order's first event and its last, or what was wrong in between."""
        url = f"{self.client.base_url.replace('http', 'ws', 1)}{PATH}?orderId={order_id}"
        seen: list[Event] = []
        ended = 0.0
        try:
            for event in events_of(url, headers):
                ended = time.perf_counter() - sent
                if not seen:
                    self.report("time to first status", ended)
                seen.append(event)
            check(seen)
        except (WrongAnswer, WebSocketException, OSError) as error:
            last = f"seq {seen[-1]['seq']} {seen[-1]['status']}" if seen else "no event"
            reason = error if isinstance(error, WrongAnswer) else repr(error)
            told = WrongAnswer(f"{order_id} after {last}: {reason}")
            self.report("time to confirmed", time.perf_counter() - sent, told)
        else:
            self.report("time to confirmed", ended)

    def report(self, name: str, seconds: float, error: Exception | None = None) -> None:
        self.environment.events.request.fire(
            request_type="WS",
            name=name,
            response_time=seconds * 1000,
            response_length=0,
            exception=error,
            context={},
        )


def new_order() -> dict[str, str]:
    trade = secrets.choice(TRADES)
    amount = Decimal(trade.smallest) * (1 + secrets.randbelow(100))
    return {"tokenIn": trade.token_in, "tokenOut": trade.token_out, "amount": str(amount)}


def events_of(url: str, headers: Mapping[str, str]) -> Iterator[Event]:
    """Until the server closes with 1000. Raises WrongAnswer, WebSocketException, OSError."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    socket = create_connection(url, TIMEOUT_SECONDS, header=headers, suppress_origin=True)
    try:
        while True:
            socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                received = socket.recv_frame()  # type: ignore[no-untyped-call]
            except WebSocketTimeoutException:
                raise WrongAnswer(f"not ended and closed within {TIMEOUT_SECONDS} s") from None
            if received.opcode == ABNF.OPCODE_CLOSE:
                if (code := int.from_bytes(received.data[:2], "big")) != 1000:
                    raise WrongAnswer(f"closed with {code or 'no code'}")
                return
            if received.opcode == ABNF.OPCODE_PING:
                socket.pong(received.data)
                continue
            frame: Event = json.loads(received.data)
            if frame["type"] == "error":
                raise WrongAnswer(f"{frame['code']}: {frame['detail']}")
            if frame["type"] == "order.status":
                yield frame
    finally:
        # Not close(), and no reply to the server's: Daphne may have reset the connection by then.
        socket.shutdown()  # type: ignore[no-untyped-call]


def check(seen: list[Event]) -> None:
    """Raises WrongAnswer unless these are all events of a legal life that ended confirmed."""
    seqs = [event["seq"] for event in seen]
    if not seqs or seqs != list(range(1, len(seqs) + 1)):
        raise WrongAnswer(f"seqs are {seqs}")
    for before, after in pairwise(["", *(event["status"] for event in seen)]):
        if after not in MOVES[before]:
            raise WrongAnswer(f"{before or 'nothing'} was followed by {after}")
    if MOVES[seen[-1]["status"]]:
        raise WrongAnswer("closed with 1000 before the end")
    if seen[-1]["status"] != "confirmed":
        raise WrongAnswer(f"ended {seen[-1]['status']}: {seen[-1]['data']}")
