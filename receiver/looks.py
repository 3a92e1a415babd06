"""When is Prometheus looked at again, and how does a run end by what was seen?"""

from __future__ import annotations

from typing import Final

from receiver.guards.situation import Signal
from receiver.run import Outcome

LOOKS: Final = 20
"""Looks within the time that a proof may take, as far as the limits of their distance allow."""
SHORTEST: Final = 1.0  # seconds between two looks
LONGEST: Final = 15.0  # seconds between two looks


def outcome_of(signal: Signal, now: float, deadline: float) -> Outcome | None:
    """Return how the run ends by what was seen at *now*, or None to look again."""
    if signal is Signal.CLEARED:
        return Outcome.HEALED
    if now < deadline:
        return None
    return Outcome.INEFFECTIVE if signal is Signal.FIRING else Outcome.INCONCLUSIVE


def next_look(now: float, verify_from: float, within: float) -> float:
    """Return when to look again: soon where little time is given, and once at the deadline."""
    distance = min(max(within / LOOKS, SHORTEST), LONGEST)
    return min(now + distance, verify_from + within)
