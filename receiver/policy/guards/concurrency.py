"""Are as many runs acting as may act at once?

A hundred alerts at once usually have one cause. A bound on concurrent actions leaves the machine
and the operator room to react. Runs that verify hold no slot.
"""

from __future__ import annotations

from receiver.policy.guards.situation import ALLOW, Reason, Situation, Verdict, wait


def concurrency(situation: Situation) -> Verdict:
    if situation.around.acting >= situation.bounds.max_concurrent_runs:
        return wait(Reason.CONCURRENCY, None, f"{situation.around.acting} runs are acting")
    return ALLOW
