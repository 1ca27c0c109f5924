"""What a worker's connections to Redis leave behind."""

import pytest
import redis
from celery import current_app
from django.conf import settings
from kombu.asynchronous import Hub

from tests.stacks import wait_until


def test_a_redis_that_takes_no_writes_is_not_filled_with_connections() -> None:
    with redis.Redis.from_url(settings.REDIS_URL) as server:
        before = len(server.client_list())
        server.replicaof("127.0.0.1", 1)
        try:
            for _ in range(3):  # as Celery tries again
                connection = current_app.connection()
                with pytest.raises(redis.ReadOnlyError):
                    connection.transport.register_with_event_loop(connection.connection, Hub())
        finally:
            server.replicaof("NO", "ONE")

        wait_until(lambda: len(server.client_list()) < before + 3)  # those of others come and go
