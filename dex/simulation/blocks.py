"""Blocks of the simulated chain: one every 400 ms of the database's clock."""

from hashlib import sha256

BLOCK_MS = 400

_HEIGHT_BYTES = 8


def height_at(unix_ms: int) -> int:
    return unix_ms // BLOCK_MS


def blockhash(seed: str, height: int) -> bytes:
    """32 bytes: the height, then a digest of seed and height that only this chain has."""
    prefix = height.to_bytes(_HEIGHT_BYTES, "big")
    return prefix + sha256(f"{seed}\x1fblock\x1f{height}".encode()).digest()[_HEIGHT_BYTES:]


def height_of(seed: str, candidate: bytes) -> int | None:
    """The height `candidate` is the blockhash of; None when it is not of this chain."""
    height = int.from_bytes(candidate[:_HEIGHT_BYTES], "big")
    return height if candidate == blockhash(seed, height) else None
