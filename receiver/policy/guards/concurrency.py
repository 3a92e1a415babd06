"""Are enough runs acting at once?

A hundred alerts together are one cause and not a hundred: a bound on what acts at the same moment
leaves the machine and the person in charge room to breathe. Runs that verify hold no slot.
"""

from __future__ import annotations

from receiver.policy.guards.situation import ALLOW, Reason, Situation, Verdict, wait


def concurrency(situation: Situation) -> Verdict:
    if situation.around.acting >= situation.bounds.max_concurrent_runs:
        return wait(Reason.CONCURRENCY, None, f"{situation.around.acting} runs are acting")
    return ALLOW
