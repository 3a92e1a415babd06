"""Do the alerts of Prometheus' rules have what a strategy's matchers and target need?

Where they do not, nothing is ever healed, and silently so: a misspelt label matches no alert. Only
what is certain is reported: a label may also come from the series, from Prometheus' external labels
and from its relabelling.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from receiver.doctor.carried import MADE, named, origins
from receiver.doctor.memory import may_ask
from receiver.doctor.routing import alertnames
from receiver.errors import UpstreamError
from receiver.policy.promql import Rule
from receiver.policy.proof.syntax import parse
from receiver.policy.proof.tree import Expr
from receiver.policy.relabel import Sending
from receiver.policy.strategy import Strategy
from receiver.yaml.diagnostics import suggestion


class SeriesSource(Protocol):
    """Prometheus. Both raise UpstreamError when there is no usable answer."""

    def sending(self) -> Sending | None: ...
    def label_names(self, selectors: Iterable[str]) -> frozenset[str]: ...


def problems(
    strategies: Iterable[Strategy], rules: Sequence[Rule], source: SeriesSource
) -> Iterator[tuple[str, str]]:
    """Yield (strategy, what is wrong and what to write instead)."""
    try:
        sending = source.sending()
    except UpstreamError:
        sending = None
    for strategy in strategies:
        asking = [rule for rule in rules if may_ask(strategy, rule)]
        if not asking:
            yield from ((strategy.name, problem) for problem in _unset(strategy, rules))
        elif sending is not None:
            for place, name in _needed(strategy):
                known = _known(name, asking, sending, source)
                if known is not None:
                    missing = f"no alert that its matchers select has the label {name!r}"
                    hint = suggestion(name, known)
                    yield strategy.name, f"{missing} of its `{place}`, so none asks for it{hint}"


def _unset(strategy: Strategy, rules: Sequence[Rule]) -> Iterator[str]:
    """Say which matcher keeps away all alerts of the rules that the strategy names."""
    ours = [rule for rule in rules if rule.name in alertnames(strategy)]
    fixed = [_fixed(rule) for rule in ours]
    for matcher in strategy.match if ours else ():
        if all(matcher.name in each and not matcher.matches(each) for each in fixed):
            names = " and ".join(dict.fromkeys(rule.name for rule in ours))
            hint = suggestion(matcher.value, {each[matcher.name] for each in fixed})
            yield f"no alert of {names} has {matcher}, so none asks for it{hint}"


def _fixed(rule: Rule) -> Mapping[str, str]:
    fixed = {name: value for name, value in rule.labels.items() if "{{" not in value}
    return {**fixed, "alertname": rule.name}


def _needed(strategy: Strategy) -> Iterator[tuple[str, str]]:
    """Yield where labels are needed, and which."""
    for name in strategy.target:
        yield "target", name
    for matcher in strategy.match:
        if not matcher.matches({}) and matcher.name not in strategy.target:
            yield "match", matcher.name


def _known(
    name: str, rules: Iterable[Rule], sending: Sending, source: SeriesSource
) -> frozenset[str] | None:
    """Return which labels alerts of *rules* have, when *name* is none of them; else None."""
    if name in sending.external or sending.may_make(name):
        return None
    found = set(sending.external)
    for rule in rules:
        if name == "alertname" or name in rule.labels:
            return None
        try:
            tree = parse(rule.query)
            selectors = set(origins(tree.root, name))
            if MADE in selectors:
                return None
            there = source.label_names(selectors) if selectors else frozenset[str]()
            if selectors and (name in there or not there):
                return None  # it has it, or nobody knows what it has
            every = {selector.plain() for selector in tree.selectors}
            there = source.label_names(every) if every else there
        except (ValueError, UpstreamError):
            return None
        found |= {*rule.labels, *_carried(tree.root, there)}
    return frozenset(found - {"__name__"})


def _carried(root: Expr, there: frozenset[str]) -> Iterator[str]:
    """Yield the labels of its result, where those of its series are *there*."""
    for name in {*there, *named(root)}:
        of = set(origins(root, name))
        if MADE in of or (of and (name in there or not there)):
            yield name
