"""Has someone said that nothing may begin here?

Three levers: the flags, a pause with its reason and its end, and a person's no to what fires now.
"""

from __future__ import annotations

from receiver.policy.guards.situation import ALLOW, Reason, Situation, Verdict, deny, wait


def paused(situation: Situation) -> Verdict:
    if not situation.enabled:
        return deny(Reason.DISABLED, "the flag auto_healing is off")
    if situation.strategy.preventive and not situation.preventive:
        return deny(Reason.DISABLED, "the flag preventive_healing is off")
    if situation.rejected:
        return deny(Reason.REJECTED, situation.rejected)
    if situation.pause is not None:
        return wait(Reason.PAUSED, situation.pause.until, situation.pause.detail)
    return ALLOW
