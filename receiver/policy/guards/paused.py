"""Has somebody stopped it?

Three levers: the flags, a pause with a reason and an end, and a rejection of what fires now.
"""

from __future__ import annotations

from receiver.policy.guards.situation import ALLOW, Reason, Situation, Verdict, deny, wait


def paused(situation: Situation) -> Verdict:
    wishes = situation.wishes
    if not wishes.enabled:
        return deny(Reason.DISABLED, "the flag auto_healing is off")
    if situation.strategy.preventive and not wishes.preventive:
        return deny(Reason.DISABLED, "the flag preventive_healing is off")
    if wishes.rejected:
        return deny(Reason.REJECTED, wishes.rejected)
    if wishes.pause is not None:
        return wait(Reason.PAUSED, wishes.pause.until, wishes.pause.detail)
    return ALLOW
