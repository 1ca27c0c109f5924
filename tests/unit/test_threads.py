"""Calls that wait for a server do not wait for each other, and know whom they are made for."""

import asyncio
from collections.abc import Awaitable, Callable
from threading import Barrier
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars

from orders.threads import in_socket_thread, in_thread, in_turn

AT_ONCE = 300


async def test_a_crowd_of_calls_waits_at_the_same_time() -> None:
    everyone = Barrier(AT_ONCE)

    await asyncio.gather(*(in_thread(everyone.wait, 10) for _ in range(AT_ONCE)))


@pytest.mark.parametrize("run", [in_thread, in_turn, in_socket_thread])
async def test_the_lines_of_a_call_have_the_id_of_its_request(
    run: Callable[..., Awaitable[dict[str, Any]]],
) -> None:
    with bound_contextvars(request_id="req-1"):
        known = await run(get_contextvars)

    assert known["request_id"] == "req-1"
