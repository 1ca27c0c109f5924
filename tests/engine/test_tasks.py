"""The Celery task and the hints that call it."""

import os
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery import current_app
from celery.exceptions import Retry
from celery.signals import worker_shutting_down
from celery.worker.consumer import Consumer
from celery.worker.control import Panel
from django.conf import settings
from kombu.utils.limits import TokenBucket
from structlog.testing import capture_logs

from orderengine import broker
from orderengine.celery import app
from orderengine.consumer import WorkerConsumer
from orders import execution, hints
from orders.tasks import execute_order, may_go_on
from tests.stacks import wait_until


def test_a_worker_tells_nobody_its_secrets() -> None:
    """Celery's remote control answers this table to whoever asks, Flower shows it."""
    shown = repr(app.conf.table(with_defaults=True))

    assert "redis://" in shown
    for secret in (
        urlsplit(settings.REDIS_URL).password,
        settings.DATABASES["default"]["PASSWORD"],
        settings.SECRET_KEY,
        os.environ["PATH"],
    ):
        assert secret
        assert secret not in shown
    assert settings.DATABASES["default"]["PASSWORD"] not in repr(settings.DEX)


def test_a_task_makes_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(execution, "execute_order", lambda order_id, **_: called.append(order_id))

    execute_order("ord_1")

    assert called == ["ord_1"]


@pytest.mark.parametrize(("made", "wait"), [(0, 1), (1, 2)])
def test_a_failed_attempt_is_hinted_again_with_exponential_backoff(
    made: int, wait: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def later(order_id: str, **_: Any) -> None:
        raise execution.RetryLater("attempt 1 of 3: QUOTE_UNAVAILABLE")

    monkeypatch.setattr(execution, "execute_order", later)
    task = current_app.tasks[execute_order.name]
    published: list[dict[str, float]] = []
    monkeypatch.setattr(task, "retry", lambda exc, **how: published.append(how) or Retry())

    task.push_request(args=("ord_1",), retries=made)
    try:
        with pytest.raises(Retry):
            task.run("ord_1")
    finally:
        task.pop_request()

    assert [how["countdown"] for how in published] == [wait]


def test_three_attempts_are_two_retries_without_jitter() -> None:
    assert execute_order.max_retries == settings.ORDER_MAX_ATTEMPTS - 1 == 2
    assert execute_order.retry_jitter is False
    assert execute_order.autoretry_for == (execution.RetryLater,)
    assert execute_order.rate_limit == settings.WORKER_RATE_LIMIT


@pytest.fixture
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kombu.utils.limits.monotonic", lambda: 1000.0)


@pytest.mark.usefixtures("no_time_passes")
def test_the_rate_limit_has_room_for_a_second_s_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute_order, "rate_limit", "20/s")
    consumer = WorkerConsumer.__new__(WorkerConsumer)

    bucket = consumer.bucket_for_task(execute_order)

    assert isinstance(bucket, TokenBucket)
    assert sum(bucket.can_consume() for _ in range(30)) == 20
    assert bucket.fill_rate == Consumer.bucket_for_task(consumer, execute_order).fill_rate


@pytest.mark.usefixtures("no_time_passes")
def test_waiting_messages_share_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute_order, "rate_limit", "20/s")
    consumer = WorkerConsumer.__new__(WorkerConsumer)
    consumer.timer, consumer._limit_order = Timer(), 0
    started: list[int] = []
    consumer._limit_move_to_pool = started.append
    bucket = consumer.bucket_for_task(execute_order)

    for message in range(40):
        consumer._limit_task(message, bucket, 1)
    assert (started, len(consumer.timer.set)) == (list(range(20)), 1)

    bucket._tokens = 5
    consumer.timer.fire()
    assert (started, len(consumer.timer.set)) == (list(range(25)), 1)


class Timer:
    """Keeps what is set on it until it is told to fire."""

    def __init__(self) -> None:
        self.set: list[tuple[Any, tuple[Any, ...]]] = []

    def call_after(self, seconds: float, call: Any, args: tuple[Any, ...], priority: int) -> None:
        self.set.append((call, args))

    def fire(self) -> None:
        due, self.set = self.set, []
        for call, args in due:
            call(*args)


def test_a_task_without_a_rate_limit_has_no_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute_order, "rate_limit", None)

    assert WorkerConsumer.__new__(WorkerConsumer).bucket_for_task(execute_order) is None
    assert may_go_on()


def test_an_order_without_a_message_of_its_own_pays_from_the_same_bucket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(execute_order, "rate_limit", "3/m")
    bucket = WorkerConsumer.__new__(WorkerConsumer).bucket_for_task(execute_order)
    assert bucket is not None

    assert [may_go_on(), bucket.can_consume(1), may_go_on()] == [True, False, False]
    monkeypatch.setattr(execute_order, "bucket", None)


def test_a_hint_waits_in_redis_for_a_worker() -> None:
    hints._broker().delete(settings.CELERY_TASK_DEFAULT_QUEUE)  # what other tests have left

    assert hints.send("ord_1")
    assert hints.waiting() >= 1
    # A moment ago there may have been enough of them: such a hint is left out.
    wait_until(lambda: hints.send_soon(["ord_2"]) or hints.waiting() >= 3, seconds=5)


def test_a_hint_that_cannot_be_sent_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr(current_app.tasks[execute_order.name], "apply_async", refused)

    assert hints.send("ord_1") is False


def test_a_lost_redis_is_looked_for_every_two_seconds_at_the_latest() -> None:
    consumer = WorkerConsumer.__new__(WorkerConsumer)
    consumer.app = app
    consumer.first_connection_attempt = False
    consumer.broker_connection_retry_attempt = 0
    asked: dict[str, Any] = {}

    class Lost:
        def ensure_connection(self, *_: Any, **how: Any) -> str:
            asked.update(how)
            return "found"

    assert consumer.ensure_connected(Lost()) == "found"
    assert (asked["interval_start"], asked["interval_max"]) == (0.5, 2)


def test_remote_control_stops_nothing() -> None:
    """Flower has buttons for it; /health stayed green while no order was executed."""
    assert {"ping", "active_queues", "enable_events"} <= Panel.data.keys()
    changing = {name for name, about in Panel.meta.items() if about.type == "control"}
    harmless = {"disable_events", "election", "enable_events", "heartbeat"}
    assert {"cancel_consumer", "rate_limit", "revoke", "shutdown"} <= changing
    for name in changing - harmless:
        with capture_logs() as logged:
            answer = Panel.data[name](None, n=1, task_id="ord_1", state="any")
        assert answer.keys() == {"error"}, name
        assert [line["event"] for line in logged] == ["control.closed"]


def test_the_broker_is_redis_with_our_habits() -> None:
    with app.connection_for_write() as connection:
        assert isinstance(connection.transport, broker.Transport)
        assert connection.as_uri().startswith("redis://")
        channel = connection.channel()
        assert isinstance(channel.qos, broker.QoS)


def test_a_hint_that_a_worker_has_read_is_not_put_back_when_it_stops() -> None:
    """The dispatcher hints again what still has to run; what is put back is hinted twice."""
    queue = settings.CELERY_TASK_DEFAULT_QUEUE
    hints._broker().delete(queue)
    assert hints.send("ord_1")

    with app.connection_for_write() as connection:
        waiting = connection.SimpleQueue(queue)
        while waiting.get(timeout=5).headers["id"] != "ord_1":  # of another test's thread
            pass  # not acknowledged

    assert b'"ord_1"' not in b"".join(hints._broker().lrange(queue, 0, -1))


def test_a_message_of_a_connection_that_is_gone_can_be_acknowledged() -> None:
    """It raised AttributeError in kombu 5.7.0, and ended the worker."""
    connection = app.connection_for_write()
    channel = connection.channel()
    channel.close()
    channel.connection = None

    broker.QoS(channel).ack("tag")
    broker.QoS(channel).reject("tag", requeue=True)


def test_a_worker_that_is_told_to_stop_says_so_to_the_execution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[bool] = []
    monkeypatch.setattr("orders.execution.leave", lambda: told.append(True))

    worker_shutting_down.send("worker", sig="TERM", how="Warm", exitcode=0)

    assert told == [True]
