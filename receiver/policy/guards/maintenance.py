"""Is someone at work here, by plan or by a silence?

Who silences an alert takes the matter into their own hands. Alertmanager is asked at the moment of
acting, since the notification may be older than the silence; if it cannot say, nothing begins.
"""

from __future__ import annotations

from receiver.policy.guards.situation import ALLOW, RETRY, Reason, Situation, Verdict, wait


def maintenance(situation: Situation) -> Verdict:
    window = situation.wishes.maintenance
    if window is not None:
        return wait(Reason.MAINTENANCE, window.until, window.detail)
    silencing = situation.upstream.silencing
    if silencing.unknown:
        return wait(Reason.SILENCE_UNKNOWN, situation.now + RETRY, silencing.unknown)
    if silencing.by:
        return wait(Reason.SILENCED, situation.now + RETRY, silencing.by)
    return ALLOW
