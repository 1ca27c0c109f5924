"""Calls that wait for a server do not wait for each other."""

import asyncio
from threading import Barrier

from orders.threads import in_thread

AT_ONCE = 300


async def test_a_crowd_of_calls_waits_at_the_same_time() -> None:
    everyone = Barrier(AT_ONCE)

    await asyncio.gather(*(in_thread(everyone.wait, 10) for _ in range(AT_ONCE)))
