"""What a log line looks like, in production and in a terminal."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orderengine import logs
from orderengine.logs import AfterTurn

ROOT = Path(__file__).parents[2]
Configured = Callable[..., list[str]]

ORDER = {"order_id": "ord_1", "from": "new", "to": "pending"}


# Runs each program in a fork of a process that has imported what all of them need.
PROCESSES = """
import gc, json, os, sys
import logging, structlog
from orderengine.logs import configure, logging_config
gc.freeze()  # or the end of each fork would look at all that
for line in iter(sys.stdin.readline, ""):
    program, *outputs = json.loads(line)
    if not (pid := os.fork()):
        for descriptor, output in enumerate(outputs, 1):
            os.dup2(os.open(output, os.O_WRONLY), descriptor)
        exec(program)
        break  # and ends as any process does
    print(os.waitpid(pid, 0)[1], flush=True)
"""


@pytest.fixture(scope="module")
def processes() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROCESSES],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as found:
        yield found


@pytest.fixture
def configured(processes: subprocess.Popen[str], tmp_path: Path) -> Configured:
    """The lines that a process with this configuration writes, all of them to stderr."""

    def lines(program: str, *, level: str = "INFO", as_json: bool = True) -> list[str]:
        head = f"""
configure(logging_config(level={level!r}, json={as_json}))
log = structlog.get_logger("orders.lifecycle")
library = logging.getLogger("any.library")
"""
        stdout, stderr = tmp_path / "stdout", tmp_path / "stderr"
        for output in (stdout, stderr):
            output.touch()
        asked = json.dumps([head + program, str(stdout), str(stderr)])
        print(asked, file=processes.stdin, flush=True)
        assert processes.stdout.readline() == "0\n", stderr.read_text()
        assert stdout.read_text() == ""
        return stderr.read_text().splitlines()

    return lines


def test_in_production_a_line_is_one_json_object(configured: Configured) -> None:
    (line,) = configured(f"log.info('order.moved', **{ORDER})")

    record = json.loads(line)
    assert record.items() >= {"event": "order.moved", "level": "info", **ORDER}.items()
    assert record["logger"] == "orders.lifecycle"
    assert record["timestamp"].endswith("Z")


def test_a_library_s_record_looks_the_same(configured: Configured) -> None:
    (line,) = configured("library.warning('%s of %s', 1, 2)")

    record = json.loads(line)
    assert record.items() >= {"event": "1 of 2", "level": "warning"}.items()
    assert record["logger"] == "any.library"


def test_every_line_of_a_request_has_its_id(configured: Configured) -> None:
    lines = configured("""
with structlog.contextvars.bound_contextvars(request_id="req_1"):
    log.info("one")
    library.warning("two")
""")

    assert [json.loads(line)["request_id"] for line in lines] == ["req_1", "req_1"]


@pytest.mark.parametrize("as_json", [True, False])
def test_what_many_have_in_common_is_said_of_each(as_json: bool, configured: Configured) -> None:
    each = [{"order_id": "ord_1", "request_id": "req_1"}, {"order_id": "ord_2"}]
    lines = configured(
        f"""
with structlog.contextvars.bound_contextvars(request_id="of another"):
    log.info("order.moved", each={each}, request_id="", to="pending")
    log.info("order.moved", each=[], to="pending")
""",
        as_json=as_json,
    )

    if as_json:
        told = [json.loads(line) for line in lines]
        assert [line.get("order_id") for line in told] == ["ord_1", "ord_2"]
        assert [line.get("request_id") for line in told] == ["req_1", None]
        assert {(line["event"], line["to"], "each" in line) for line in told} == {
            ("order.moved", "pending", False)
        }
    else:
        assert [line.partition("[orders.lifecycle] ")[2] for line in lines] == [
            "order_id=ord_1 request_id=req_1 to=pending",
            "order_id=ord_2 to=pending",
        ]


FAULT = """
def fault():
    secret = "a value"
    raise ValueError("two\\nlines")
try:
    fault()
except ValueError:
    log.exception("request.bug")
    library.exception("lost")
"""


def test_in_production_an_exception_stays_on_its_line(configured: Configured) -> None:
    lines = configured(FAULT)

    assert [json.loads(line)["event"] for line in lines] == ["request.bug", "lost"]
    for line in lines:
        assert "ValueError: two\nlines" in json.loads(line)["exception"]
        assert "a value" not in line


def test_in_a_terminal_an_exception_is_below_its_line(configured: Configured) -> None:
    lines = configured(FAULT, as_json=False)

    assert "[error   ] request.bug" in lines[0]
    assert lines[1] == "Traceback (most recent call last):"
    assert [line for line in lines if "two" in line] == ["ValueError: two"] * 2
    assert not [line for line in lines if "a value" in line]


def test_in_a_terminal_a_line_is_readable(configured: Configured) -> None:
    (line,) = configured(f"log.info('order.moved', why='so it is', **{ORDER})", as_json=False)

    told = "[info    ] order.moved    [orders.lifecycle]"
    assert line.endswith(f"Z {told} why='so it is' order_id=ord_1 from=new to=pending")


def test_in_a_terminal_it_is_plain_where_a_value_ends(configured: Configured) -> None:
    values = ["a=b", 'a"b', "a\tb", "a\rb", "\x1b[31m"]

    lines = configured(f"for value in {values}: log.info('said', value=value)", as_json=False)

    assert [line.partition("value=")[2] for line in lines] == [repr(value) for value in values]


def test_a_line_that_cannot_be_written_breaks_nothing_off(configured: Configured) -> None:
    lines = configured("""
import contextlib, sys
stderr, sys.stderr = sys.stderr, open("/dev/full", "w", buffering=1)
log.info("lost")
full, sys.stderr = sys.stderr, stderr
log.info("said")
with contextlib.suppress(OSError):  # or Python 3.13 says at its end that it could not
    full.close()
""")

    assert [json.loads(line)["event"] for line in lines] == ["said"]


def test_on_a_loop_the_lines_of_one_turn_are_one_write_and_a_warning_is_written_at_once(
    configured: Configured,
) -> None:
    *lines, counts = configured("""
import asyncio, sys, types
stderr, writes, counts = sys.stderr, [], []
sys.stderr = types.SimpleNamespace(write=lambda text: (writes.append(1), stderr.write(text)))

async def turns():
    log.info("a")
    log.info("b")
    counts.append(len(writes))
    await asyncio.sleep(0)
    counts.append(len(writes))
    log.info("c")
    log.warning("d")
    counts.append(len(writes))
    await asyncio.sleep(0)
    log.info("e")

asyncio.run(turns())
sys.stderr = stderr
print(counts, file=stderr)
""")

    assert [json.loads(line)["event"] for line in lines] == ["a", "b", "c", "d", "e"]
    assert counts == "[0, 1, 2]"


async def test_what_is_asked_for_in_one_turn_is_done_once_after_it() -> None:
    calls: list[int] = []
    after = AfterTurn(lambda: calls.append(len(asked)))
    asked = []

    for n in range(3):
        asked.append(n)
        after.ask()
    assert calls == []
    await asyncio.sleep(0)
    after.ask()
    await asyncio.sleep(0)

    assert calls == [3, 3]


def test_a_loop_that_ends_in_the_middle_of_a_turn_holds_nothing_back() -> None:
    calls: list[str] = []
    after = AfterTurn(lambda: calls.append("done"))
    loop = asyncio.new_event_loop()

    loop.call_soon(after.ask)
    loop.call_soon(loop.stop)  # at the end of the same turn
    loop.run_forever()
    loop.close()
    after.ask()

    assert calls == ["done"]


def test_without_a_loop_it_is_done_at_once() -> None:
    calls: list[str] = []

    AfterTurn(lambda: calls.append("done")).ask()

    assert calls == ["done"]


def record_of(level: int, error: Exception | None) -> logging.LogRecord:
    exc_info = (type(error), error, None) if error else None
    return logging.LogRecord("x", level, __file__, 1, "lost %s", ("redis",), exc_info)


def test_a_lost_connection_is_told_without_its_stack() -> None:
    record = record_of(logging.ERROR, ConnectionError("refused"))

    assert logs.OneLine().filter(record)

    assert record.getMessage() == "lost redis ConnectionError: refused"
    assert record.exc_info is None


def test_a_redis_that_is_full_is_told_in_one_line_too(configured: Configured) -> None:
    """Of kombu's timers, every 5 s: 40 lines of stack else."""
    (line,) = configured("""
try:
    raise MemoryError("used memory > 'maxmemory'")
except MemoryError as error:
    logging.getLogger("kombu.asynchronous.hub").error("Error in timer: %r", error, exc_info=True)
""")

    assert "exception" not in json.loads(line)
    assert "maxmemory" in json.loads(line)["event"]


def test_a_foreign_host_is_no_error_of_ours(configured: Configured) -> None:
    lines = configured("""
import logging
logging.getLogger("django.security.DisallowedHost").error("Invalid HTTP_HOST header: 'evil'.",
    exc_info=(ValueError, ValueError("Invalid HTTP_HOST header: 'evil'."), None))
""")

    assert len(lines) == 1
    assert json.loads(lines[0])["level"] == "info"
    assert lines[0].count("Invalid HTTP_HOST") == 1


def test_one_line_leaves_other_records_alone() -> None:
    record = record_of(logging.INFO, None)

    assert logs.OneLine().filter(record)

    assert record.getMessage() == "lost redis"


def test_a_refusal_is_the_client_s_to_read_and_not_logged() -> None:
    """Django logs a PermissionDenied as a warning, with a stack."""
    assert not logs.Bugs().filter(record_of(logging.WARNING, PermissionError("403")))
    assert not logs.Bugs().filter(record_of(logging.ERROR, None))
    assert logs.Bugs().filter(record_of(logging.ERROR, ZeroDivisionError("500")))


def test_what_is_below_its_level_is_not_said(configured: Configured) -> None:
    lines = configured("""
log.debug("not.said")
log.info("order.moved", order_id="ord_1")
library.warning("watch out")
logging.getLogger("celery.worker.strategy").info("not said")
logging.getLogger("psycopg.pool").warning("not said")
""")

    assert [json.loads(line)["event"] for line in lines] == ["order.moved", "watch out"]


def test_a_handshake_is_not_logged_at_debug_either(configured: Configured) -> None:
    """The library writes each header of it: `manage.py watch` sends its key in one."""
    lines = configured(
        """
logging.getLogger("websockets.client").debug("> Authorization: Bearer oee_")
library.debug("said")
""",
        level="DEBUG",
    )

    assert [json.loads(line)["event"] for line in lines] == ["said"]
