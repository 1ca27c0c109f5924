"""The Celery task: one message is one hint to look at one order."""

from typing import Any

from celery import shared_task
from celery.signals import worker_init, worker_shutting_down
from django.conf import settings

from dex.signer import KeypairFileError
from orders import execution, loop


@shared_task(
    name="orders.execute_order",
    rate_limit=settings.WORKER_RATE_LIMIT,
    autoretry_for=(execution.RetryLater,),
    # Whole seconds, at least one. Where an order is due earlier, the dispatcher hints it.
    retry_backoff=max(1, int(settings.ORDER_RETRY_BASE_SECONDS)),
    retry_jitter=False,
    max_retries=settings.ORDER_MAX_ATTEMPTS - 1,
)
def execute_order(order_id: str) -> None:
    execution.execute_order(order_id, may_go_on=may_go_on)


def may_go_on() -> bool:
    """Whether the task's rate limit lets this worker start one order more without a message.

    Celery's consumer has the bucket (orderengine/consumer.py); there is none without a limit.
    """
    bucket = getattr(execute_order, "bucket", None)
    return bucket is None or bool(bucket.can_consume(1))


@worker_init.connect
def load_key(**_: Any) -> None:
    """A key that cannot be used ends the worker before it takes an order."""
    try:
        loop.run(execution.prepare())
    except KeypairFileError as error:
        raise SystemExit(f"DEX_KEYPAIR_FILE: {error}") from None


@worker_shutting_down.connect
def stop(**_: Any) -> None:
    """SIGTERM: Celery waits for running tasks, so they are told not to take long."""
    execution.leave()
