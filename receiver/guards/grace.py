"""Was this target healed too recently to judge the result?

A service needs time to come back, and an alert's own window decays slowly; a second heal inside it
hides what the first one did. Counts from the end of the last run, by whichever strategy.
"""

from __future__ import annotations

from receiver.guards.situation import ALLOW, Reason, Situation, Verdict, wait


def grace(situation: Situation) -> Verdict:
    if situation.last_end is None:
        return ALLOW
    until = situation.last_end + situation.strategy.grace_period
    return wait(Reason.GRACE_PERIOD, until) if situation.now < until else ALLOW
