"""Has the engine stopped itself?

After so many failed targets in a row, promheal does not understand what is going on. Only a person
ends that, with a reason; neither time nor a restart does.
"""

from __future__ import annotations

from receiver.policy.guards.situation import ALLOW, Reason, Situation, Verdict, wait


def dormant(situation: Situation) -> Verdict:
    dormancy = situation.around.dormancy
    if dormancy.since is not None:
        return wait(Reason.DORMANT, None, dormancy.reason)
    return ALLOW
