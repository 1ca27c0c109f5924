"""`manage.py watch [orderId]`: the events of an order, or of all, one line each as they arrive.

Signs in with API_KEY, where that is set.
"""

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

try:
    from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
    from websockets.sync.client import ClientConnection, connect
except ImportError:
    sys.exit("watch needs the package websockets: pip install -r requirements-dev.txt")

Event = dict[str, Any]

PATH = "/api/orders/execute"
RECONNECT_SECONDS = 1.0
MOST_FOLLOWED = 1_000  # orders of one socket
DONE = 1000  # the close code of an order's socket after its last event
TERMINAL = {"confirmed", "failed", "cancelled", "expired"}


class Command(BaseCommand):
    help = "Follows an order until its end (exit code 0 if confirmed), or all orders until Ctrl-C."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("orderId", nargs="?", help="all orders if left out")
        parser.add_argument(
            "--url",
            default=f"http://127.0.0.1:{settings.PORT}",
            help="of the engine, such as https://orders.example.com (default %(default)s)",
        )

    def handle(self, *_: Any, url: str, **options: Any) -> None:
        order_id: str | None = options["orderId"]
        if not url.startswith(("http://", "https://")):
            raise CommandError(f"--url {url}: expected http://... or https://...")
        address = url.rstrip("/").replace("http", "ws", 1) + PATH
        try:
            for event in follow(address, order_id):
                print(line(event, named=order_id is None), flush=True)
                if order_id is not None and event["status"] in TERMINAL:
                    sys.exit(event["status"] != "confirmed")
        except KeyboardInterrupt:
            sys.exit(130)


def follow(address: str, order_id: str | None) -> Iterator[Event]:
    """Each event once, however often the connection drops. Raises CommandError."""
    reached = {} if order_id is None else {order_id: 0}  # the newest seq of each unfinished order
    try:
        socket = open_socket(address_of(address, order_id, reached))
    except (InvalidURI, InvalidHandshake, OSError, ValueError) as error:
        raise CommandError(f"no WebSocket at {address}: {error}") from None
    while True:
        try:
            with socket:
                yield from read(socket, reached, everything=order_id is None)
        except ConnectionClosed as closed:
            if order_id is not None and has_ended(closed):
                raise CommandError(
                    f"{order_id} has ended and its events were dropped: "
                    f"GET /api/orders/{order_id} says how it ended"
                ) from None
            place = f" after seq {reached[order_id]}" if order_id is not None else ""
            print(f"connection lost{place} ({closed}), connecting again", flush=True)
        socket = reopen_socket(address_of(address, order_id, reached))


def has_ended(closed: ConnectionClosed) -> bool:
    """Whether the server has said, by itself, that no more comes."""
    return closed.rcvd is not None and closed.rcvd.code == DONE and bool(closed.rcvd_then_sent)


def address_of(address: str, order_id: str | None, reached: dict[str, int]) -> str:
    """That of one order is closed by the server at its end."""
    if order_id is None:
        return address
    return f"{address}?{urlencode({'orderId': order_id, 'afterSeq': reached[order_id]})}"


def open_socket(address: str) -> ClientConnection:
    key = settings.API_KEY
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return connect(address, proxy=None, close_timeout=1, additional_headers=headers)


def reopen_socket(address: str) -> ClientConnection:
    """Tries for as long as it takes."""
    while True:
        time.sleep(RECONNECT_SECONDS)
        try:
            return open_socket(address)
        except (InvalidHandshake, OSError):
            continue


def subscribe(socket: ClientConnection, reached: dict[str, int]) -> None:
    """To what comes new, and to the rest of each unfinished order.

    Of more orders than a socket follows, the oldest are shown from what comes new.
    """
    socket.send(json.dumps({"type": "subscribe", "scope": "all"}))
    for order_id, seq in list(reached.items())[-MOST_FOLLOWED:]:
        socket.send(json.dumps({"type": "subscribe", "orderId": order_id, "afterSeq": seq}))


def read(socket: ClientConnection, reached: dict[str, int], *, everything: bool) -> Iterator[Event]:
    """Raises ConnectionClosed, and CommandError for a refusal."""
    while True:
        frame: Event = json.loads(socket.recv())
        if frame["type"] == "hello" and everything:
            subscribe(socket, reached)
        if frame["type"] == "error" and frame["status"] < 500:
            raise CommandError(f"{frame['code']}: {frame['detail']}")
        if frame["type"] == "error":
            socket.close(reason=frame["code"])  # passing: recv() raises, and we connect again
        if frame["type"] == "order.status":
            reached[frame["orderId"]] = frame["seq"]
            if frame["status"] in TERMINAL:
                del reached[frame["orderId"]]
            yield frame


def line(event: Event, *, named: bool) -> str:
    """Time, order if `named`, seq, attempt, status, and what is new."""
    columns = [
        event["timestamp"][11:],
        *([event["orderId"]] if named else []),
        f"seq {event['seq']}",
        f"attempt {event['attempt']}",
        f"{event['status']:<9}",
        news(event),
    ]
    return "  ".join(columns).rstrip()


def news(event: Event) -> str:
    data, text = event["data"], ""
    match event["status"]:
        case "pending" if "error" in data:
            error = data["error"]
            text = f"{error['code']}: {error['message']}; again at {data['retryAt'][11:]}"
        case "pending" if "amount" in data:
            text = f"{data['amount']} {data['tokenIn']} for {data['tokenOut']}"
        case "routing" if event["previousStatus"] != "pending":
            text = "taken over by another worker"
        case "building":
            offers = ", ".join(offer(quote) for quote in data["quotes"])
            text = f"{data['venue']}; prices {offers}; {data['reason']['text']}"
        case "submitted":
            text = f"tx {data['txHash']}"
        case "confirmed":
            realized = f"realized slippage {data['realizedSlippage']}"
            text = f"{data['amountOut']} at {data['executedPrice']}, {realized}"
        case "cancelled" if data.get("by") == "operator":
            text = "by an operator"
        case "failed":
            text = f"{data['code']}: {data['message']}"
    return text


def offer(quote: Event) -> str:
    if "error" in quote:
        return f"{quote['venue']} {quote['error']['code']}"
    return f"{quote['venue']} {quote['effectivePrice']}"
