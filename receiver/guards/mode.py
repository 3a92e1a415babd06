"""Is this strategy allowed to act at all?

Asked after all that could be in the way: what is denied here is exactly what would have been done,
so that a strategy can be watched before it is trusted.
"""

from __future__ import annotations

from receiver.guards.situation import ALLOW, Reason, Situation, Verdict, deny
from receiver.strategy import Mode


def mode(situation: Situation) -> Verdict:
    if situation.dry_run:
        return deny(Reason.DRY_RUN, "it would act; started with --dry-run")
    if situation.strategy.mode is Mode.OBSERVE:
        return deny(Reason.OBSERVE_ONLY, "it would act; mode: observe")
    return ALLOW
