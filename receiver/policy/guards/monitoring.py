"""Is the target broken, or its monitoring?

While a scrape fails or a rule cannot be evaluated, an alert describes the past, and a heal could
not be proven.
"""

from __future__ import annotations

from receiver.policy.guards.situation import ALLOW, RETRY, Reason, Situation, Verdict, wait


def monitoring(situation: Situation) -> Verdict:
    suspect = situation.upstream.suspect
    if suspect:
        return wait(Reason.MONITORING_SUSPECT, situation.now + RETRY, suspect)
    return ALLOW
