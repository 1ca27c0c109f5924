"""One structured line per event: JSON in production, readable in a terminal.

Our own lines go from structlog to stderr: the way over `logging`, which libraries take, costs four
times as much (docs/performance.md), and an order has five lines.
"""

import asyncio
import atexit
import logging.config
import sys
from collections import deque
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any

import structlog


def leave_out_no_request(_: object, __: str, line: MutableMapping[str, Any]) -> Any:
    """An empty `request_id` says: of no request, whichever is bound at present."""
    if line.get("request_id") == "":
        del line["request_id"]
    return line


SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    leave_out_no_request,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def logging_config(*, level: str, json: bool) -> dict[str, Any]:
    """Standard `logging` configuration that renders both structlog's and libraries' records."""
    render = structlog.processors.JSONRenderer() if json else readable
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": SHARED,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    render,
                ],
            }
        },
        "filters": {
            "one_line": {"()": "orderengine.logs.OneLine"},
            "one_line_warnings": {"()": "orderengine.logs.OneLine", "below": logging.ERROR},
            "refused": {"()": "orderengine.logs.Refused"},
            "bugs": {"()": "orderengine.logs.Bugs"},
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # Lost connections are retried by these libraries: a line says it, a stack does not.
            "channels_redis.pubsub": {"filters": ["one_line"]},
            "celery.worker.consumer.consumer": {"filters": ["one_line"]},
            "kombu.asynchronous.hub": {"filters": ["one_line"]},  # Redis is full
            "celery.worker.request": {"filters": ["one_line"]},
            # A retry that Redis does not take is a warning: the dispatcher brings the order back.
            "celery.app.trace": {"level": "WARNING", "filters": ["one_line_warnings"]},
            "celery.worker.strategy": {"level": "WARNING"},
            # Celery has one for every loss of Redis: it does not cancel what runs. So it is meant.
            "py.warnings": {"level": "ERROR"},
            "psycopg.pool": {"level": "ERROR"},
            "daphne": {"level": "WARNING"},
            "uvicorn": {"handlers": [], "level": "WARNING", "propagate": True},
            "django": {"handlers": [], "level": "INFO"},
            "django.request": {"filters": ["bugs"]},
            "django.security.DisallowedHost": {"filters": ["refused"]},
            "django.channels.server": {"level": "WARNING"},
            # At debug it writes each header of a handshake, the key of `manage.py watch` too.
            "websockets": {"level": "INFO"},
            "tornado.access": {"level": "WARNING"},
            "flower.inspector": {"level": "ERROR"},
        },
    }


class OneLine(logging.Filter):
    """Keeps the error of a record and drops its stack, where its level is lower than `below`."""

    def __init__(self, below: int = logging.CRITICAL + 1) -> None:
        super().__init__()
        self.below = below

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < self.below and record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            record.msg = f"{record.getMessage()} {type(error).__name__}: {error}"
            record.args, record.exc_info = None, None
        return True


class Refused(logging.Filter):
    """What is answered with 400 is the client's doing: no error of ours, whatever Django says."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
        record.exc_info = None
        return True


class Bugs(logging.Filter):
    """Passes what was raised; a refusal with a status of its own is the client's to read."""

    def filter(self, record: logging.LogRecord) -> bool:
        status = getattr(record, "status_code", 500)
        return record.levelno >= logging.ERROR and record.exc_info is not None and status != 503


class Stderr:
    """A logger in structlog's sense, to what stderr is now.

    On an event loop the lines of one turn are one write; a warning is written at once, with what
    came before it. A line that cannot be written is lost: a full disk is no reason to break off an
    order.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name

    def msg(self, line: str) -> None:
        _lines.append(line)
        _written.ask()

    def at_once(self, line: str) -> None:
        _lines.append(line)
        write_lines()

    debug = info = msg
    warning = error = critical = at_once


class AfterTurn:
    """Calls once for all that is asked for in one turn of an event loop; at once where none runs.

    What was done before asking is done before the call.
    """

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._asked: asyncio.AbstractEventLoop | None = None

    def ask(self) -> None:
        # One that was closed in the middle of a turn never calls.
        if self._asked is not None and not self._asked.is_closed():
            return
        try:
            self._asked = loop = asyncio.get_running_loop()
            loop.call_soon(self._now)
        except RuntimeError:  # of no loop
            self._now()

    def _now(self) -> None:
        self._asked = None
        self._call()


_lines: deque[str] = deque()


def write_lines() -> None:
    lines = []
    with suppress(IndexError):
        while True:
            lines.append(_lines.popleft() + "\n")
    with suppress(OSError):
        sys.stderr.write("".join(lines))


_written = AfterTurn(write_lines)
atexit.register(write_lines)  # of a loop that was stopped in the middle of a turn


AMBIGUOUS = frozenset(" ='\"")  # where a value with one of these ends is not plain to see


def readable(_: object, __: str, line: MutableMapping[str, Any]) -> str:
    """The line for a terminal. A stack comes below it, without the values of variables."""
    exception = line.pop("exception", "")
    head = (line.pop("timestamp"), line.pop("level"), line.pop("event"), line.pop("logger", ""))
    rest = " ".join([f"{name}={worded(value)}" for name, value in line.items()])
    text = f"{head[0]} [{head[1]:<8}] {head[2]:<14} [{head[3]}] {rest}"
    return f"{text}\n{exception}" if exception else text


def worded(value: object) -> str:
    if isinstance(value, str) and value.isprintable() and AMBIGUOUS.isdisjoint(value):
        return value
    return repr(value)


def rendered_for_each(render: Callable[..., str]) -> Callable[..., str]:
    """A line for each mapping in `each`, with what is in it: the rest is found out once."""

    def rendered(logger: object, method: str, line: MutableMapping[str, Any]) -> str:
        if (each := line.pop("each", None)) is None:
            return render(logger, method, line)
        if not each:
            raise structlog.DropEvent
        return "\n".join([render(logger, method, {**own, **line}) for own in each])

    return rendered


def configure(config: dict[str, Any]) -> None:
    logging.config.dictConfig(config)
    _, *others, render = config["formatters"]["structured"]["processors"]
    structlog.configure(
        processors=[*SHARED, *others, rendered_for_each(render)],
        wrapper_class=structlog.make_filtering_bound_logger(config["root"]["level"]),
        logger_factory=Stderr,
        cache_logger_on_first_use=True,
    )
