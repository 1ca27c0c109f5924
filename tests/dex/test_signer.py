import copy
import pickle
import traceback

import pytest
from solders.keypair import Keypair

from dex.signer import Signer

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
