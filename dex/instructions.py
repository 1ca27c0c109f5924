"""What a transaction says, as plain data. Addresses are in base58.

`transactions.py` turns it into bytes and `decoding.py` reads them: only those two, the key and the
token accounts need solders, which a process that quotes does not load.
"""

import struct
from dataclasses import dataclass
from hashlib import sha256

_AMOUNTS = struct.Struct("<QQ")


@dataclass(frozen=True, kw_only=True, slots=True)
class SwapLayout:
    """Where a program's swap instruction has the amount in and the minimum out.

    They are two u64, little-endian, between the `prefix` that names the instruction and a `suffix`
    of arguments that are always the same.
    """

    prefix: bytes
    suffix: bytes = b""

    def pack(self, amount_in: int, min_amount_out: int) -> bytes:
        return self.prefix + _AMOUNTS.pack(amount_in, min_amount_out) + self.suffix

    def unpack(self, data: bytes) -> tuple[int, int]:
        """(amount in, minimum out). ValueError for data of another instruction."""
        start, end = len(self.prefix), len(self.prefix) + _AMOUNTS.size
        if data[:start] != self.prefix or data[end:] != self.suffix or len(data) < end:
            raise ValueError("not the program's swap instruction")
        amount_in, min_amount_out = _AMOUNTS.unpack(data[start:end])
        return amount_in, min_amount_out


@dataclass(frozen=True, kw_only=True, slots=True)
class SwapInstruction:
    """One leg. Amounts in base units."""

    program_id: str
    mint_in: str
    mint_out: str
    amount_in: int
    min_amount_out: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedTransaction:
    """What the bytes say; the signature was verified."""

    signature: str
    blockhash: bytes
    order_id: str
    attempt: int
    swaps: tuple[SwapInstruction, ...]

    @property
    def amount_in(self) -> int:
        return sum(swap.amount_in for swap in self.swaps)


def anchor_discriminator(instruction: str) -> bytes:
    """First 8 bytes of sha256("global:<instruction>"), as solana-foundation/anchor has it."""
    return sha256(f"global:{instruction}".encode()).digest()[:8]
