"""Solana v0 transactions: what a route becomes on the wire. `decoding.py` reads them back.

One transaction holds the compute budget, the token accounts with wrapped SOL, one swap instruction
per leg, the unwrapping and a memo of order id and attempt: all of it happens or nothing.
"""

from functools import lru_cache

from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.token import ID as TOKEN_PROGRAM

from dex.instructions import SwapInstruction, SwapLayout
from dex.signer import Signer
from dex.token_accounts import after_swaps, before_swaps, token_account

MEMO_PROGRAM = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")

COMPUTE_UNITS = 80_000  # for the accounts, wrapping and the memo
COMPUTE_UNITS_PER_LEG = 200_000
COMPUTE_UNIT_PRICE = 1_000  # micro-lamports


@lru_cache(maxsize=1024)
def pool_address(program_id: Pubkey, mint: Pubkey, other_mint: Pubkey) -> Pubkey:
    """The same for both directions of a pair."""
    seeds = [b"pool", *sorted((bytes(mint), bytes(other_mint)))]
    return Pubkey.find_program_address(seeds, program_id)[0]


def build_transaction(
    *,
    signer: Signer,
    blockhash: bytes,
    swaps: tuple[tuple[SwapInstruction, SwapLayout], ...],
    order_id: str,
    attempt: int,
) -> tuple[str, bytes]:
    """(signature in base58, signed transaction) of legs that all trade the same two mints."""
    payer, first = signer.public_key, swaps[0][0]
    mint_in, mint_out = Pubkey.from_string(first.mint_in), Pubkey.from_string(first.mint_out)
    amount_in = sum(swap.amount_in for swap, _ in swaps)
    message = MessageV0.try_compile(
        payer,
        [
            set_compute_unit_limit(COMPUTE_UNITS + COMPUTE_UNITS_PER_LEG * len(swaps)),
            set_compute_unit_price(COMPUTE_UNIT_PRICE),
            *before_swaps(payer, mint_in, mint_out, amount_in),
            *(_swap_instruction(payer, swap, layout) for swap, layout in swaps),
            *after_swaps(payer, mint_in, mint_out),
            Instruction(
                MEMO_PROGRAM, f"{order_id}:{attempt}".encode(), [AccountMeta(payer, True, False)]
            ),
        ],
        [],
        Hash(blockhash),
    )
    transaction = signer.sign(message)
    return str(transaction.signatures[0]), bytes(transaction)


def swap_accounts(payer: Pubkey, swap: SwapInstruction) -> list[Pubkey]:
    """The accounts of a swap instruction, the same for every simulated program."""
    mint_in, mint_out = Pubkey.from_string(swap.mint_in), Pubkey.from_string(swap.mint_out)
    return [
        payer,
        pool_address(Pubkey.from_string(swap.program_id), mint_in, mint_out),
        token_account(payer, mint_in),
        token_account(payer, mint_out),
        mint_in,
        mint_out,
        TOKEN_PROGRAM,
    ]


def _swap_instruction(payer: Pubkey, swap: SwapInstruction, layout: SwapLayout) -> Instruction:
    signs, *others = swap_accounts(payer, swap)
    writable, readable = others[:3], others[3:]
    return Instruction(
        Pubkey.from_string(swap.program_id),
        layout.pack(swap.amount_in, swap.min_amount_out),
        [
            AccountMeta(signs, True, True),
            *(AccountMeta(account, False, True) for account in writable),
            *(AccountMeta(account, False, False) for account in readable),
        ],
    )
