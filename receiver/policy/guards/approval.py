"""Must a person say yes first?

A strategy with `mode: approve` asks for it, and so does any strategy whose last rollback on this
target failed, since nobody knows what state the target is in. Asked last, when nothing else is in
the way: the approval is for what would be done now, and it expires.
"""

from __future__ import annotations

from receiver.policy.guards.situation import ALLOW, Reason, Situation, Verdict, deny, wait
from receiver.policy.run import Outcome
from receiver.policy.strategy import Mode


def approval(situation: Situation) -> Verdict:
    demoted = situation.past.last_outcome is Outcome.ROLLBACK_FAILED
    if situation.strategy.mode is not Mode.APPROVE and not demoted:
        return ALLOW
    now, asking, holds_for = situation.now, situation.asking, situation.bounds.approval_for
    if asking.approved_at is not None and now < asking.approved_at + holds_for:
        return ALLOW
    until = (now if asking.asked_at is None else asking.asked_at) + holds_for
    if now >= until:
        return deny(Reason.APPROVAL_EXPIRED, "nobody approved it in time")
    why = "undoing failed on this target the last time" if demoted else "mode: approve"
    detail = f"{why}; {asking.fault}" if asking.fault else why
    return wait(Reason.AWAITING_APPROVAL, until, detail)
