"""Must a person say yes first?

A strategy with `mode: approve` asks for it, and so does any strategy where undoing failed the last
time: what state the target is in is not known. Asked last, when nothing else is in the way: the yes
is for what would be done now, and it holds for a time.
"""

from __future__ import annotations

from receiver.policy.guards.situation import ALLOW, Reason, Situation, Verdict, deny, wait
from receiver.policy.run import Outcome
from receiver.policy.strategy import Mode


def approval(situation: Situation) -> Verdict:
    demoted = situation.last_outcome is Outcome.ROLLBACK_FAILED
    if situation.strategy.mode is not Mode.APPROVE and not demoted:
        return ALLOW
    now, approved_at = situation.now, situation.approved_at
    if approved_at is not None and now < approved_at + situation.approval_for:
        return ALLOW
    until = (now if situation.asked_at is None else situation.asked_at) + situation.approval_for
    if now >= until:
        return deny(Reason.APPROVAL_EXPIRED, "nobody approved it in time")
    why = "undoing failed on this target the last time" if demoted else "mode: approve"
    detail = f"{why}; {situation.fault}" if situation.fault else why
    return wait(Reason.AWAITING_APPROVAL, until, detail)
