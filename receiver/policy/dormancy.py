"""Has the engine failed so often in a row that it must stop?

A target that fails again and again counts once: its own breaker stops it, and nobody else waits.
receiver.policy.run.FAILURES says what a failure is; `inconclusive` and `cancelled` count neither
way. While it is dormant nothing begins, until a person resumes it with a reason.
"""

from __future__ import annotations

from typing import Final

import msgspec

TOO_MANY: Final = "Exceeded maximum consecutive failures ({0})"
BREAKER: Final = "Circuit breaker self-healing-main is PERMANENT_OPEN"


class Dormancy(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine as a whole has fared since the last heal."""

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
    """Count a failure on *target*. What is dormant stays as it is, while runs under way end."""
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
    """Forget the failures, after a heal or a reset of the main breaker. Ends no dormancy."""
    return AWAKE if dormancy.since is None else dormancy


def lulled(dormancy: Dormancy, reason: str, now: float) -> Dormancy:
    """Return it dormant; the first reason is kept."""
    if dormancy.since is not None:
        return dormancy
    return msgspec.structs.replace(dormancy, since=now, reason=reason)


def backoff(failures: int, *, first: float, most: float) -> float:
    """Return the seconds for which nothing begins after so many failed targets in a row.

    Without any, those that the first failure will cost.
    """
    # More doublings would overflow a float; 2**64 times the first exceeds every sensible maximum.
    return min(most, first * 2.0 ** min(64, max(0, failures - 1)))
