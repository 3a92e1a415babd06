"""Is there a worker for it? A run that is bound to a host waits for that host's worker."""

from __future__ import annotations

from receiver.policy.guards.situation import ALLOW, RETRY, Reason, Situation, Verdict, wait


def worker(situation: Situation) -> Verdict:
    absent = situation.asking.absent
    if not absent:
        return ALLOW
    detail = f"no worker for {absent}: start promheal work there"
    return wait(Reason.NO_WORKER, situation.now + RETRY, detail)
