"""What `manage.py` says where a traceback would not help."""

import json
from threading import Thread
from typing import Any

import pytest
from django.core.management import CommandError
from psycopg.errors import QueryCanceled
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as server

import manage
from orders.consumers import MAX_FOLLOWED
from orders.management.commands import watch


def ended(monkeypatch: pytest.MonkeyPatch, error: Exception) -> Any:
    def fails(_: object) -> None:
        raise error

    monkeypatch.setattr(manage, "execute_from_command_line", fails)
    with pytest.raises(SystemExit) as end:
        manage.main()
    return end.value.code


def test_an_argument_that_is_no_text_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnicodeEncodeError) as raised:
        "\udcff".encode()

    assert ended(monkeypatch, raised.value) == "an argument is not UTF-8: '\\udcff'"


def test_a_statement_that_another_session_kept_waiting_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = ended(monkeypatch, QueryCanceled("canceling statement due to statement timeout"))

    assert "repeat the command" in told


def test_watch_asks_for_no_more_orders_than_a_socket_follows() -> None:
    frames: list[dict[str, Any]] = []

    class Socket:
        def send(self, text: str) -> None:
            frames.append(json.loads(text))

    assert watch.MOST_FOLLOWED == MAX_FOLLOWED
    reached = {f"ord_{number}": number for number in range(1_100)}

    watch.subscribe(Socket(), reached)  # type: ignore[arg-type]

    assert frames[0] == {"type": "subscribe", "scope": "all"}
    assert [frame["afterSeq"] for frame in frames[1:]] == list(range(100, 1_100))


@pytest.mark.parametrize(
    ("last", "told"),
    [("routing", "ord_1 has ended and its events were dropped"), ("confirmed", "")],
)
def test_watch_ends_with_its_order(last: str, told: str) -> None:
    """Also where no event says so: the server closes with 1000."""

    def serve(client: ServerConnection) -> None:
        assert client.request is not None
        assert client.request.path.endswith("?orderId=ord_1&afterSeq=0")
        client.send('{"type": "hello"}')
        event = {"type": "order.status", "orderId": "ord_1", "seq": 2, "status": last}
        client.send(json.dumps(event))

    with server(serve, "127.0.0.1", 0) as listening:
        Thread(target=listening.serve_forever, daemon=True).start()
        address = f"ws://127.0.0.1:{listening.socket.getsockname()[1]}/"
        heard = watch.follow(address, "ord_1")
        assert next(heard)["status"] == last
        if told:
            with pytest.raises(CommandError, match=told):
                next(heard)
        listening.shutdown()


@pytest.mark.parametrize(
    ("received", "by_itself", "ended"),
    [
        (Close(1000, ""), True, True),
        (Close(1000, ""), False, False),  # we have closed it
        (Close(1001, ""), True, False),  # that web process stops
        (None, None, False),
    ],
)
def test_watch_goes_on_where_the_server_has_not_said_that_no_more_comes(
    received: Close | None, by_itself: bool | None, ended: bool
) -> None:
    sent = None if received is None else received
    assert watch.has_ended(ConnectionClosed(received, sent, by_itself)) is ended
