"""The key that signs, kept where nothing can print or carry it."""

import json
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Never

if TYPE_CHECKING:  # solders is loaded with the key: a process that quotes needs neither
    from solders.keypair import Keypair
    from solders.message import MessageV0
    from solders.pubkey import Pubkey
    from solders.transaction import VersionedTransaction


def new_keypair() -> "Keypair":
    from solders.keypair import Keypair  # noqa: PLC0415

    return Keypair()


class Signer:
    """Signs with a key that is loaded at the first use, in the process that uses it.

    `load` answers the keypair: a new one for the simulation, one read from a file otherwise.
    str(Keypair) is the secret key; repr and str of a Signer are the public key, and it refuses to
    be pickled and copied.
    """

    __slots__ = ("_keypair", "_load", "_lock", "_public_key")

    def __init__(self, load: "Callable[[], Keypair]" = new_keypair) -> None:
        self._load = load
        self._lock = Lock()
        self._keypair: Keypair | None = None
        self._public_key: Pubkey | None = None

    @property
    def public_key(self) -> "Pubkey":
        if self._public_key is None:
            self._public_key = self._key().pubkey()
        return self._public_key

    def sign(self, message: "MessageV0") -> "VersionedTransaction":
        """VersionedTransaction(message, [key]) signs twice."""
        from solders.message import to_bytes_versioned  # noqa: PLC0415
        from solders.transaction import VersionedTransaction  # noqa: PLC0415

        signature = self._key().sign_message(to_bytes_versioned(message))
        return VersionedTransaction.populate(message, [signature])

    def _key(self) -> "Keypair":
        with self._lock:
            if self._keypair is None:
                self._keypair = self._load()
            return self._keypair

    def __repr__(self) -> str:
        return f"Signer({self.public_key})"

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("a Signer holds a secret key: it is neither pickled nor copied")


class KeypairFileError(Exception):
    """The file of the key cannot be used; the message says why and shows nothing of it."""


def open_signer(path: Path | None) -> Signer:
    """With the key of a file, read at the first use; without one, a new key for this process."""
    return Signer() if path is None else Signer(partial(read_keypair, path))


def read_keypair(path: Path) -> "Keypair":
    """The 64 numbers that `solana-keygen` writes. Raises KeypairFileError.

    Raised outside of the handlers, so that it does not carry an error that quotes the file.
    """
    from solders.keypair import Keypair  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            if not stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                return Keypair.from_bytes(bytes([*json.load(file)]))
        wrong = f"others may read it; chmod 600 {path}"
    except OSError as error:
        wrong = error.strerror or "cannot be read"
    except (ValueError, TypeError, RecursionError):
        wrong = "not the 64 numbers of a keypair file"
    raise KeypairFileError(f"{path}: {wrong}")
