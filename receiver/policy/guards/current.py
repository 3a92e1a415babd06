"""Does the alert still fire?

Acting on a healthy service is the worst thing that a healer can do, and Alertmanager often says
nothing when an alert ends: silences, inhibition and restarts swallow `resolved`. So Prometheus is
asked at the moment of acting, and unknown is not yes: what it does not confirm waits, unless the
operator vouches for it by a `when` that holds, a file on the command line, or `when_blind: act`
while Prometheus cannot be asked. Without a `prometheus` the notification is all there is. A `when`
that cannot be evaluated is never true.
"""

from __future__ import annotations

from typing import Final

from receiver.policy.guards.situation import ALLOW, RETRY, Reason, Situation, Verdict, deny, wait
from receiver.policy.signal import ConditionState, Signal, SignalDoubt
from receiver.policy.strategy import WhenBlind

RULES: Final = 60.0
"""Seconds until Prometheus is asked again about a missing rule: somebody must write it."""


def current(situation: Situation) -> Verdict:  # noqa: C901, PLR0911  one return an answer
    if situation.alert is None:
        return deny(Reason.RESOLVED, "no alert fires for this target")
    if situation.upstream.signal is Signal.CLEARED:
        return deny(Reason.RESOLVED, situation.upstream.detail)
    if situation.upstream.signal is Signal.UNKNOWN:
        healed = situation.past.last_healed
        if healed is not None and healed >= situation.last_seen:
            return deny(Reason.RESOLVED, "healed, and not notified since")
        if situation.now - situation.last_seen > situation.bounds.stale_after:
            return deny(Reason.STALE, "not notified for too long, and Prometheus cannot confirm it")
        if (
            situation.upstream.doubt is SignalDoubt.ELSEWHERE
        ):  # nothing that is asked here is about its target
            return wait(Reason.CONDITION_UNKNOWN, situation.now + RULES, situation.upstream.detail)
    match situation.upstream.condition:
        case ConditionState.FALSE:
            return wait(Reason.CONDITION_FALSE, situation.now + RETRY, situation.upstream.detail)
        case ConditionState.UNKNOWN:
            return wait(Reason.CONDITION_UNKNOWN, situation.now + RETRY, situation.upstream.detail)
        case ConditionState.TRUE:
            return ALLOW
        case ConditionState.NONE:
            return _unconfirmed(situation) if situation.upstream.signal is Signal.UNKNOWN else ALLOW


def _unconfirmed(situation: Situation) -> Verdict:
    match situation.upstream.doubt:
        case SignalDoubt.NOBODY | SignalDoubt.VOUCHED:
            return ALLOW
        case SignalDoubt.BLIND if situation.strategy.when_blind is WhenBlind.ACT:
            return ALLOW
        case SignalDoubt.RULE:
            return wait(Reason.RULE_UNKNOWN, situation.now + RULES, situation.upstream.detail)
        case _:
            return wait(Reason.CONDITION_UNKNOWN, situation.now + RETRY, situation.upstream.detail)
