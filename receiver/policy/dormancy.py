"""Is the whole engine at its wits' end? Targets that fail in a row, the pause after each, dormancy.

A target that fails again and again is one: its own breaker stops that one, and nobody else waits.
What counts as a failure says receiver.policy.run.FAILURES; `inconclusive` and `cancelled` count
neither way. Dormant, nothing begins until a person with a reason resumes it.
"""

from __future__ import annotations

from typing import Final

import msgspec

TOO_MANY: Final = "Exceeded maximum consecutive failures ({0})"
BREAKER: Final = "Circuit breaker self-healing-main is PERMANENT_OPEN"


class Dormancy(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine as a whole has fared lately."""

    failures: int = 0
    """Different targets that have failed, under whichever strategy, since one was healed."""
    failing: tuple[str, ...] = ()
    """Those targets, in the order in which they failed first."""
    failed_at: float | None = None
    """When a run failed last, seconds since the epoch."""
    since: float | None = None
    """When it fell dormant; None while it is awake."""
    reason: str = ""


AWAKE: Final = Dormancy()


def failed(dormancy: Dormancy, target: str, now: float, *, dormant_after: int) -> Dormancy:
    """A run on *target* failed. Dormant already, it stays as it is: what was under way ends."""
    if dormancy.since is not None:
        return dormancy
    counted = msgspec.structs.replace(dormancy, failed_at=now)
    if target not in dormancy.failing:
        counted = Dormancy(
            failures=dormancy.failures + 1, failing=(*dormancy.failing, target), failed_at=now
        )
    if counted.failures < dormant_after:
        return counted
    return lulled(counted, TOO_MANY.format(dormant_after), now)


def anew(dormancy: Dormancy) -> Dormancy:
    """A run healed, or a person has reset the main breaker: that ends the row, but wakes nobody."""
    return AWAKE if dormancy.since is None else dormancy


def lulled(dormancy: Dormancy, reason: str, now: float) -> Dormancy:
    """Return it dormant; the first reason stands."""
    if dormancy.since is not None:
        return dormancy
    return msgspec.structs.replace(dormancy, since=now, reason=reason)


def backoff(failures: int, *, first: float, most: float) -> float:
    """Return for how many seconds nothing begins after so many targets have failed in a row.

    Without any it is what the first failure will cost.
    """
    # A shift would grow beyond all floats; 2**64 times the first is beyond every sensible most.
    return min(most, first * 2.0 ** min(64, max(0, failures - 1)))
