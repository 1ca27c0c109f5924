"""Waiting for swaps: one question at a time for all that a process waits for at a venue."""

import os
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Condition, Thread

from dex.types import Swap, SwapState, SwapStatus

# Between two questions for the same swap. A new one is asked for at once.
POLL_SECONDS = 0.05

Ask = Callable[[Sequence[Swap]], Sequence[SwapState]]


class Watch:
    """One swap that somebody waits for, until it is closed."""

    def __init__(self, swap: Swap, close: Callable[["Watch"], None]) -> None:
        self.swap = swap
        self._close = close
        self._answers: SimpleQueue[SwapState | Exception] = SimpleQueue()

    def next_state(self, seconds: float) -> SwapState:
        """The next answer that is more than pending; pending where there is none in `seconds`.

        Raises what asking raised.
        """
        try:
            answer = self._answers.get(timeout=seconds)
        except Empty:
            return SwapState(status=SwapStatus.PENDING)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def tell(self, answer: SwapState | Exception) -> None:
        if isinstance(answer, Exception) or answer.status is not SwapStatus.PENDING:
            self._answers.put(answer)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self._close(self)


class Watcher:
    """Asks one venue from a thread of its own, which starts with the first watch."""

    def __init__(self, ask: Ask, name: str) -> None:
        self._ask = ask
        self._name = name
        self._changed = Condition()
        self._new: list[Watch] = []
        self._open: set[Watch] = set()
        self._pid = 0

    def watch(self, swap: Swap) -> Watch:
        watch = Watch(swap, self._close)
        with self._changed:
            self._open.add(watch)
            self._new.append(watch)
            if self._pid != os.getpid():  # threads do not survive a fork
                self._pid = os.getpid()
                Thread(target=self._run, name=f"watch-{self._name}", daemon=True).start()
            self._changed.notify()
        return watch

    def _close(self, watch: Watch) -> None:
        with self._changed:
            self._open.discard(watch)

    def _run(self) -> None:
        due = 0.0
        while True:
            with self._changed:
                while not self._new and (not self._open or time.monotonic() < due):
                    self._changed.wait(due - time.monotonic() if self._open else None)
                asked, self._new = self._new, []
                if time.monotonic() >= due:
                    asked = list(self._open)
                    due = time.monotonic() + POLL_SECONDS
            self._tell(asked)

    def _tell(self, asked: list[Watch]) -> None:
        if not asked:
            return
        try:
            answers: Sequence[SwapState | Exception] = self._ask([watch.swap for watch in asked])
        except Exception as error:  # theirs to judge; this thread goes on for all others
            answers = [error] * len(asked)
        for watch, answer in zip(asked, answers, strict=True):
            watch.tell(answer)
