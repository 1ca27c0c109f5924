"""What a log line looks like, in production and in a terminal."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from orderengine import logs

ROOT = Path(__file__).parents[2]


class Lines(logging.Handler):
    """Keeps what a handler with the configured formatter would have written."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        config = logs.logging_config(level="INFO", json=as_json)
        given = config["formatters"]["structured"]
        self.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=given["foreign_pre_chain"], processors=given["processors"]
            )
        )
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("tests.logs")
    logger.setLevel("INFO")
    logger.propagate = False
    yield logger
    logger.handlers.clear()
    structlog.contextvars.clear_contextvars()


def structured(logger: logging.Logger) -> Any:
    """As structlog.get_logger() is after configure()."""
    return structlog.wrap_logger(
        logger,
        processors=[*logs.SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def test_in_production_a_line_is_one_json_object(logger: logging.Logger) -> None:
    logger.addHandler(lines := Lines(as_json=True))

    structured(logger).info("order.moved", order_id="ord_1", **{"from": "new", "to": "pending"})

    (line,) = lines.lines
    record = json.loads(line)
    moved = {"order_id": "ord_1", "from": "new", "to": "pending"}
    assert record.items() >= {"event": "order.moved", "level": "info", **moved}.items()
    assert record["logger"] == "tests.logs"
    assert record["timestamp"].endswith("Z")


def test_a_library_s_record_looks_the_same(logger: logging.Logger) -> None:
    logger.addHandler(lines := Lines(as_json=True))

    logger.warning("%s of %s", 1, 2)

    record = json.loads(lines.lines[0])
    assert record.items() >= {"event": "1 of 2", "level": "warning"}.items()


def test_every_line_of_a_request_has_its_id(logger: logging.Logger) -> None:
    logger.addHandler(lines := Lines(as_json=True))

    with structlog.contextvars.bound_contextvars(request_id="req_1"):
        structured(logger).info("one")
        logger.info("two")

    assert [json.loads(line)["request_id"] for line in lines.lines] == ["req_1", "req_1"]


def test_in_production_an_exception_stays_on_its_line(logger: logging.Logger) -> None:
    logger.addHandler(lines := Lines(as_json=True))

    structured(logger).error("request.bug", exc_info=ValueError("two\nlines"))

    (line,) = lines.lines
    assert "\n" not in line
    assert "ValueError: two\nlines" in json.loads(line)["exception"]


def test_in_a_terminal_a_line_is_readable(logger: logging.Logger) -> None:
    logger.addHandler(lines := Lines(as_json=False))

    structured(logger).info("order.moved", order_id="ord_1", to="pending")

    (line,) = lines.lines
    assert "order.moved" in line
    assert "order_id=ord_1" in line
    assert "to=pending" in line
    assert "\x1b" not in line


def record_of(level: int, error: Exception | None) -> logging.LogRecord:
    exc_info = (type(error), error, None) if error else None
    return logging.LogRecord("x", level, __file__, 1, "lost %s", ("redis",), exc_info)


def test_a_lost_connection_is_told_without_its_stack() -> None:
    record = record_of(logging.ERROR, ConnectionError("refused"))

    assert logs.OneLine().filter(record)

    assert record.getMessage() == "lost redis ConnectionError: refused"
    assert record.exc_info is None


def test_one_line_leaves_other_records_alone() -> None:
    record = record_of(logging.INFO, None)

    assert logs.OneLine().filter(record)

    assert record.getMessage() == "lost redis"


def test_a_refusal_is_the_client_s_to_read_and_not_logged() -> None:
    """Django logs a PermissionDenied as a warning, with a stack."""
    assert not logs.Bugs().filter(record_of(logging.WARNING, PermissionError("403")))
    assert not logs.Bugs().filter(record_of(logging.ERROR, None))
    assert logs.Bugs().filter(record_of(logging.ERROR, ZeroDivisionError("500")))


def test_configured_the_process_writes_json_lines_to_stderr() -> None:
    program = """
import logging, structlog
from orderengine.logs import configure, logging_config
configure(logging_config(level="INFO", json=True))
log = structlog.get_logger("orders.lifecycle")
log.debug("not.said")
log.info("order.moved", order_id="ord_1")
logging.getLogger("any.library").warning("watch out")
logging.getLogger("celery.worker.strategy").info("not said")
logging.getLogger("psycopg.pool").warning("not said")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert [record["event"] for record in records] == ["order.moved", "watch out"]
    assert records[0]["order_id"] == "ord_1"
    assert done.stdout == ""


def test_a_handshake_is_not_logged_at_debug_either() -> None:
    """The library writes each header of it: `manage.py watch` sends its key in one."""
    program = """
import logging
from orderengine.logs import configure, logging_config
configure(logging_config(level="DEBUG", json=True))
logging.getLogger("websockets.client").debug("> Authorization: Bearer oee_")
logging.getLogger("any.library").debug("said")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["said"]
