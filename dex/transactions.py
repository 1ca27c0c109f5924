"""Solana v0 transactions: what a route becomes on the wire, and what can be read back.

One transaction holds the compute budget, one swap instruction per leg and a memo. A swap
instruction's data are the 8-byte Anchor discriminator, the amount in and the minimum amount out
(u64, little-endian); its accounts are payer, pool, mint in, mint out and the token program.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from solders.compute_budget import ID as COMPUTE_BUDGET
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, CompiledInstruction, Instruction
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from dex.errors import OrderRejected
from dex.signer import Signer

MEMO_PROGRAM = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
TOKEN_PROGRAM = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")

COMPUTE_UNITS_PER_LEG = 200_000
COMPUTE_UNIT_PRICE = 1_000  # micro-lamports

_SWAP_DATA = struct.Struct("<8sQQ")


@dataclass(frozen=True, kw_only=True, slots=True)
class SwapInstruction:
    """One leg. Amounts in base units."""

    program_id: Pubkey
    discriminator: bytes
    mint_in: Pubkey
    mint_out: Pubkey
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


@lru_cache(maxsize=1024)
def pool_address(program_id: Pubkey, mint: Pubkey, other_mint: Pubkey) -> Pubkey:
    """The same for both directions of a pair."""
    seeds = [b"pool", *sorted((bytes(mint), bytes(other_mint)))]
    return Pubkey.find_program_address(seeds, program_id)[0]


def build_transaction(
    *,
    signer: Signer,
    blockhash: bytes,
    swaps: tuple[SwapInstruction, ...],
    order_id: str,
    attempt: int,
) -> tuple[str, bytes]:
    """(signature in base58, signed transaction)"""
    payer = signer.public_key
    message = MessageV0.try_compile(
        payer,
        [
            set_compute_unit_limit(COMPUTE_UNITS_PER_LEG * len(swaps)),
            set_compute_unit_price(COMPUTE_UNIT_PRICE),
            *(_swap_instruction(payer, swap) for swap in swaps),
            Instruction(
                MEMO_PROGRAM, f"{order_id}:{attempt}".encode(), [AccountMeta(payer, True, False)]
            ),
        ],
        [],
        Hash(blockhash),
    )
    transaction = signer.sign(message)
    return str(transaction.signatures[0]), bytes(transaction)


def decode_transaction(raw: bytes) -> DecodedTransaction:
    """Read a signed transaction.

    Raises OrderRejected(TX_REJECTED) for bytes that are no such transaction or carry a signature
    that is not of the payer.
    """
    try:
        transaction = VersionedTransaction.from_bytes(raw)
        message = _verified_message(transaction, raw)
        order_id, attempt, swaps = _read_instructions(message)
    except (ValueError, IndexError, struct.error) as error:
        raise OrderRejected("TX_REJECTED", f"transaction refused: {error}") from None
    return DecodedTransaction(
        signature=str(transaction.signatures[0]),
        blockhash=bytes(message.recent_blockhash),
        order_id=order_id,
        attempt=attempt,
        swaps=swaps,
    )


def _swap_instruction(payer: Pubkey, swap: SwapInstruction) -> Instruction:
    pool = pool_address(swap.program_id, swap.mint_in, swap.mint_out)
    return Instruction(
        swap.program_id,
        _SWAP_DATA.pack(swap.discriminator, swap.amount_in, swap.min_amount_out),
        [
            AccountMeta(payer, True, True),
            AccountMeta(pool, False, True),
            AccountMeta(swap.mint_in, False, False),
            AccountMeta(swap.mint_out, False, False),
            AccountMeta(TOKEN_PROGRAM, False, False),
        ],
    )


def _verified_message(transaction: VersionedTransaction, raw: bytes) -> MessageV0:
    message = transaction.message
    if bytes(transaction) != raw or not isinstance(message, MessageV0):
        raise ValueError("not a v0 transaction")
    if not all(transaction.verify_with_results()):
        raise ValueError("signature verification failure")
    return message


def _read_instructions(message: MessageV0) -> tuple[str, int, tuple[SwapInstruction, ...]]:
    keys = message.account_keys
    memos: list[bytes] = []
    swaps: list[SwapInstruction] = []
    for instruction in message.instructions:
        program_id = keys[instruction.program_id_index]
        if program_id == MEMO_PROGRAM:
            memos.append(bytes(instruction.data))
        elif program_id != COMPUTE_BUDGET:
            swaps.append(_read_swap(program_id, instruction, keys))
    if len(memos) != 1 or not swaps:
        raise ValueError("a swap and one memo are expected")
    order_id, _, attempt = memos[0].decode().rpartition(":")
    return order_id, int(attempt), tuple(swaps)


def _read_swap(
    program_id: Pubkey, instruction: CompiledInstruction, keys: list[Pubkey]
) -> SwapInstruction:
    discriminator, amount_in, minimum = _SWAP_DATA.unpack(instruction.data)
    payer, pool, mint_in, mint_out, _ = (keys[index] for index in instruction.accounts)
    if payer != keys[0] or pool != pool_address(program_id, mint_in, mint_out):
        raise ValueError("the accounts are not those of the pool")
    return SwapInstruction(
        program_id=program_id,
        discriminator=discriminator,
        mint_in=mint_in,
        mint_out=mint_out,
        amount_in=amount_in,
        min_amount_out=minimum,
    )
