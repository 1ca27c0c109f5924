"""Celery's Redis transport, for messages that may be lost.

A message is a hint, and the dispatcher hints again what still has to run. Kombu holds on to each
message instead, and where the connection it came over is gone, its attempts to acknowledge it or
to put it back raise what Celery does not expect: the worker ended, with all that it executed.
"""

from contextlib import suppress
from typing import Any

import structlog
from kombu.transport import redis

log = structlog.get_logger(__name__)


class QoS(redis.QoS):
    restore_at_shutdown = False

    def ack(self, delivery_tag: Any) -> None:
        if self.channel.connection is not None:  # else it was closed after Redis was lost
            super().ack(delivery_tag)

    def reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        if self.channel.connection is not None:
            super().reject(delivery_tag, requeue)


class Channel(redis.Channel):
    QoS = QoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # kombu's types lack it
        except ValueError as error:  # what was read is no JSON
            log.warning("hint.malformed", error=repr(error))
            return True


class Transport(redis.Transport):
    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:
        """Celery bears with few kinds of malformed messages: of another its worker ended, with all
        that it executed, and again when the message came back."""
        try:
            super()._deliver(message, queue)
        except (*self.connection_errors, *self.channel_errors):
            raise
        except Exception as error:
            log.warning("hint.malformed", error=repr(error))
            self._drop(message)

    def _drop(self, message: Any) -> None:
        channels: Any = self.channels
        with suppress(LookupError, TypeError):
            tag = message["properties"]["delivery_tag"]
            for channel in channels:
                if tag in channel.qos._delivered:
                    channel.basic_ack(tag)

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """It writes: a Redis that takes no writes refuses, and Celery would forget the connection
        without closing it."""
        try:
            super().register_with_event_loop(connection, loop)
        except Exception:
            self.close_connection(connection)
            raise
