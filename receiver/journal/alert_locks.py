"""Which locks of PostgreSQL has who writes alerts? One for each fingerprint, or one for all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from zlib import crc32

SOME_ALERTS: Final = "select pg_advisory_xact_lock_shared(1885891690, 4)"
ALL_THE_ALERTS: Final = "select pg_advisory_xact_lock(1885891690, 4)"
_ALERT: Final = 1885891691
"""The first number of the lock on a fingerprint; the second is made of it."""
MANY: Final = 64
"""Fingerprints of which each has its lock: PostgreSQL has room for some thousand locks."""


def locks_of_alerts(groups: Iterable[tuple[str, ...] | None]) -> list[str]:
    """Return what a group takes that writes alerts of these fingerprints; None is all of them.

    In the order of their numbers, so that no two groups wait for each other in a circle.
    """
    numbers: set[int] = set()
    for fingerprints in groups:
        if fingerprints is None:
            return [ALL_THE_ALERTS]
        numbers.update(crc32(each.encode()) - 2**31 for each in fingerprints)
    if not numbers:
        return []
    if len(numbers) > MANY:
        return [ALL_THE_ALERTS]
    each = ", ".join(f"({number})" for number in sorted(numbers))
    one = f"select pg_advisory_xact_lock({_ALERT}, number) from (values {each}) as alert (number)"  # noqa: S608
    return [SOME_ALERTS, one]
