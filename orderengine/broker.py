"""Celery's Redis transport, for messages that may be lost.

A message is a hint, and the dispatcher hints again what still has to run. Kombu holds on to each
message instead, and where the connection it came over is gone, its attempts to acknowledge it or
to put it back raise what Celery does not expect: the worker ended, with all that it executed.
"""

from typing import Any

from kombu.transport import redis


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


class Transport(redis.Transport):
    Channel = Channel

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """It writes: a Redis that takes no writes refuses, and Celery would forget the connection
        without closing it."""
        try:
            super().register_with_event_loop(connection, loop)
        except Exception:
            self.close_connection(connection)
            raise
