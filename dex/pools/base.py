"""A pool at one moment, seen in the direction of a swap: what every curve looks like from here."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

PARTS = 1_000_000_000  # fractions of prices and depths are integers over this


@dataclass(frozen=True, kw_only=True, slots=True)
class Depth:
    """What a constant-product pool of this price and depth holds, in base units.

    Token A is the base of the pair: `a_to_b` when it is sold.
    """

    reserve_in: int
    reserve_out: int
    a_to_b: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveSwap:
    """One exact-in swap on a curve, in base units.

    `net_in` is the input after a fee on it, `gross_out` the output before a fee on it; `fee` is
    in the input token when `fee_on_input`, else in the output token.
    """

    amount_in: int
    net_in: int
    gross_out: int
    amount_out: int
    fee: int
    fee_on_input: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ConstantProduct:
    """A pool that is plain x·y = k; `kept` is the part that the fee leaves."""

    reserve_in: int
    reserve_out: int
    kept: Fraction
    fee_on_input: bool


class Pool(Protocol):
    """One pool of one venue. A live venue's pool is a snapshot of its accounts."""

    @property
    def mid(self) -> Fraction:
        """Base units out for one in, for the smallest amount and without the fee."""

    @property
    def reserve_out(self) -> int:
        """Base units of the output token that the pool can give at most."""

    @property
    def constant_product(self) -> ConstantProduct | None:
        """Set where the best split has a closed form."""

    def swap(self, amount_in: int) -> CurveSwap:
        """Exact, as on chain. ValueError for an amount the curve refuses."""


class SimulatedPool(Pool, Protocol):
    """A pool of the simulated market."""

    def drifted(self, drift: int) -> "SimulatedPool":
        """The pool after its price has moved by `drift` over PARTS.

        What a swap returns follows the price, and so never moves by more.
        """


MakePool = Callable[[Depth], SimulatedPool]
