"""Failures on purpose, drawn per order and attempt so that a run can be repeated."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum

from dex.simulation.draws import DRAW_RANGE, draw


class Fault(StrEnum):
    """What goes wrong."""

    QUOTE_UNAVAILABLE = "quote_unavailable"  # the venue gives no quote
    REJECTED = "rejected"  # the transaction lands with an error
    DROPPED = "dropped"  # the transaction never lands, and expires
    REPLY_LOST = "reply_lost"  # the transaction lands, the answer to send() is lost


_PART = re.compile(r"(?:(?P<venue>[a-z0-9_]+)\.)?(?P<fault>[a-z_]+)=(?P<probability>[0-9.]+)")


@dataclass(frozen=True, slots=True)
class Faults:
    """`thresholds`: (venue, or "" for all, and fault) to its probability over 2^64."""

    thresholds: Mapping[tuple[str, Fault], int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Faults":
        """Read "rejected=0.05,raydium.quote_unavailable=1"; a venue's own wins over all.

        ValueError naming the part that is not understood.
        """
        thresholds: dict[tuple[str, Fault], int] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            named, threshold = _parse_part(part)
            if named in thresholds:
                raise ValueError(f"{part!r}: this fault is given twice")
            thresholds[named] = threshold
        return cls(thresholds)

    @property
    def venues(self) -> frozenset[str]:
        """The venues named."""
        return frozenset(venue for venue, _ in self.thresholds if venue)

    def hits(self, fault: Fault, *, seed: str, venue: str, order_id: str, attempt: int) -> bool:
        threshold = self.thresholds.get((venue, fault), self.thresholds.get(("", fault), 0))
        return threshold > 0 and draw(seed, order_id, attempt, venue, fault) < threshold


def _parse_part(part: str) -> tuple[tuple[str, Fault], int]:
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(f"{part!r} is not [venue.]fault=probability")
    if match["fault"] not in list(Fault):
        raise ValueError(f"{part!r}: no such fault, only {', '.join(Fault)}")
    try:
        probability = Decimal(match["probability"])
    except InvalidOperation:
        probability = Decimal(-1)
    if not 0 <= probability <= 1:
        raise ValueError(f"{part!r}: the probability must be between 0 and 1")
    return (match["venue"] or "", Fault(match["fault"])), int(probability * DRAW_RANGE)
