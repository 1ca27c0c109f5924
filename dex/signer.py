"""The key that signs, kept where nothing can print or carry it."""

from collections.abc import Callable
from threading import Lock
from typing import Never

from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction


class Signer:
    """Signs with a key that is loaded at the first use, in the process that uses it.

    `load` answers the keypair: a new one for the simulation, one read from a file otherwise.
    str(Keypair) is the secret key; repr and str of a Signer are the public key, and it refuses to
    be pickled and copied.
    """

    __slots__ = ("_keypair", "_load", "_lock", "_public_key")

    def __init__(self, load: Callable[[], Keypair] = Keypair) -> None:
        self._load = load
        self._lock = Lock()
        self._keypair: Keypair | None = None
        self._public_key: Pubkey | None = None

    @property
    def public_key(self) -> Pubkey:
        if self._public_key is None:
            self._public_key = self._key().pubkey()
        return self._public_key

    def sign(self, message: MessageV0) -> VersionedTransaction:
        return VersionedTransaction(message, [self._key()])

    def _key(self) -> Keypair:
        with self._lock:
            if self._keypair is None:
                self._keypair = self._load()
            return self._keypair

    def __repr__(self) -> str:
        return f"Signer({self.public_key})"

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("a Signer holds a secret key: it is neither pickled nor copied")
