"""Did something fail a moment ago, anywhere?

What makes one heal fail often makes the next one fail: after each further failure the whole engine
waits twice as long.
"""

from __future__ import annotations

from receiver.guards.situation import ALLOW, Reason, Situation, Verdict, wait


def backoff(situation: Situation) -> Verdict:
    failed_at = situation.dormancy.failed_at
    if failed_at is None or situation.now >= failed_at + situation.backoff:
        return ALLOW
    until = failed_at + situation.backoff
    return wait(Reason.BACKOFF, until, f"{situation.dormancy.failures} failures in a row")
