"""How many hints go to Redis: a queue of any length waits in PostgreSQL."""

import itertools
import queue
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis

from orders import claims, hints


class Backlog(queue.Queue[list[str]]):
    """Ends whoever takes from it when nothing is left."""

    def get(self, block: bool = True, timeout: float | None = None) -> list[str]:
        return super().get(block=False)


def publish(*commits: int) -> None:
    """As the thread does that sends what send_soon() was given: so many orders each time."""
    backlog, numbers = Backlog(), itertools.count()
    for orders in commits:
        backlog.put([f"ord_{number}" for number in itertools.islice(numbers, orders)])
    with pytest.raises(queue.Empty):
        hints._publish(backlog, hints.Room())


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(hints, "send", lambda order_id: found.append(order_id) or True)
    return found


@pytest.fixture
def redis_holds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Iterator[int]]:
    """Lets Redis hold so many hints, one number for each time it is asked."""

    def hold(*numbers: int) -> Iterator[int]:
        answers = iter(numbers)
        monkeypatch.setattr(hints, "waiting", lambda: next(answers))
        return answers

    return hold


@pytest.fixture
def always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "LOOK_SECONDS", 0.0)


def test_no_more_hints_are_sent_than_orders_may_run(
    sent: list[str], redis_holds: Callable[..., Iterator[int]], settings: Any
) -> None:
    settings.QUEUE_CONCURRENCY = 3
    redis_holds(1)

    publish(1, 3)

    assert sent == ["ord_0", "ord_1"]


def test_none_is_sent_while_redis_holds_more_than_may_run(
    sent: list[str], redis_holds: Callable[..., Iterator[int]], settings: Any
) -> None:
    settings.QUEUE_CONCURRENCY = 3
    redis_holds(5)

    publish(4)

    assert sent == []


def test_hints_are_sent_again_when_workers_have_taken_some(
    sent: list[str],
    redis_holds: Callable[..., Iterator[int]],
    settings: Any,
    always_look: None,
) -> None:
    settings.QUEUE_CONCURRENCY = 3
    redis_holds(2, 3, 1)

    publish(1, 1, 1)

    assert sent == ["ord_0", "ord_2"]


def test_redis_is_not_asked_for_each_hint(
    sent: list[str], redis_holds: Callable[..., Iterator[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "LOOK_SECONDS", 60.0)
    answers = redis_holds(0, 1)

    publish(2, 1)

    assert sent == ["ord_0", "ord_1", "ord_2"]
    assert list(answers) == [1]


def test_the_thread_is_not_woken_while_redis_holds_enough(
    redis_holds: Callable[..., Iterator[int]], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.QUEUE_CONCURRENCY = 3
    backlog: queue.Queue[Sequence[str]] = queue.Queue()
    room = hints.Room()
    monkeypatch.setattr(hints, "_publisher", lambda: (backlog, room))
    redis_holds(1)

    hints.send_soon(["before anybody looked"])
    assert room.take(2) == 2  # as the thread does: Redis holds three now
    hints.send_soon(["left to the dispatcher"])
    monkeypatch.setattr(hints, "LOOK_SECONDS", 0.0)
    hints.send_soon(["when that is long ago"])

    assert list(backlog.queue) == [["before anybody looked"], ["when that is long ago"]]


def test_whoever_answers_does_not_hear_of_a_full_backlog(monkeypatch: pytest.MonkeyPatch) -> None:
    backlog: queue.Queue[Sequence[str]] = queue.Queue(1)
    monkeypatch.setattr(hints, "_publisher", lambda: (backlog, hints.Room()))

    hints.send_soon(["ord_1"])
    hints.send_soon(["left to the dispatcher"])

    assert list(backlog.queue) == [["ord_1"]]


def test_where_nothing_limits_the_fleet_hints_are_sent(
    sent: list[str], redis_holds: Callable[..., Iterator[int]], settings: Any
) -> None:
    settings.QUEUE_CONCURRENCY = 0
    redis_holds(claims.MOST_HINTS - 1)

    publish(2)

    assert sent == ["ord_0"]


@pytest.mark.parametrize("error", [redis.ConnectionError("refused"), OSError("unreachable")])
def test_a_hint_is_sent_when_redis_does_not_say_what_it_holds(
    error: Exception, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> int:
        raise error

    monkeypatch.setattr(hints, "waiting", away)

    publish(1)

    assert sent == ["ord_0"]


def test_waiting_hints_are_counted_again_after_the_connection_was_lost(settings: Any) -> None:
    settings.CELERY_TASK_DEFAULT_QUEUE = "counted"
    broker = hints._broker()
    broker.rpush("counted", "a hint")
    assert hints.waiting() == 1
    with redis.Redis.from_url(settings.CELERY_BROKER_URL) as other:
        other.client_kill_filter(_id=broker.client_id())

    assert hints.waiting() == 1

    broker.delete("counted")
