"""Whose expression may confirm an alert?

Who sends an alert cannot prove it: the link in it may say `vector(1)`. So the rule that Prometheus
has is the only one that counts, where it has one. Without it, an expression counts that somebody
answers for: the operator, by a file on the command line, or a sender whom `promheal.yml` trusts and
who has shown who it is. Nobody else's is even asked.

| the alert's rule in Prometheus | the notification is from | asked, and confirms |
| --- | --- | --- |
| is there | anybody | the rule's |
| is missing, or no rules API is there | a file of `once`, `watch` | the file's; or its word |
| | a trusted sender | the sender's |
| | anybody else | nothing |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from receiver.policy.promql import Rule, same_expression

FILE: Final = "@file"
"""Stands for the operator where a sender's name is expected; no sender can be trusted by it."""


class Speaker(StrEnum):
    """Who says which expression is the rule's."""

    SENDER = "sender"
    """Whoever may post notifications."""
    TRUSTED = "trusted"
    """A user, token or certificate that `prometheus.trusted_senders` names."""
    FILE = "file"
    """The operator: a file on the command line."""


class Authority(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked about an alert."""

    expression: str | None = None
    """None: nothing may."""
    rule: Rule | None = None
    """The alert's rule, where Prometheus has it."""
    vouched: bool = False
    """Without an expression to ask, the operator's word stands for it."""
    why: str = ""
    """Why nothing may be asked, and what to do."""


def authority(
    rules: Iterable[Rule] | None,
    alert_labels: Mapping[str, str],
    said: str | None,
    speaker: Speaker = Speaker.SENDER,
) -> Authority:
    """Return whose expression is to be asked.

    *rules* are those of Prometheus, at least those of the alert's name; None when it has no rules
    API. *said* is the expression that *speaker* gives.
    """
    known = tuple(rules or ())
    rule = rule_of(known, alert_labels, said)
    if rule is not None:
        return Authority(expression=rule.query, rule=rule)
    if said is not None and speaker in {Speaker.TRUSTED, Speaker.FILE}:
        return Authority(expression=said)
    missing = _missing(None if rules is None else known, alert_labels)
    if speaker is Speaker.FILE:
        return Authority(vouched=True, why=f"{missing}; the operator's file says that it fires")
    remedy = "give the strategy a `when` or a `verify.query`"
    if said is not None:
        remedy += ", or name who sends it in prometheus.trusted_senders"
    return Authority(why=f"{missing}, and a sender's word proves nothing: {remedy}")


def rule_of(
    rules: Iterable[Rule], alert_labels: Mapping[str, str], said: str | None = None
) -> Rule | None:
    """Return the rule that an alert is from.

    Of those with its name whose labels it has: the one that lists it among its alerts, then the one
    that sets most of its labels; *said* only tells apart what is left. Labels whose values are
    templates may have any value.
    """
    best: Rule | None = None
    most: tuple[bool, int, bool] = (False, -1, False)
    for rule in rules:
        fixed = _fixed(rule)
        if rule.name != alert_labels.get("alertname") or _lacks(alert_labels, fixed):
            continue
        rank = (
            lists(rule.alerts, alert_labels),
            len(fixed),
            said is not None and same_expression(rule.query, said),
        )
        if rank > most:
            best, most = rule, rank
    return best


def lists(active: Iterable[Mapping[str, str]], alert_labels: Mapping[str, str]) -> bool:
    """Whether the alert is among a rule's; it may have external labels besides."""
    return any(labels.items() <= alert_labels.items() for labels in active)


def _fixed(rule: Rule) -> dict[str, str]:
    return {name: value for name, value in rule.labels.items() if "{{" not in value}


def _lacks(alert_labels: Mapping[str, str], fixed: Mapping[str, str]) -> bool:
    """Whether an alert cannot be from a rule that sets *fixed*; by "" a rule drops a label."""
    return any(alert_labels.get(name, "") != value for name, value in fixed.items())


def _missing(rules: tuple[Rule, ...] | None, alert_labels: Mapping[str, str]) -> str:
    name = alert_labels.get("alertname", "")
    if rules is None:
        return "Prometheus has no rules API"
    same = [_fixed(rule) for rule in rules if rule.name == name]
    if not same:
        return f"Prometheus has no rule called {name!r}"
    label, value = next((n, v) for n, v in same[0].items() if alert_labels.get(n, "") != v)
    return (
        f"the rules called {name!r} set other labels, as {label}={value!r} where the alert has "
        f"{alert_labels.get(label, '')!r}"
    )
