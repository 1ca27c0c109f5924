"""Asks every venue at once and takes what returns the most."""

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from dex.decision import decide
from dex.errors import DexError
from dex.types import Quote, QuoteFailure, Route, Strategy, SwapRequest
from dex.venues.base import Venue

THREADS_PER_VENUE = 32


class Router:
    """Routes over `venues`, each given its own milliseconds of `timeouts_ms` to answer.

    Every venue has threads of its own, started as they are needed: one that hangs holds up no
    other. A venue that never waits is asked without.
    """

    def __init__(
        self,
        venues: Mapping[str, Venue],
        *,
        timeouts_ms: Mapping[str, int],
        strategy: Strategy = Strategy.AUTO,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._venues = venues
        self._timeouts_ms = timeouts_ms
        self._strategy = strategy
        self._monotonic = monotonic
        self._lock = Lock()
        self._executors: dict[tuple[int, str], ThreadPoolExecutor] = {}

    def route(self, request: SwapRequest) -> Route:
        """The best route now, with every quote it was chosen from.

        A venue that fails or is late becomes a QuoteFailure. Raises VenueUnavailable where none
        answered and one might later, else OrderRejected (INSUFFICIENT_LIQUIDITY, NO_ROUTE).
        """
        started = self._monotonic()
        asked = {
            name: answered(venue, request)
            if venue.answers_at_once
            else self._executor(name).submit(venue.quote, request)
            for name, venue in self._venues.items()
        }
        answers = [self._answer(name, future, started) for name, future in asked.items()]
        return decide(
            request,
            quotes=tuple(answer for answer in answers if isinstance(answer, Quote)),
            failures=tuple(answer for answer in answers if isinstance(answer, QuoteFailure)),
            strategy=self._strategy,
        )

    def close(self) -> None:
        with self._lock:
            executors = list(self._executors.values())
            self._executors.clear()
        for executor in executors:
            executor.shutdown(wait=False, cancel_futures=True)

    def _answer(self, name: str, future: Future[Quote], started: float) -> Quote | QuoteFailure:
        timeout_ms = self._timeouts_ms[name]
        left = started + timeout_ms / 1000 - self._monotonic()
        try:
            return future.result(timeout=max(0.0, left))
        except TimeoutError:
            future.cancel()
            return QuoteFailure(
                venue=name, code="QUOTE_UNAVAILABLE", detail=f"no answer in {timeout_ms} ms"
            )
        except DexError as error:
            return QuoteFailure(venue=name, code=error.code, detail=error.detail)

    def _executor(self, name: str) -> ThreadPoolExecutor:
        key = (os.getpid(), name)  # threads do not survive a fork
        with self._lock:
            if key not in self._executors:
                self._executors[key] = ThreadPoolExecutor(
                    THREADS_PER_VENUE, thread_name_prefix=f"quote-{name}"
                )
            return self._executors[key]


def answered(venue: Venue, request: SwapRequest) -> Future[Quote]:
    """As a thread would answer, which costs more than the answer."""
    future: Future[Quote] = Future()
    try:
        future.set_result(venue.quote(request))
    except Exception as error:
        future.set_exception(error)
    return future
