"""How far does a transaction reach? What no other may write while it reads and writes.

A file has one writer, so there it does not matter. In PostgreSQL it says which writers wait for
each other (docs/explanation/locks.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

import msgspec


class Lane(Enum):
    EVERYTHING = "everything"
    """What is counted over several targets, and what people change: one at a time."""
    OWN = "own"
    """What nobody else writes: of the target that this process has in hand, or of its own."""
    ALERTS = "alerts"
    """Alerts, by their fingerprints, what they ask for, and who is woken for them."""


class Extent(msgspec.Struct, frozen=True):
    lane: Lane
    fingerprints: tuple[str, ...] | None = ()
    """Of the alerts; None for all that there are."""


EVERYTHING: Final = Extent(Lane.EVERYTHING)
OWN: Final = Extent(Lane.OWN)
ALL_ALERTS: Final = Extent(Lane.ALERTS, None)


def of_alerts(fingerprints: Iterable[str]) -> Extent:
    """Return the extent of who writes these alerts; without any, of who only wakes."""
    return Extent(Lane.ALERTS, tuple(fingerprints))
