"""Is somebody at work here, in a maintenance window or under a silence?

Whoever silences an alert takes the matter into their own hands. Alertmanager is asked at the moment
of acting, since a silence may be newer than the notification; while it cannot be asked, nothing
begins.
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
