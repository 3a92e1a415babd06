"""Did a heal hold? An alert that fires again soon after the proof was healed for seconds only."""

from __future__ import annotations

from receiver.journal import Episode
from receiver.policy.run import Plan, Run
from receiver.policy.signal import Signal


def relapsed(healed: Run, episode: Episode, signal: Signal, within: float, now: float) -> bool:
    """Whether *episode*, which fires at *now*, is a relapse of the run *healed*.

    Either it is a new firing that began within so many seconds of the heal. Or it is the same
    firing, whose end was never notified (Alertmanager sends it at the next group_interval, and not
    while the rule's `keep_firing_for` lasts), and *signal* says that the expression is true again
    after it was proven false. That proof must have been of the same alert, since a run may have
    waited for another alert of its target, and of the same expression, since an operator's query
    may clear long before the alert does.
    """
    assert healed.finished_at is not None
    assert healed.plan is not None
    end = healed.finished_at
    # starts_at is by the sender's clock; what was notified before the heal is not new after it.
    if min(episode.first_seen, episode.alert.starts_at) > end:
        return episode.first_seen - end < within
    asked = episode.alert.fingerprint in _askers(healed.plan)
    again = asked and healed.plan.verify_query is None and signal is Signal.FIRING
    return again and now - end < within


def _askers(plan: Plan) -> set[str]:
    """Return the fingerprints of the alerts that asked for the run."""
    return {plan.alert["fingerprint"], *(each.fingerprint for each in plan.also)}
