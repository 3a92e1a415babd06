"""Did something fail a moment ago, anywhere?

What makes one heal fail often makes the next one fail: after each further target that fails, the
whole engine waits twice as long. One that fails again and again is one target.
"""

from __future__ import annotations

from receiver.policy.guards.situation import ALLOW, Reason, Situation, Verdict, wait


def backoff(situation: Situation) -> Verdict:
    failed_at = situation.dormancy.failed_at
    if failed_at is None or situation.now >= failed_at + situation.backoff:
        return ALLOW
    until = failed_at + situation.backoff
    targets = situation.dormancy.failures
    many = "1 target has" if targets == 1 else f"{targets} targets have"
    return wait(Reason.BACKOFF, until, f"{many} failed since the last heal")
