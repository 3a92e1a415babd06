"""Is this target already being healed?

Two runs on one service at once undo each other's work, and a run that is being verified still owns
the effect that it waits for. The asking run itself does not count.
"""

from __future__ import annotations

from receiver.policy.guards.situation import ALLOW, Reason, Situation, Verdict, wait


def busy(situation: Situation) -> Verdict:
    if situation.holder is not None:
        why = f"; {situation.holder_reason}" if situation.holder_reason else ""
        return wait(Reason.BUSY, None, f"run {situation.holder} holds the target{why}")
    return ALLOW
