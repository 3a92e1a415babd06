"""Does it keep failing, everywhere, for this strategy or on this target?

When its time is over, an open breaker lets one run through as a trial. The trial does not wait for
itself.
"""

from __future__ import annotations

from receiver.policy.breaker import PERMANENT_REASON, BreakerState
from receiver.policy.guards.situation import ALLOW, Reason, Situation, Verdict, wait


def breaker(situation: Situation) -> Verdict:
    states = [(name, one, one.state(situation.now)) for name, one in situation.around.breakers]
    for name, _, state in states:
        if state is BreakerState.PERMANENT_OPEN:
            return wait(Reason.BREAKER_PERMANENT_OPEN, None, f"{name}: {PERMANENT_REASON}")
    opened = [(one.until or 0.0, name) for name, one, state in states if state is BreakerState.OPEN]
    if opened:
        until, name = max(opened)
        return wait(Reason.BREAKER_OPEN, until, name)
    for name, one, state in states:
        if state is BreakerState.HALF_OPEN and one.trial not in {None, situation.asking.run}:
            return wait(Reason.BREAKER_OPEN, None, f"{name}: run {one.trial} is its trial")
    return ALLOW
