"""Instructions around a swap: the wallet's token accounts, and native SOL as a token.

Native SOL trades as wrapped SOL: lamports moved to the wallet's account of that mint and counted
there (SyncNative); closing the account pays them out again. Encodings from
solana-program/associated-token-account and solana-program/token (Apache-2.0).
"""

from functools import lru_cache

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import TransferParams, transfer
from solders.token import ID as TOKEN_PROGRAM
from solders.token.associated import get_associated_token_address

ASSOCIATED_TOKEN_PROGRAM = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
NATIVE_MINT = Pubkey.from_string("So11111111111111111111111111111111111111112")

CREATE_IDEMPOTENT = b"\x01"
CLOSE_ACCOUNT = b"\x09"
SYNC_NATIVE = b"\x11"


@lru_cache(maxsize=1024)
def token_account(owner: Pubkey, mint: Pubkey) -> Pubkey:
    """The owner's associated account of a mint."""
    return get_associated_token_address(owner, mint)


def before_swaps(
    payer: Pubkey, mint_in: Pubkey, mint_out: Pubkey, amount_in: int
) -> list[Instruction]:
    """Both accounts exist afterwards, and SOL that is sold is wrapped."""
    instructions = [create_account(payer, mint_in), create_account(payer, mint_out)]
    if mint_in == NATIVE_MINT:
        wrapped = token_account(payer, NATIVE_MINT)
        moved = TransferParams(from_pubkey=payer, to_pubkey=wrapped, lamports=amount_in)
        synced = Instruction(TOKEN_PROGRAM, SYNC_NATIVE, [AccountMeta(wrapped, False, True)])
        instructions += [transfer(moved), synced]
    return instructions


def after_swaps(payer: Pubkey, mint_in: Pubkey, mint_out: Pubkey) -> list[Instruction]:
    """SOL on either side is native again."""
    if NATIVE_MINT not in (mint_in, mint_out):
        return []
    accounts = [
        AccountMeta(token_account(payer, NATIVE_MINT), False, True),
        AccountMeta(payer, False, True),
        AccountMeta(payer, True, False),
    ]
    return [Instruction(TOKEN_PROGRAM, CLOSE_ACCOUNT, accounts)]


@lru_cache(maxsize=1024)
def create_account(payer: Pubkey, mint: Pubkey) -> Instruction:
    """Creates the account, or does nothing where there is one."""
    accounts = [
        AccountMeta(payer, True, True),
        AccountMeta(token_account(payer, mint), False, True),
        AccountMeta(payer, False, False),
        AccountMeta(mint, False, False),
        AccountMeta(SYSTEM_PROGRAM, False, False),
        AccountMeta(TOKEN_PROGRAM, False, False),
    ]
    return Instruction(ASSOCIATED_TOKEN_PROGRAM, CREATE_IDEMPOTENT, accounts)
