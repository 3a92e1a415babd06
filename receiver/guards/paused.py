"""Has someone switched healing off?

The flag `auto_healing` is the operator's first lever; a strategy in `mode: observe` is decided and
recorded like any other, and never acts.
"""

from __future__ import annotations

from receiver.guards.situation import ALLOW, Reason, Situation, Verdict, deny
from receiver.strategy import Mode


def paused(situation: Situation) -> Verdict:
    if not situation.enabled:
        return deny(Reason.DISABLED, "the flag auto_healing is off")
    if situation.dry_run:
        return deny(Reason.DRY_RUN, "started with --dry-run")
    if situation.strategy.mode is Mode.OBSERVE:
        return deny(Reason.OBSERVE_ONLY, "mode: observe")
    return ALLOW
