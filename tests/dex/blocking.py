"""Exchanges for tests that are no coroutines."""

import asyncio
from collections.abc import Coroutine
from threading import Thread
from typing import Any, TypeVar

from dex.exchange import Exchange
from dex.types import Route, Swap, SwapRequest, SwapState

T = TypeVar("T")


class Blocking:
    """An exchange whose coroutines are plain calls, from any thread."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def route(self, request: SwapRequest) -> Route:
        return self._run(self._exchange.route(request))

    def build(self, route: Route) -> Swap:
        return self._run(self._exchange.build(route))

    def send(self, swap: Swap) -> None:
        self._run(self._exchange.send(swap))

    def status(self, swap: Swap) -> SwapState:
        return self._run(self._exchange.status(swap))

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        self._exchange.close()
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
