"""Calls of many threads, made together."""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

MOST = 100  # calls in one


class Together(Generic[Asked, Answer]):
    """What threads ask while one call is under way goes with the next: one for all of them.

    There is no timer and no thread of its own: who comes alone makes the call, at once, and who
    comes first while another's is under way makes the next. `call` takes what was asked and returns
    an answer for each, in order; an exception among them is raised to that one, and what it raises
    itself to all.
    """

    def __init__(self, call: Callable[[Sequence[Asked]], Sequence[Answer | Exception]]) -> None:
        self._call = call
        self._lock = Lock()
        self._waiting: list[_Turn[Asked, Answer]] = []
        self._under_way = False

    def __call__(self, asked: Asked) -> Answer:
        mine: _Turn[Asked, Answer] = _Turn(asked)
        with self._lock:
            self._waiting.append(mine)
            leads = not self._under_way
            self._under_way = True
        if not leads:
            mine.awaken.acquire()
        if not mine.answered:
            self._lead()
        if isinstance(mine.answer, BaseException):
            raise mine.answer
        return mine.answer  # type: ignore[return-value]

    def _lead(self) -> None:
        """Make the call for all that wait, this thread's first; then let another lead."""
        with self._lock:
            turns, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        answers: Sequence[Answer | BaseException]
        try:
            answers = self._call([turn.asked for turn in turns])
        except BaseException as error:  # nobody must wait for ever
            answers = [error] * len(turns)
        with self._lock:
            following = self._waiting[:1]
            self._under_way = bool(following)
        for turn, answer in zip(turns, answers, strict=True):
            turn.answer, turn.answered = answer, True
        for turn in (*turns[1:], *following):
            turn.awaken.release()


class _Turn(Generic[Asked, Answer]):
    """One thread's. Awakened without an answer, it makes the next call."""

    __slots__ = ("answer", "answered", "asked", "awaken")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.answered = False
        self.answer: Answer | BaseException | None = None
        self.awaken = Lock()
        self.awaken.acquire()
