"""Is it still true?

An action on a healthy service is the worst thing that a healer can do, and Alertmanager often says
nothing when an alert ends: silences, inhibition and restarts swallow `resolved`. So Prometheus is
asked at the moment of acting. Where it cannot say, the notification is believed for a while, but a
`when` that cannot be answered is never taken for true.
"""

from __future__ import annotations

from receiver.guards.situation import (
    ALLOW,
    RETRY,
    Condition,
    Reason,
    Signal,
    Situation,
    Verdict,
    deny,
    wait,
)


def current(situation: Situation) -> Verdict:  # noqa: PLR0911  one return an answer
    if situation.alert is None:
        return deny(Reason.RESOLVED, "no alert fires for this target")
    if situation.signal is Signal.CLEARED:
        return deny(Reason.RESOLVED, situation.upstream_detail)
    if situation.signal is Signal.UNKNOWN:
        healed = situation.last_healed
        if healed is not None and healed >= situation.last_seen:
            return deny(Reason.RESOLVED, "healed, and not notified since")
        if situation.now - situation.last_seen > situation.stale_after:
            return deny(Reason.STALE, "not notified for too long, and Prometheus cannot confirm it")
    match situation.condition:
        case Condition.FALSE:
            return wait(Reason.CONDITION_FALSE, situation.now + RETRY, situation.upstream_detail)
        case Condition.UNKNOWN:
            return wait(Reason.CONDITION_UNKNOWN, situation.now + RETRY, situation.upstream_detail)
        case Condition.NONE | Condition.TRUE:
            return ALLOW
