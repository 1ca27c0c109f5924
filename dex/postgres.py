"""PostgreSQL connections on which nobody waits for ever."""

import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

T = TypeVar("T")

# A server that is stopped, not gone, keeps its connections open and says nothing: its own
# statement_timeout stands still with it, and its kernel goes on acknowledging what is sent.
ANSWER_SECONDS = 2.5


class BoundedConnection(psycopg.Connection[Any]):
    """Gives up on a server that does not answer within `answer_seconds` (None: never).

    The connection is closed then, and OperationalError raised: whether the statement was carried
    out is not known.
    """

    answer_seconds: float | None = ANSWER_SECONDS

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        if timeout is not None or self.answer_seconds is None:
            return super().wait(gen, interval, timeout)
        deadline = time.monotonic() + self.answer_seconds
        try:
            return super().wait(gen, interval, self.answer_seconds)
        except psycopg.OperationalError:
            if time.monotonic() < deadline:
                raise  # an answer, if a bad one
            self.close()
            raise psycopg.OperationalError(
                f"PostgreSQL gave no answer within {self.answer_seconds:g} s"
            ) from None
