"""How far back do the rules of a strategy look, and what does that mean for its proofs?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from receiver.actions import Actions
from receiver.clients.prometheus import Prometheus
from receiver.errors import UpstreamError
from receiver.policy.decay import Decay, Recordings, decay, recordings
from receiver.policy.duration import format_duration
from receiver.policy.looks import waited
from receiver.policy.promql import Rule
from receiver.policy.strategy import Strategy, Verify
from receiver.template import sample


def recordings_of(prometheus: Prometheus, rules: Iterable[Rule]) -> Recordings | None:
    """Return the recording rules, with the alerting *rules*; None when Prometheus has no answer."""
    try:
        return recordings((*rules, *prometheus.recording_rules()))
    except UpstreamError:
        return None


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """How far back the expression looks that proves the heals of a strategy."""

    strategy: str
    rule: str
    """Whose expression that is; empty for the strategy's own `verify.query`."""
    detail: str
    """In words, with the remedy where one is needed."""
    warning: bool
    """Its runs cannot be judged as they should be."""


def memory(strategy: Strategy, rule: Rule, recordings: Recordings | None) -> Memory:
    """Return what *rule* remembers, or in its place the strategy's own query.

    Scrapes are taken to be a minute apart, Prometheus' own default.
    """
    query = strategy.verify.query
    if query is None:
        name, found = rule.name, decay(rule.query, recordings)
    else:
        name, found = "verify.query", decay(sample(query), recordings)
    problem = _problem(strategy, name, found)
    return Memory(
        strategy=strategy.name,
        rule=name if query is None else "",
        detail=problem or _patience(strategy, name, found),
        warning=bool(problem),
    )


def may_ask(strategy: Strategy, rule: Rule) -> bool:
    """Whether an alert of *rule* can be one for *strategy*, by its name and its fixed labels.

    Labels that the rule does not set, or sets by a template, may have any value.
    """
    fixed = {name: value for name, value in rule.labels.items() if "{{" not in value}
    known = {**fixed, "alertname": rule.name}
    return not rule.records and all(
        matcher.matches(known) for matcher in strategy.match if matcher.name in known
    )


def memories(
    strategies: Iterable[Strategy],
    rules: Iterable[Rule],
    recordings: Recordings | None,
    actions: Actions,
) -> Iterator[tuple[Rule, Memory]]:
    """Yield for each strategy what each of *rules* remembers whose alerts ask for it.

    Strategies whose steps heal nothing are left out: they have nothing to prove.
    """
    rules = tuple(rules)
    for strategy in strategies:
        if not any(actions.get(step.action).heals for step in strategy.actions):
            continue
        told = set()
        for rule in rules:
            found = memory(strategy, rule, recordings) if may_ask(strategy, rule) else None
            # Rules of one name and several severities mostly differ in their threshold only.
            if found is not None and found not in told:
                told.add(found)
                yield rule, found


def _problem(strategy: Strategy, name: str, found: Decay) -> str:
    verify = strategy.verify
    if found.seconds is None:
        return (
            f"how far {name} looks back is not known, so its runs are never called ineffective: "
            f"{found.problem}; write a `verify.query`"
        )
    if found.reach <= max(verify.within, verify.at_most):
        return _too_short(strategy, name, found)
    return (
        f"{name} looks {format_duration(found.seconds)} back, longer than `verify.at_most` "
        f"({format_duration(verify.at_most)}): a run that does not clear it before can only end "
        "inconclusive; write a `verify.query` with a shorter window, or raise `verify.at_most`"
    )


def _too_short(strategy: Strategy, name: str, found: Decay) -> str:
    """Say of a `within` that somebody wrote that it is not what is waited for."""
    verify = strategy.verify
    assert found.seconds is not None
    if verify.within >= found.seconds or verify.within == Verify().within:
        return ""
    longest = format_duration(_longest(strategy, found))
    return (
        f"{name} looks {format_duration(found.seconds)} back, so it may fire for as long after a "
        f"heal: a proof takes {longest} at most, and not `verify.within` "
        f"({format_duration(verify.within)}); write `within: {longest}`, or a `verify.query` with "
        "a shorter window"
    )


def _longest(strategy: Strategy, found: Decay) -> float:
    verify = strategy.verify
    return waited(found.reach, within=verify.within, settle=verify.settle, at_most=verify.at_most)


def _patience(strategy: Strategy, name: str, found: Decay) -> str:
    verify = strategy.verify
    assert found.seconds is not None
    longest = _longest(strategy, found)
    back = f"looks {format_duration(found.seconds)} back" if found.seconds else "does not look back"
    more = (
        f", longer than `verify.within` ({format_duration(verify.within)})"
        if longest > verify.within
        else ""
    )
    return f"{name} {back}: a proof takes {format_duration(longest)} at most{more}"
