"""Repeatable random numbers: SHA-256 of the seed and what the number is for."""

from hashlib import sha256

DRAW_RANGE = 2**64


def draw(seed: str, *parts: str | int) -> int:
    """Uniform in 0 … 2^64 - 1; the same for the same seed and parts in every process."""
    key = "\x1f".join((seed, *map(str, parts)))
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big")


def draw_between(low: int, high: int, seed: str, *parts: str | int) -> int:
    """Uniform in low … high, both included."""
    return low + draw(seed, *parts) * (high - low + 1) // DRAW_RANGE
