"""Is this strategy allowed to act at all?

Asked after everything that could be in the way: what is denied here would have been done, so that a
strategy can be watched before it is trusted.
"""

from __future__ import annotations

from receiver.policy.guards.situation import ALLOW, Answer, Reason, Situation, Verdict, deny
from receiver.policy.strategy import Mode


def mode(situation: Situation) -> Verdict:
    fault = situation.asking.fault
    does = fault or "it would act"
    if situation.wishes.dry_run:
        return deny(Reason.DRY_RUN, f"{does}; started with --dry-run")
    if situation.strategy.mode is Mode.OBSERVE:
        return deny(Reason.OBSERVE_ONLY, f"{does}; mode: observe")
    return Verdict(Answer.ALLOW, detail=fault) if fault else ALLOW
