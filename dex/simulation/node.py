"""The simulated chain as coroutines reach it: what waits for PostgreSQL waits in a thread."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from dex.grouping import Grouped
from dex.simulation.chain import SimulatedChain
from dex.types import Swap, SwapState

THREADS = 4


class Node:
    """Every coroutine raises what the chain's method of the same name does."""

    def __init__(self, chain: SimulatedChain) -> None:
        self.chain = chain
        self._sends = Grouped(chain.sends)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="simulated-chain")

    async def height(self) -> int:
        """At once, but for every tenth second."""
        known = self.chain.known_height()
        if known is not None:
            return known
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.chain.height)

    async def send(self, raw: bytes) -> None:
        """What is sent while PostgreSQL records others is recorded together by the next call."""
        await self._sends(raw)

    async def statuses(self, swaps: Sequence[Swap]) -> Sequence[SwapState]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.chain.statuses, swaps)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.chain.close()
