"""Where coroutines make calls that wait for PostgreSQL or Redis."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

T = TypeVar("T")

# Started as they are needed. A server that is silent holds each for up to 2.5 s: with so many,
# whoever calls meanwhile has a thread too, and is told as soon.
MOST = 1_000
_threads = ThreadPoolExecutor(max_workers=MOST, thread_name_prefix="calls")
# More batches wait for each other in PostgreSQL, at the same pages of its indexes.
_batches = ThreadPoolExecutor(max_workers=4, thread_name_prefix="batches")
# Channels runs all database calls of all sockets in one thread: one slow query would freeze them.
_sockets = ThreadPoolExecutor(max_workers=4, thread_name_prefix="socket-reads")


async def in_thread(call: Callable[..., T], *args: object) -> T:
    """With the caller's context: log lines have the id of its request."""
    return await _run(_threads, call, *args)


async def in_turn(call: Callable[..., T], *args: object) -> T:
    """The same for a batch. One whose caller has given up waiting for its turn is never made."""
    return await _run(_batches, call, *args)


async def in_socket_thread(call: Callable[..., T], *args: object) -> T:
    """The same in the few threads that open sockets share."""
    return await _run(_sockets, call, *args)


async def _run(threads: ThreadPoolExecutor, call: Callable[..., T], *args: object) -> T:
    run = partial(contextvars.copy_context().run, call, *args)
    return await asyncio.get_running_loop().run_in_executor(threads, run)
