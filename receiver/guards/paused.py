"""Has someone switched healing off?

The flag `auto_healing` is the operator's first lever.
"""

from __future__ import annotations

from receiver.guards.situation import ALLOW, Reason, Situation, Verdict, deny


def paused(situation: Situation) -> Verdict:
    if not situation.enabled:
        return deny(Reason.DISABLED, "the flag auto_healing is off")
    return ALLOW
