"""One of a kind in each process, whoever comes first."""

import time
from concurrent.futures import ThreadPoolExecutor

from orders.once import once


def test_threads_that_come_together_get_the_same() -> None:
    made: list[object] = []

    @once
    def slow() -> object:
        time.sleep(0.05)  # long enough for all to be inside
        made.append(object())
        return made[-1]

    with ThreadPoolExecutor(8) as threads:
        got = set(threads.map(lambda _: slow(), range(8)))

    assert len(made) == len(got) == 1
