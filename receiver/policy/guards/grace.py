"""Was this target healed too recently to judge the result?

A service needs time to come back, and an alert's own window decays slowly; a second heal inside it
hides what the first one did. It counts from the end of the last run of any strategy. Unless that
run was proven ineffective, data from before it is no reason for another one. After a restore from
a backup every target may have been acted on just before, and nobody knows.
"""

from __future__ import annotations

from receiver.policy.guards.situation import ALLOW, Reason, Situation, Verdict, wait


def grace(situation: Situation) -> Verdict:
    last_end, restored_at = situation.past.last_end, situation.past.restored_at
    period = situation.strategy.grace_period
    if restored_at is not None and situation.now < restored_at + period:
        detail = "what was done before the journal was restored is not known"
        return wait(Reason.GRACE_PERIOD, restored_at + period, detail)
    if last_end is None:
        return ALLOW
    until = last_end + period
    forgets_at, alert = situation.past.forgets_at, situation.alert
    # An alert that has ended in between fires for a new reason.
    same = alert is not None and alert.starts_at <= last_end
    if same and forgets_at is not None and situation.now < forgets_at > until:
        detail = "it may still fire because of what was measured before the last action"
        return wait(Reason.GRACE_PERIOD, forgets_at, detail)
    return wait(Reason.GRACE_PERIOD, until) if situation.now < until else ALLOW
