import struct
from dataclasses import replace

import pytest
from solders.instruction import AccountMeta, CompiledInstruction, Instruction
from solders.message import MessageHeader, MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.token import ID as TOKEN_PROGRAM
from solders.transaction import VersionedTransaction

from dex import token_accounts, transactions
from dex.decoding import decode_transaction
from dex.errors import OrderRejected
from dex.instructions import DecodedTransaction, SwapInstruction
from dex.signer import Signer
from dex.simulation.blocks import blockhash, height_of
from dex.simulation.program import Program
from dex.tokens import SOL, USDC, USDT
from dex.transactions import build_transaction, pool_address
from dex.venues.registry import SIMULATED, label_of

MOST_BYTES = 1_232  # of one packet, and so of a transaction
PROGRAMS = [program for venue in SIMULATED.values() for program in venue.programs]
LAYOUTS = {program.program_id: program.layout for program in PROGRAMS}
CPMM, DAMM_V2 = (SIMULATED[name].programs[0] for name in ("raydium", "meteora"))
NATIVE, DOLLAR = Pubkey.from_string(SOL.mint), Pubkey.from_string(USDC.mint)
SWAP = SwapInstruction(
    program_id=CPMM.program_id,
    mint_in=SOL.mint,
    mint_out=USDC.mint,
    amount_in=1_500_000_000,
    min_amount_out=2**64 - 1,
)
SIGNER = Signer()
PAYER = SIGNER.public_key
WRAPPED = token_accounts.token_account(PAYER, NATIVE)


def build(*swaps: SwapInstruction, order_id: str = "ord_1", attempt: int = 2) -> tuple[str, bytes]:
    return build_transaction(
        signer=SIGNER,
        blockhash=blockhash("tests", 7),
        swaps=tuple((swap, LAYOUTS[swap.program_id]) for swap in swaps or (SWAP,)),
        order_id=order_id,
        attempt=attempt,
    )


def decode(raw: bytes) -> DecodedTransaction:
    return decode_transaction(raw, LAYOUTS)


def instructions(raw: bytes) -> list[tuple[Pubkey, bytes]]:
    message = VersionedTransaction.from_bytes(raw).message
    return [
        (message.account_keys[one.program_id_index], bytes(one.data))
        for one in message.instructions
    ]


def test_what_is_built_is_read_back() -> None:
    signature, raw = build()

    decoded = decode(raw)

    assert decoded.signature == signature
    assert decoded.blockhash == blockhash("tests", 7)
    assert (decoded.order_id, decoded.attempt) == ("ord_1", 2)
    assert decoded.swaps == (SWAP,)


def test_several_legs_go_into_one_transaction() -> None:
    legs = (SWAP, replace(SWAP, program_id=DAMM_V2.program_id, amount_in=7))

    decoded = decode(build(*legs)[1])

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
            decode(bytes(tampered))
        assert refused.value.code == "TX_REJECTED"


@pytest.mark.parametrize("cut", [b"", b"junk", build()[1][:-1], build()[1] + b"\0"])
def test_bytes_that_are_no_transaction_are_refused(cut: bytes) -> None:
    with pytest.raises(OrderRejected, match="TX_REJECTED"):
        decode(cut)


def test_a_pool_that_is_not_of_these_mints_is_refused(monkeypatch) -> None:
    program = Pubkey.from_string(SWAP.program_id)
    other = pool_address(program, NATIVE, program)
    monkeypatch.setattr("dex.transactions.pool_address", lambda *_: other)
    _, raw = build()
    monkeypatch.undo()

    with pytest.raises(OrderRejected, match="not those of the pool"):
        decode(raw)


def test_sol_that_is_sold_is_wrapped_and_what_is_left_unwrapped() -> None:
    legs = (SWAP, replace(SWAP, program_id=DAMM_V2.program_id, amount_in=7))

    programs, data = zip(*instructions(build(*legs)[1]), strict=True)

    assert list(programs[2:]) == [
        *[token_accounts.ASSOCIATED_TOKEN_PROGRAM] * 2,
        SYSTEM_PROGRAM,
        TOKEN_PROGRAM,
        Pubkey.from_string(CPMM.program_id),
        Pubkey.from_string(DAMM_V2.program_id),
        TOKEN_PROGRAM,
        transactions.MEMO_PROGRAM,
    ]
    assert data[4] == struct.pack("<IQ", 2, 1_500_000_007)
    assert (data[5], data[8]) == (token_accounts.SYNC_NATIVE, token_accounts.CLOSE_ACCOUNT)


def test_sol_that_is_bought_is_unwrapped_and_other_pairs_need_neither() -> None:
    bought = instructions(build(replace(SWAP, mint_in=USDC.mint, mint_out=SOL.mint))[1])
    neither = instructions(build(replace(SWAP, mint_in=USDC.mint, mint_out=USDT.mint))[1])

    assert [data for program, data in bought if program == TOKEN_PROGRAM] == [b"\x09"]
    assert SYSTEM_PROGRAM not in dict(bought)
    assert TOKEN_PROGRAM not in dict(neither)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.curve)
def test_every_program_has_its_amounts_in_its_own_layout(program: Program) -> None:
    swap = replace(SWAP, program_id=program.program_id)

    raw = build(swap)[1]

    data = dict(instructions(raw))[Pubkey.from_string(program.program_id)]
    assert struct.pack("<QQ", 1_500_000_000, 2**64 - 1) in data
    assert decode(raw).swaps == (swap,)


def test_instructions_are_those_of_the_programs() -> None:
    prefixes = {label_of(one.program_id): one.layout.prefix.hex() for one in PROGRAMS}

    assert (
        prefixes
        | {
            "raydium cpmm": "8fbe5adac41e33de",
            "raydium clmm": "2b04ed0b1ac91e62",
            "raydium amm_v4": "09",
            "meteora damm_v2": "f8c69e91e17587c8",
            "meteora dlmm": "f8c69e91e17587c8",
        }
        == prefixes
    )


def test_the_largest_transaction_fits_into_a_packet() -> None:
    for program in PROGRAMS:
        legs = (replace(SWAP, program_id=program.program_id), SWAP)
        raw = build(*legs, order_id="ord_1762597800000_abcdefghij", attempt=10)[1]
        assert len(raw) <= MOST_BYTES


# Transactions that a chain refuses ---------------------------------------------------------------


def lamports(amount: int) -> Instruction:
    return token_accounts.transfer(
        token_accounts.TransferParams(
            from_pubkey=SIGNER.public_key, to_pubkey=WRAPPED, lamports=amount
        )
    )


def without(steps: list[Instruction], program_id: Pubkey) -> list[Instruction]:
    return [step for step in steps if step.program_id != program_id]


def only(steps: list[Instruction], program_id: Pubkey) -> list[Instruction]:
    return [step for step in steps if step.program_id == program_id]


def to(program_id: Pubkey, data: bytes, *accounts: Pubkey) -> Instruction:
    return Instruction(program_id, data, [AccountMeta(one, False, True) for one in accounts])


CREATED = token_accounts.create_account(PAYER, NATIVE)
CLOSED = token_accounts.after_swaps(PAYER, NATIVE, DOLLAR)


def created(data: bytes, account: Pubkey) -> Instruction:
    """As the payer's account of wrapped SOL is, but for these."""
    payer, _, *others = CREATED.accounts
    return Instruction(
        CREATED.program_id, data, [payer, AccountMeta(account, False, True), *others]
    )


FORGERIES = {
    "not wrapped": (lambda steps: without(steps, SYSTEM_PROGRAM), "0 lamports are wrapped"),
    "too little wrapped": (
        lambda steps: [
            lamports(1_499_999_999) if step.program_id == SYSTEM_PROGRAM else step for step in steps
        ],
        "1499999999 lamports are wrapped, 1500000000 are sold",
    ),
    "never counted": (lambda steps: without(steps, TOKEN_PROGRAM), "0 lamports are wrapped"),
    "accounts missing": (
        lambda steps: without(steps, token_accounts.ASSOCIATED_TOKEN_PROGRAM),
        "the payer's own wrapped SOL|is missing",
    ),
    "lamports elsewhere": (
        lambda steps: [
            *steps,
            token_accounts.transfer(
                token_accounts.TransferParams(
                    from_pubkey=SIGNER.public_key, to_pubkey=DOLLAR, lamports=1
                )
            ),
        ],
        "may only go to",
    ),
    "another token instruction": (
        lambda steps: [*steps, to(TOKEN_PROGRAM, b"\x03", WRAPPED)],
        "nothing else",
    ),
    "closed before it is sold": (lambda steps: [*steps, *CLOSED], "is missing"),
    "closed and opened again": (
        lambda steps: [*steps, *CLOSED, CREATED],
        "0 lamports are wrapped, 1500000000 are sold",
    ),
    "counted before it is there": (
        lambda steps: [*only(steps, TOKEN_PROGRAM), *without(steps, TOKEN_PROGRAM)],
        "own wrapped SOL",
    ),
    "another account counted": (
        lambda steps: [
            *steps,
            to(
                TOKEN_PROGRAM,
                token_accounts.SYNC_NATIVE,
                token_accounts.token_account(PAYER, DOLLAR),
            ),
        ],
        "own wrapped SOL",
    ),
    "counted twice": (
        lambda steps: [
            *[
                lamports(750_000_000) if step.program_id == SYSTEM_PROGRAM else step
                for step in steps
            ],
            *only(steps, TOKEN_PROGRAM),
        ],
        "750000000 lamports are wrapped, 1500000000 are sold",
    ),
    "what is left goes elsewhere": (
        lambda steps: [
            *steps,
            to(TOKEN_PROGRAM, token_accounts.CLOSE_ACCOUNT, WRAPPED, DOLLAR, PAYER),
        ],
        "nothing else",
    ),
    "created otherwise": (lambda steps: [*steps, created(b"\x00", WRAPPED)], "not the creation"),
    "another account created": (
        lambda steps: [*steps, created(token_accounts.CREATE_IDEMPOTENT, DOLLAR)],
        "not the creation",
    ),
    "two memos": (
        lambda steps: [*steps, to(transactions.MEMO_PROGRAM, b"ord_2:1", PAYER)],
        "one memo",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_what_could_never_succeed_is_refused(monkeypatch, name: str) -> None:
    change, message = FORGERIES[name]
    honest = transactions.before_swaps
    monkeypatch.setattr(transactions, "before_swaps", lambda *given: change(honest(*given)))
    _, raw = build()

    with pytest.raises(OrderRejected, match=message) as refused:
        decode(raw)

    assert refused.value.code == "TX_REJECTED"


@pytest.mark.parametrize(
    ("order_id", "attempt"),
    [
        *[("", 1), ("ord_1", ""), ("ord_1", -1), ("ord_1", 0), ("ord_1", "1_0"), ("ord_1", " 1")],
        *[("ord_1", "\u0661"), ("ord_1", 99999999999), ("ord\0", 1), ("ord 1", 1), ("a:b", 1)],
    ],
)
def test_a_memo_names_an_order_and_its_attempt(order_id: str, attempt: int) -> None:
    _, raw = build(order_id=order_id, attempt=attempt)

    with pytest.raises(OrderRejected, match="the memo names an order and its attempt"):
        decode(raw)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"amount_in": 7}, "a pool is asked once"),
        (
            {"program_id": DAMM_V2.program_id, "mint_out": USDT.mint},
            "the swaps are of one pair|is missing",
        ),
        (
            {"program_id": DAMM_V2.program_id, "mint_in": USDC.mint, "mint_out": SOL.mint},
            "the swaps are of one pair",
        ),
    ],
)
def test_legs_are_of_one_pair_and_each_of_its_own_pool(
    second: dict[str, object], message: str
) -> None:
    _, raw = build(SWAP, replace(SWAP, **second))

    with pytest.raises(OrderRejected, match=message):
        decode(raw)


def test_a_transaction_may_fill_a_packet_to_the_last_byte() -> None:
    rest = MOST_BYTES - len(build(order_id="o" * 500)[1])

    full, over = (build(order_id="o" * (500 + rest + more))[1] for more in (0, 1))

    assert (len(full), len(over)) == (MOST_BYTES, MOST_BYTES + 1)
    assert decode(full).swaps == (SWAP,)
    with pytest.raises(OrderRejected, match="not a v0 transaction"):
        decode(over)


@pytest.mark.parametrize("signatures", [0, 2])
def test_one_signature_is_wanted_the_payer_s(signatures: int) -> None:
    honest = VersionedTransaction.from_bytes(build()[1])
    message = honest.message
    header = MessageHeader(signatures, 0, message.header.num_readonly_unsigned_accounts)
    forged = MessageV0(
        header, message.account_keys, message.recent_blockhash, message.instructions, []
    )
    signed = [SIGNER._key().sign_message(to_bytes_versioned(forged))] * min(signatures, 1)

    with pytest.raises(OrderRejected, match="one signature is expected"):
        decode(bytes(VersionedTransaction.populate(forged, signed)))


def test_an_account_that_the_message_does_not_have_is_refused() -> None:
    honest = VersionedTransaction.from_bytes(build()[1]).message
    swap = honest.instructions[-2]
    beyond = CompiledInstruction(swap.program_id_index, swap.data, bytes([200]))
    forged = MessageV0(honest.header, honest.account_keys, honest.recent_blockhash, [beyond], [])

    with pytest.raises(OrderRejected, match="TX_REJECTED"):
        decode(bytes(SIGNER.sign(forged)))


def test_what_one_leg_has_sold_another_cannot_sell(monkeypatch) -> None:
    honest = transactions.before_swaps
    monkeypatch.setattr(
        transactions, "before_swaps", lambda *given: honest(*given[:3], SWAP.amount_in)
    )
    _, raw = build(SWAP, replace(SWAP, program_id=DAMM_V2.program_id, amount_in=7))

    with pytest.raises(OrderRejected, match="0 lamports are wrapped, 7 are sold"):
        decode(raw)


def test_an_unknown_program_is_refused() -> None:
    _, raw = build()

    with pytest.raises(OrderRejected, match="no such program"):
        decode_transaction(raw, {DAMM_V2.program_id: DAMM_V2.layout})


def test_a_blockhash_tells_its_height_to_its_own_chain() -> None:
    known = blockhash("tests", 123)

    assert height_of("tests", known) == 123
    assert height_of("other", known) is None
    assert height_of("tests", bytes(32)) is None
