"""Did a heal hold? What fires again soon after it was proven healed was healed for seconds only."""

from __future__ import annotations

from receiver.journal import Episode
from receiver.policy.run import Plan, Run
from receiver.policy.signal import Signal


def relapsed(healed: Run, episode: Episode, signal: Signal, within: float, now: float) -> bool:
    """Whether *episode*, which fires at *now*, is a relapse of what *healed* has healed.

    It is a new firing that began within so many seconds of the heal. Or it is the same one, whose
    end nobody has told (Alertmanager tells it at the next group_interval, and not while the rule's
    `keep_firing_for` lasts): *signal*, what Prometheus says of its expression just now, tells that
    it is true again, since it was proven false. That proof must have been of the same alert: a run
    may have waited for another one of its target. And of the same expression: an operator's query
    may see the heal long before the alert does.
    """
    assert healed.finished_at is not None
    assert healed.plan is not None
    end = healed.finished_at
    # The start is by the sender's clock, and what was told before the heal is not news after it.
    if min(episode.first_seen, episode.alert.starts_at) > end:
        return episode.first_seen - end < within
    asked = episode.alert.fingerprint in _askers(healed.plan)
    again = asked and healed.plan.verify_query is None and signal is Signal.FIRING
    return again and now - end < within


def _askers(plan: Plan) -> set[str]:
    """Return the fingerprints of the alerts that asked for it."""
    return {plan.alert["fingerprint"], *(each.fingerprint for each in plan.also)}
