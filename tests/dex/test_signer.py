import copy
import json
import pickle
import traceback
from pathlib import Path

import pytest
from solders.keypair import Keypair

from dex.signer import KeypairFileError, Signer, open_signer, read_keypair

KEYPAIR = Keypair.from_seed(bytes(range(32)))
SECRETS = (str(KEYPAIR), KEYPAIR.to_json(), repr(bytes(KEYPAIR)), bytes(range(32)).hex())


@pytest.fixture
def signer() -> Signer:
    return Signer(lambda: KEYPAIR)


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r:}".format, ascii])
def test_a_signer_shows_its_public_key_alone(signer: Signer, show) -> None:
    text = show(signer)

    assert text == f"Signer({KEYPAIR.pubkey()})"
    assert not any(secret in text for secret in SECRETS)


@pytest.mark.parametrize(
    "carry", [*(lambda s, p=p: pickle.dumps(s, p) for p in range(6)), copy.copy, copy.deepcopy]
)
def test_a_signer_is_neither_pickled_nor_copied(signer: Signer, carry) -> None:
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        carry(signer)


def test_a_signer_has_no_dict_to_dump(signer: Signer) -> None:
    with pytest.raises(TypeError):
        vars(signer)


def test_an_error_while_signing_carries_no_secret(signer: Signer) -> None:
    with pytest.raises(TypeError) as caught:
        signer.sign("not a message")

    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    text = "".join(shown.format())
    assert "Signer(" in text
    assert not any(secret in text for secret in SECRETS)


def test_the_key_is_loaded_once_and_not_before_it_is_used() -> None:
    loaded: list[Keypair] = []
    signer = Signer(lambda: loaded.append(Keypair()) or loaded[-1])
    assert loaded == []

    first, second = signer.public_key, signer.public_key

    assert first == second
    assert len(loaded) == 1


# A key from a file -------------------------------------------------------------------------------


@pytest.fixture
def keypair_file(tmp_path: Path) -> Path:
    file = tmp_path / "id.json"
    file.write_text(KEYPAIR.to_json())
    file.chmod(0o600)
    return file


def test_a_key_is_read_from_the_file_of_solana_keygen(keypair_file: Path) -> None:
    assert open_signer(keypair_file).public_key == KEYPAIR.pubkey()
    assert open_signer(None).public_key != open_signer(None).public_key


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660])
def test_a_file_that_others_may_read_is_not_used(keypair_file: Path, mode: int) -> None:
    keypair_file.chmod(mode)

    with pytest.raises(KeypairFileError, match="others may read it; chmod 600"):
        read_keypair(keypair_file)


@pytest.mark.parametrize(
    "content",
    [
        KEYPAIR.to_json()[:-5],
        KEYPAIR.to_json().replace("0", "256"),
        f'"{KEYPAIR}"',
        f'{{"key": {KEYPAIR.to_json()}}}',
        str(KEYPAIR),
        json.dumps([*json.loads(KEYPAIR.to_json())[:63], 999]),
        "",
        "7" * 40,
        "64",
        "[" * 100_000,
    ],
)
def test_a_file_that_is_none_is_refused_without_showing_what_is_in_it(
    keypair_file: Path, content: str
) -> None:
    keypair_file.write_text(content)

    with pytest.raises(KeypairFileError, match="not the 64 numbers") as caught:
        read_keypair(keypair_file)

    shown = traceback.TracebackException.from_exception(caught.value)
    text = "".join(shown.format()) + repr(caught.value) + repr(vars(caught.value))
    assert caught.value.__context__ is None
    assert not any(secret in text for secret in (*SECRETS, KEYPAIR.to_json()[1:40]))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeypairFileError, match=r"none\.json: No such file"):
        read_keypair(tmp_path / "none.json")
