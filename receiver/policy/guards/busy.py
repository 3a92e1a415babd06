"""Is this target already being healed?

Two runs on one service undo each other's work, and a run that is verifying still owns the effect
that it waits for. The asking run itself does not count.
"""

from __future__ import annotations

from receiver.policy.guards.situation import ALLOW, Reason, Situation, Verdict, wait


def busy(situation: Situation) -> Verdict:
    around = situation.around
    if around.holder is not None:
        why = f"; {around.holder_reason}" if around.holder_reason else ""
        return wait(Reason.BUSY, None, f"run {around.holder} holds the target{why}")
    return ALLOW
