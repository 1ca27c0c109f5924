"""How a web process ends: new connections refused, answers sent, every socket told.

Daphne's own stop cancels what runs and cuts the connections: an order would be stored, and its
answer lost.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

import structlog
from autobahn.exception import Disconnected
from daphne.server import reactor  # the one on Daphne's event loop, whoever imports it first
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.tcp import Port

from orderengine.asgi_types import Application, Message, Receive, Send

log = structlog.get_logger(__name__)

# How long requests and sockets may take to come to their end.
DRAIN_SECONDS = 5.0
# A client that has not answered a close by then is not waited for.
CLOSE_SECONDS = 1.0
# The process ends after so long whatever happens.
LONGEST_SECONDS = 6.0
ROUND_SECONDS = 0.02
# What has reached this machine is read and begun within so many idle rounds.
IDLE_ROUNDS = 5


class Stoppable:
    """An ASGI application around another one, which it can bring to an end.

    `scope["shutdown"]` is an asyncio.Event: the process stops, this call should come to its end.
    """

    def __init__(self, application: Application) -> None:
        self.application = application
        self.stopping = False
        self.running: set[asyncio.Event] = set()  # of each request and each socket

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        shutdown = asyncio.Event()
        if self.stopping:  # the connection was open before
            shutdown.set()
        self.running.add(shutdown)
        inner = {**scope, "shutdown": shutdown}
        try:
            await self.application(inner, receive, self.sender(send, shutdown))
        finally:
            self.running.discard(shutdown)

    def sender(self, send: Send, call: asyncio.Event) -> Send:
        async def send_unless_closed(message: Message) -> None:
            if self.stopping and message["type"] == "http.response.start":
                # The client is to send its next request elsewhere.
                headers = [*message.get("headers", []), (b"Connection", b"close")]
                message = {**message, "headers": headers}
            # On a closed connection Daphne sends nothing, on a closing one Autobahn raises.
            with suppress(Disconnected):
                await send(message)
            if message["type"] == "websocket.close":
                loop = asyncio.get_running_loop()
                loop.call_later(CLOSE_SECONDS, self.running.discard, call)

        return send_unless_closed

    def stop(self) -> None:
        self.stopping = True
        for shutdown in self.running:
            shutdown.set()


def stop_gracefully_on_signals(application: Stoppable) -> None:
    """Let SIGTERM and SIGINT end the process with code 0, the second of them at once.

    Works from the moment Daphne serves, and not under another server.
    """
    # Twisted has installed its own handlers by then.
    reactor.callWhenRunning(install_handlers, application)


def install_handlers(application: Stoppable) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # `runserver`: its main thread reloads code and keeps the signals
    endings = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background of a shell
        endings.remove(signal.SIGINT)

    def begin(_signum: int, _frame: FrameType | None) -> None:
        for signum in (*endings, signal.SIGALRM):
            signal.signal(signum, end_now)
        signal.setitimer(signal.ITIMER_REAL, LONGEST_SECONDS)
        draining = asyncio.run_coroutine_threadsafe(drain(application), reactor._asyncioEventloop)
        draining.add_done_callback(lambda done: done.result())  # logs what was wrong with it

    for signum in endings:
        signal.signal(signum, begin)


def end_now(*_: object) -> None:
    """An ordinary exit waits for the threads, and one of them may wait for the database."""
    os._exit(0)


async def drain(application: Stoppable) -> None:
    """Ends the process when nothing is left to do, or DRAIN_SECONDS later."""
    for reader in reactor.getReaders():
        if isinstance(reader, Port):
            stop_listening(reader)
    log.info("web.stopping", running=len(application.running))
    application.stop()
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            await until_idle(application)
    if application.running:
        log.warning("web.broken_off", running=len(application.running))
    logging.shutdown()
    sys.stdout.flush()  # Daphne's access log
    end_now()


def stop_listening(port: Any) -> None:
    """The next connection is refused; whoever has connected is served.

    Port.stopListening() would close it one round later, and cut off who connects in between.
    """
    port.numberAccepts = port.backlog + 1  # as many as the kernel may hold
    port.doRead()
    port.stopReading()
    port.connectionLost(CONNECTION_DONE)


async def until_idle(application: Stoppable) -> None:
    """Until nothing runs and every byte is on its way, for a few rounds of the event loop."""
    idle = 0
    while idle < IDLE_ROUNDS:
        await asyncio.sleep(ROUND_SECONDS)
        idle = 0 if application.running or reactor.getWriters() else idle + 1
