"""What the bytes of a signed transaction say, and whether a chain would take them."""

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from solders.compute_budget import ID as COMPUTE_BUDGET
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.token import ID as TOKEN_PROGRAM
from solders.transaction import VersionedTransaction

from dex.errors import OrderRejected
from dex.instructions import DecodedTransaction, SwapInstruction, SwapLayout
from dex.token_accounts import (
    ASSOCIATED_TOKEN_PROGRAM,
    CLOSE_ACCOUNT,
    CREATE_IDEMPOTENT,
    NATIVE_MINT,
    SYNC_NATIVE,
    token_account,
)
from dex.transactions import MEMO_PROGRAM, swap_accounts

# Of a network packet: no validator takes more.
LARGEST = 1232
_MEMO = re.compile(rb"([!-9;-~]+):([1-9][0-9]{0,3})")
_TRANSFER = struct.Struct("<IQ")  # system instruction 2, lamports
_TRANSFER_TAG = 2


def decode_transaction(raw: bytes, layouts: Mapping[str, SwapLayout]) -> DecodedTransaction:
    """Read a signed transaction; `layouts` by program, of the programs there are.

    Raises OrderRejected(TX_REJECTED) for bytes that are no such transaction, carry a signature
    that is not of the payer, or could never succeed: an unknown program, an account that is
    missing, SOL that was not wrapped, swaps of several pairs or two of one program.
    """
    try:
        transaction = VersionedTransaction.from_bytes(raw)
        message = _verified_message(transaction, raw)
        reading = _Reading(payer=message.account_keys[0], layouts=layouts)
        for program_id, accounts, data in _instructions(message):
            reading.take(program_id, accounts, data)
        order_id, attempt = reading.memo()
    except (ValueError, IndexError, struct.error) as error:
        raise OrderRejected("TX_REJECTED", f"transaction refused: {error}") from None
    return DecodedTransaction(
        signature=str(transaction.signatures[0]),
        blockhash=bytes(message.recent_blockhash),
        order_id=order_id,
        attempt=attempt,
        swaps=tuple(reading.swaps),
    )


def _verified_message(transaction: VersionedTransaction, raw: bytes) -> MessageV0:
    message = transaction.message
    if bytes(transaction) != raw or not isinstance(message, MessageV0) or len(raw) > LARGEST:
        raise ValueError("not a v0 transaction")
    if message.header.num_required_signatures != 1:
        raise ValueError("one signature is expected, the payer's")
    if transaction.verify_with_results() != [True]:
        raise ValueError("signature verification failure")
    return message


def _instructions(message: MessageV0) -> Iterable[tuple[Pubkey, list[Pubkey], bytes]]:
    keys = message.account_keys
    for instruction in message.instructions:
        accounts = [keys[index] for index in instruction.accounts]
        yield keys[instruction.program_id_index], accounts, bytes(instruction.data)


@dataclass(kw_only=True, slots=True)
class _Reading:
    """What the instructions so far have brought about, in their order."""

    payer: Pubkey
    layouts: Mapping[str, SwapLayout]
    swaps: list[SwapInstruction] = field(default_factory=list)
    memos: list[bytes] = field(default_factory=list)
    opened: set[Pubkey] = field(default_factory=set)
    moved: int = 0  # lamports on the account of wrapped SOL that are not counted there yet
    wrapped: int = 0  # those that are counted and not sold yet

    def take(self, program_id: Pubkey, accounts: list[Pubkey], data: bytes) -> None:
        if program_id == MEMO_PROGRAM:
            self.memos.append(data)
        elif program_id == ASSOCIATED_TOKEN_PROGRAM:
            self._open(accounts, data)
        elif program_id == SYSTEM_PROGRAM:
            self._transfer(accounts, data)
        elif program_id == TOKEN_PROGRAM:
            self._sync_or_close(accounts, data)
        elif program_id != COMPUTE_BUDGET:
            self._swap(program_id, accounts, data)

    def memo(self) -> tuple[str, int]:
        """(order id, attempt)"""
        if len(self.memos) != 1 or not self.swaps:
            raise ValueError("a swap and one memo are expected")
        said = _MEMO.fullmatch(self.memos[0])
        if said is None:
            raise ValueError("the memo names an order and its attempt")
        if len({(swap.mint_in, swap.mint_out) for swap in self.swaps}) > 1:
            raise ValueError("the swaps are of one pair")
        if len({swap.program_id for swap in self.swaps}) < len(self.swaps):
            raise ValueError("a pool is asked once")  # the second swap would meet another price
        return said[1].decode(), int(said[2])

    def _open(self, accounts: list[Pubkey], data: bytes) -> None:
        _, account, owner, mint, *_ = accounts
        if data != CREATE_IDEMPOTENT or account != token_account(owner, mint):
            raise ValueError("not the creation of a token account")
        self.opened.add(account)

    def _transfer(self, accounts: list[Pubkey], data: bytes) -> None:
        tag, lamports = _TRANSFER.unpack(data)
        expected = [self.payer, token_account(self.payer, NATIVE_MINT)]
        if tag != _TRANSFER_TAG or accounts != expected:
            raise ValueError("lamports may only go to the payer's wrapped SOL")
        self.moved += lamports

    def _sync_or_close(self, accounts: list[Pubkey], data: bytes) -> None:
        account, *receivers = accounts
        if account != token_account(self.payer, NATIVE_MINT) or account not in self.opened:
            raise ValueError("only the payer's own wrapped SOL is counted or closed")
        if data == SYNC_NATIVE:
            self.wrapped, self.moved = self.wrapped + self.moved, 0
        elif data == CLOSE_ACCOUNT and receivers == [self.payer, self.payer]:
            self.opened.discard(account)
            self.wrapped = 0
        else:
            raise ValueError("the token program is asked for nothing else")

    def _swap(self, program_id: Pubkey, accounts: list[Pubkey], data: bytes) -> None:
        layout = self.layouts.get(str(program_id))
        if layout is None:
            raise ValueError(f"no such program: {program_id}")
        amount_in, minimum = layout.unpack(data)
        _, _, source, destination, mint_in, mint_out, _ = accounts
        swap = SwapInstruction(
            program_id=str(program_id),
            mint_in=str(mint_in),
            mint_out=str(mint_out),
            amount_in=amount_in,
            min_amount_out=minimum,
        )
        if accounts != swap_accounts(self.payer, swap):
            raise ValueError("the accounts are not those of the pool and the payer")
        if not {source, destination} <= self.opened:
            raise ValueError("a token account of the payer is missing")
        if mint_in == NATIVE_MINT:
            self._spend(amount_in)
        self.swaps.append(swap)

    def _spend(self, lamports: int) -> None:
        if lamports > self.wrapped:
            raise ValueError(f"{self.wrapped} lamports are wrapped, {lamports} are sold")
        self.wrapped -= lamports
