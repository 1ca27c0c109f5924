import struct
from dataclasses import replace

import pytest
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from dex.errors import OrderRejected
from dex.signer import Signer
from dex.simulation.blocks import blockhash, height_of
from dex.tokens import SOL, USDC
from dex.transactions import SwapInstruction, build_transaction, decode_transaction, pool_address
from dex.venues.registry import VENUES

PROGRAM = VENUES["raydium"].program
SWAP = SwapInstruction(
    program_id=PROGRAM.program_id,
    discriminator=PROGRAM.discriminator,
    mint_in=Pubkey.from_string(SOL.mint),
    mint_out=Pubkey.from_string(USDC.mint),
    amount_in=1_500_000_000,
    min_amount_out=2**64 - 1,
)
SIGNER = Signer()


def build(*swaps: SwapInstruction, order_id: str = "ord_1", attempt: int = 2) -> tuple[str, bytes]:
    return build_transaction(
        signer=SIGNER,
        blockhash=blockhash("tests", 7),
        swaps=swaps or (SWAP,),
        order_id=order_id,
        attempt=attempt,
    )


def test_what_is_built_is_read_back() -> None:
    signature, raw = build()

    decoded = decode_transaction(raw)

    assert decoded.signature == signature
    assert decoded.blockhash == blockhash("tests", 7)
    assert (decoded.order_id, decoded.attempt) == ("ord_1", 2)
    assert decoded.swaps == (SWAP,)


def test_several_legs_go_into_one_transaction() -> None:
    legs = (SWAP, replace(SWAP, program_id=VENUES["meteora"].program.program_id, amount_in=7))

    decoded = decode_transaction(build(*legs)[1])

    assert decoded.swaps == legs
    assert decoded.amount_in == 1_500_000_007


def test_the_signature_is_64_bytes_of_ed25519_by_the_payer() -> None:
    signature, raw = build()

    transaction = VersionedTransaction.from_bytes(raw)

    assert transaction.verify_with_results() == [True]
    assert transaction.message.account_keys[0] == SIGNER.public_key
    assert str(transaction.signatures[0]) == signature
    assert len(bytes(transaction.signatures[0])) == 64


def test_the_same_message_signed_again_has_the_same_signature() -> None:
    assert build() == build()
    assert build(attempt=3)[0] != build()[0]


def test_a_change_of_any_byte_is_refused() -> None:
    _, raw = build()

    for position in range(len(raw)):
        tampered = bytearray(raw)
        tampered[position] ^= 1
        with pytest.raises(OrderRejected) as refused:
            decode_transaction(bytes(tampered))
        assert refused.value.code == "TX_REJECTED"


@pytest.mark.parametrize("cut", [b"", b"junk", build()[1][:-1], build()[1] + b"\0"])
def test_bytes_that_are_no_transaction_are_refused(cut: bytes) -> None:
    with pytest.raises(OrderRejected, match="TX_REJECTED"):
        decode_transaction(cut)


def test_a_pool_that_is_not_of_these_mints_is_refused(monkeypatch) -> None:
    other = pool_address(SWAP.program_id, SWAP.mint_in, SWAP.program_id)
    monkeypatch.setattr("dex.transactions.pool_address", lambda *_: other)
    _, raw = build()
    monkeypatch.undo()

    with pytest.raises(OrderRejected, match="not those of the pool"):
        decode_transaction(raw)


def test_the_instruction_data_are_discriminator_and_two_u64() -> None:
    transaction = VersionedTransaction.from_bytes(build()[1])
    data = bytes(transaction.message.instructions[2].data)

    assert data == PROGRAM.discriminator + struct.pack("<QQ", 1_500_000_000, 2**64 - 1)
    assert PROGRAM.discriminator.hex() == "8fbe5adac41e33de"
    assert VENUES["meteora"].program.discriminator.hex() == "f8c69e91e17587c8"


def test_a_blockhash_tells_its_height_to_its_own_chain() -> None:
    known = blockhash("tests", 123)

    assert height_of("tests", known) == 123
    assert height_of("other", known) is None
    assert height_of("tests", bytes(32)) is None
