"""Which series of this Prometheus is the alert's?

Only what this Prometheus returned for the alert before the action can be judged after it: the alert
of another cluster never is, and no healthy sibling vouches for what fed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from receiver.policy.promql import Rule, Sample
from receiver.policy.relabel import Sending

ALWAYS_SET: Final = frozenset({"__name__", "alertname"})
"""Labels that every rule overwrites or drops."""


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """The alert's series before the action, and how to ask about it afterwards."""

    expression: str
    labels: dict[str, str]
    """Of the series that the expression returned; of an operator's own query, the target's."""
    fed_at: float
    """When it was returned, seconds since the epoch, by the server's clock."""
    lag: float = 0.0
    """Seconds that the server evaluates behind promheal's clock."""
    well_at: float = 0.0
    """A moment before the alert fired at all; 0: not known."""
    own: bool = False
    """The expression is the operator's: it need not have returned anything before."""


class Matched(msgspec.Struct, frozen=True):
    """Which of the returned series are the alert's."""

    sample: Sample | None = None
    note: str = ""
    """How it was bound, where that is not plain; without a sample, why there is none."""
    ambiguous: bool = False
    """Several may be: the alert fires, and its end could not be told."""


def find(
    samples: Iterable[Sample],
    alert_labels: Mapping[str, str],
    rule: Rule | None,
    sending: Sending | None,
) -> Matched:
    """Return the series of *samples* that the alert is of.

    With the server's own configuration, what it would send is compared with what came: nothing in
    the alert may differ, and what lacks in it must not leave several to choose from. Without,
    the labels decide: a label that only one of both has does not tell them apart, since external
    labels are added to alerts and relabelling drops some.
    """
    rule_labels = {} if rule is None else rule.labels
    every = [_unnamed(sample) for sample in samples]
    set_by_rule = ALWAYS_SET.union(rule_labels)
    ours = [each for each in every if not differing(each.labels, alert_labels, set_by_rule)]
    if sending is not None:
        conflict = sending.conflict(alert_labels)
        if conflict:
            return Matched(note=conflict)
        if sending.chains is not None and rule is not None:
            sent = [e for e in every if sending.sends(e.labels, rule_labels, alert_labels)]
            if not sent:
                sent = [e for e in every if sending.may_send(e.labels, rule_labels, alert_labels)]
            if sent or not ours:
                return _one(sent)
            return Matched(note=sending.difference(ours[0].labels, rule_labels, alert_labels))
    if ours:
        most = max(len(each.labels.keys() & alert_labels.keys()) for each in ours)
        return _one([e for e in ours if len(e.labels.keys() & alert_labels.keys()) == most])
    cut = [each for each in every if _cut_off(each.labels, alert_labels, set_by_rule)]
    found = _one(cut)
    if found.sample is None or found.ambiguous:
        return found
    name, *_ = sorted(differing(found.sample.labels, alert_labels, set_by_rule))
    return Matched(
        found.sample, f"bound to {name}={found.sample.labels[name]} by alert relabelling"
    )


def differing(
    labels: Mapping[str, str], alert_labels: Mapping[str, str], set_by_rule: frozenset[str]
) -> set[str]:
    """The labels that both have, with different values, and that the rule did not set."""
    return {
        name
        for name in labels.keys() & alert_labels.keys() - set_by_rule
        if labels[name] != alert_labels[name]
    }


def _cut_off(
    labels: Mapping[str, str], alert_labels: Mapping[str, str], set_by_rule: frozenset[str]
) -> bool:
    """Whether the alert has each differing label cut at `:` or `.`: `node7` of `node7:9100`."""
    return all(
        labels[name].startswith((f"{alert_labels[name]}:", f"{alert_labels[name]}."))
        for name in differing(labels, alert_labels, set_by_rule)
    )


def _one(candidates: list[Sample]) -> Matched:
    if len(candidates) == 1:
        return Matched(candidates[0])
    if candidates:
        return Matched(
            candidates[0], f"{len(candidates)} series may be this alert's", ambiguous=True
        )
    return Matched()


def _unnamed(sample: Sample) -> Sample:
    labels = {name: value for name, value in sample.labels.items() if name != "__name__"}
    return Sample(labels, sample.value, sample.at)
