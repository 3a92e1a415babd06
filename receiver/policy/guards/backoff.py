"""Did a heal fail a moment ago, on any target?

What makes one heal fail often makes the next one fail: with each further target that fails, the
whole engine waits twice as long. A target that fails again and again counts once.
"""

from __future__ import annotations

from receiver.policy.guards.situation import ALLOW, Reason, Situation, Verdict, wait


def backoff(situation: Situation) -> Verdict:
    dormancy = situation.around.dormancy
    if dormancy.failed_at is None:
        return ALLOW
    until = dormancy.failed_at + situation.bounds.backoff
    if situation.now >= until:
        return ALLOW
    targets = dormancy.failures
    many = "1 target has" if targets == 1 else f"{targets} targets have"
    return wait(Reason.BACKOFF, until, f"{many} failed since the last heal")
