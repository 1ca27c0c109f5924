"""The bench's own arithmetic, and what it reads on the wire."""

import argparse
import json
from collections.abc import AsyncIterator, Sequence

import pytest
from django.conf import settings
from rich.console import Console

from tests.bench import page
from tests.bench.beside import Side, positive, ratios, table
from tests.bench.doorbells import events_of
from tests.bench.figures import Figure, Figures, medians, percentile, shown
from tests.bench.load import is_complete
from tests.bench.soak import Missed, hear_to_the_end
from tests.bench.sockets import client_frame, first_frame
from tests.bench.usage import role

ORDER_ID = "ord_1762600000000_abcdefghij"


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([3.0], 99, 3.0),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.0),
        ([float(n) for n in range(1, 101)], 95, 95.0),
        ([float(n) for n in range(1, 101)], 99, 99.0),
        ([float(n) for n in range(1, 11)], 99, 10.0),
    ],
)
def test_a_percentile_is_the_nearest_rank(
    values: Sequence[float], percent: float, expected: float
) -> None:
    assert percentile(values, percent) == expected


def test_a_figure_has_the_median_and_the_range_of_its_runs() -> None:
    figure = Figure("POST", "orders/s", [300.0, 100.0, 110.0])
    assert figure.median == 110.0
    assert figure.range == "100-300"
    assert figure.as_json() == {
        "name": "POST",
        "unit": "orders/s",
        "median": 110.0,
        "low": 100.0,
        "high": 300.0,
        "runs": [300.0, 100.0, 110.0],
    }


async def frames(*moves: tuple[str, int, str]) -> AsyncIterator[str]:
    for order_id, seq, status in moves:
        event = {"type": "order.status", "orderId": order_id, "seq": seq, "status": status}
        yield json.dumps(event)


PENDING, CONFIRMED = (ORDER_ID, 1, "pending"), (ORDER_ID, 2, "confirmed")


async def test_a_soak_s_client_hears_its_order_to_the_end() -> None:
    await hear_to_the_end(frames(PENDING, ("ord_other", 5, "failed"), CONFIRMED), ORDER_ID)


@pytest.mark.parametrize(
    "moves",
    [(), (PENDING,), (CONFIRMED,), (PENDING, PENDING, CONFIRMED)],
    ids=["nothing", "the socket closed", "a gap", "twice"],
)
async def test_a_soak_s_client_says_what_it_missed(moves: Sequence[tuple[str, int, str]]) -> None:
    with pytest.raises(Missed, match=ORDER_ID):
        await hear_to_the_end(frames(*moves), ORDER_ID)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0123, "0.0123"), (1.234, "1.23"), (12.34, "12.3"), (99.99, "100.0"),
     (1234.5, "1,234")],
)  # fmt: skip
def test_a_number_is_shown_with_three_digits(value: float, text: str) -> None:
    assert shown(value) == text


def test_the_table_has_a_row_for_the_percentiles_and_an_earlier_run_beside_them() -> None:
    figures = Figures()
    for run in (1.0, 2.0, 4.0):
        figures.add("POST", run * 100, "orders/s")
        figures.spread("POST", [run] * 100)
    console = Console(width=160)
    with console.capture() as captured:
        console.print(figures.table({"POST": 100.0, "POST, p99": 1.0}))
    lines = [line.split() for line in captured.get().splitlines()]
    assert lines[1] == ["POST", "200", "100-400", "100", "2.00", "orders/s"]
    assert lines[2][:9] == ["POST,", "p50", "/", "p95", "/", "p99", "2.00", "/", "2.00"]
    assert len(lines) == 3


def test_medians_are_read_back_from_what_was_written() -> None:
    figures = Figures()
    figures.add("POST", 100.0, "orders/s")
    written = json.dumps({"figures": figures.as_json()})
    assert medians(json.loads(written)) == {"POST": 100.0}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\n{..}",
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{..}\r\n0\r\n\r\n",
    ],
)
def test_an_answer_is_complete_with_its_last_byte(answer: bytes) -> None:
    assert is_complete(answer)
    assert not any(is_complete(answer[:end]) for end in range(len(answer)))


@pytest.mark.parametrize("length", [0, 125, 126, 70_000])
def test_a_servers_frame_is_read_once_all_of_it_is_there(length: int) -> None:
    payload = bytes(length)
    if length < 126:
        head = bytes([0x81, length])
    elif length < 65_536:
        head = b"\x81\x7e" + length.to_bytes(2, "big")
    else:
        head = b"\x81\x7f" + length.to_bytes(8, "big")
    data = head + payload
    assert first_frame(data + b"\x81") == (1, payload, len(data))
    assert first_frame(data[:-1]) is None


@pytest.mark.parametrize("payload", [b"{}", b"x" * 200])
def test_a_clients_frame_is_masked(payload: bytes) -> None:
    frame = client_frame(1, payload)
    assert frame[1] & 0x80
    assert frame.endswith(bytes(4) + payload)


def test_a_doorbell_is_read_in_either_format() -> None:
    in_json = json.dumps({"frames": [{"orderId": ORDER_ID, "seq": seq} for seq in (3, 12)]})
    in_message_pack = b"".join(
        b"\x82\xa7orderId\xbc" + ORDER_ID.encode() + b"\xa3seq" + bytes([seq]) for seq in (3, 12)
    )
    expected = [(ORDER_ID, 3), (ORDER_ID, 12)]
    assert events_of(in_json.encode()) == events_of(in_message_pack) == expected
    assert events_of(b'{"celery": 1}') == events_of(f'"order.{ORDER_ID}"'.encode()) == []


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python -m daphne --port 1 orderengine.asgi:application", "web"),
        ("python -m celery -A orderengine --quiet worker", "worker"),
        ("python manage.py dispatcher", "dispatcher"),
        ("python manage.py up --no-flower", "supervisor"),
        ("/x/pginstall18/bin/postgres -D /x", "postgres"),
        ("redis-server 127.0.0.1:1", "redis"),
        ("sh -c something", ""),
    ],
)
def test_a_process_is_known_by_its_command(command: str, name: str) -> None:
    assert role(command) == name


def test_a_ratio_is_of_two_runs_that_took_turns() -> None:
    """Not of the medians: the machine was slower in the second round, for both."""
    ours, other = Side(*[None] * 5), Side(*[None] * 5)  # type: ignore[arg-type]
    for side, runs in ((ours, (300.0, 100.0, 90.0)), (other, (600.0, 100.0, 180.0))):
        for run in runs:
            side.add("POST, 1 at once", run, "orders/s")

    assert ratios(ours.found["POST, 1 at once"], other.found["POST, 1 at once"]) == [0.5, 1.0, 0.5]
    console = Console(width=120)
    with console.capture() as shown_there:
        console.print(table(ours, other))
    assert "0.500  0.500-1.00" in shown_there.get()


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many"])
def test_rounds_are_a_number_from_one_on(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="a whole number from 1 on"):
        positive(text)


def test_the_page_of_figures_has_what_was_measured() -> None:
    """Written by `python -m tests.bench.page`."""
    folder = settings.BASE_DIR / "docs" / "performance"
    measured = page.table(
        [
            folder / f"{name}.json"
            for name in ("before", "noon", "afternoon", "noon-fast", "afternoon-fast")
        ]
    )

    assert measured in (settings.BASE_DIR / "docs" / "performance.md").read_text()
    assert len(measured.splitlines()) == 2 + len(page.ROWS)


def test_a_row_of_the_page_may_be_a_sum() -> None:
    figures = {name: {"median": 1.2, "low": 1, "high": 2} for name in ("one", "other")}

    assert page.cell(figures, ["one"]) == "1.20 (1.00-2.00)"
    assert page.cell(figures, ["one", "other"]) == "2.40"
    assert page.cell(figures, ["one", "missing"]) == ""
