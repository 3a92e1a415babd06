"""Has this target been healed so often that healing is not the answer?

There may be several windows ("3 an hour and 8 a day"). Every run that began to act counts, whatever
its outcome.
"""

from __future__ import annotations

from receiver.policy.duration import format_duration
from receiver.policy.guards.situation import ALLOW, Reason, Situation, Verdict, wait


def budget(situation: Situation) -> Verdict:
    free_at = situation.now
    detail = ""
    for window in situation.strategy.budget:
        recent = [at for at in situation.past.starts if at > situation.now - window.per]
        if len(recent) >= window.runs:
            # The window is free again when its runs-th newest start has left it.
            until = recent[-window.runs] + window.per
            if until > free_at:
                free_at = until
                detail = f"{window.runs} runs in {format_duration(window.per)}"
    return wait(Reason.BUDGET_EXHAUSTED, free_at, detail) if detail else ALLOW
