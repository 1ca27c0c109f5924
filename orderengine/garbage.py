"""Python's garbage collector in the processes that must not pause."""

import gc


def keep_what_is_loaded() -> None:
    """A collection that looks through it would hold up all requests, or orders, for 50 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
