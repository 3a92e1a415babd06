"""Which strategies' alerts can be confirmed and proven? By the rules that Prometheus has.

Asked by `promheal doctor` and `promheal check --prometheus`, before an alert has to wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from receiver.doctor.routing import alertnames
from receiver.policy import promql
from receiver.policy.promql import Rule
from receiver.policy.strategy import Strategy
from receiver.yaml.diagnostics import nearest

_REMEDY = "give it a `when` or a `verify.query`, or name their sender in prometheus.trusted_senders"


def problems(
    strategies: Iterable[Strategy], rules: Sequence[Rule] | None, trusted: Sequence[str] = ()
) -> Iterator[tuple[str, str]]:
    """Yield (strategy, what is wrong and what to do).

    *rules* are all that Prometheus has, None when it has no rules API; *trusted* are the senders
    whose expressions count all the same.
    """
    for strategy in strategies:
        without = _without_rule(strategy, trusted)
        if not rules:
            if without:
                missing = "has no rules API" if rules is None else "has no alerting rules"
                yield strategy.name, f"Prometheus {missing}, so {without}"
            continue
        for name in sorted(set(alertnames(strategy)) - {rule.name for rule in rules}):
            near = nearest(name, {rule.name for rule in rules})
            hint = f" (did you mean {near!r}?)" if near else ""
            missing = (
                f"no rule is called {name!r}{hint}, so no alert asks for it; load one from rules/"
            )
            elsewhere = f"; if one comes from elsewhere, {without}" if without else ""
            yield strategy.name, missing + elsewhere
        if strategy.verify.query is None:
            for rule in rules:
                why = _unreadable(rule) if _is_for(strategy, rule) else ""
                if why:
                    yield strategy.name, why


def _without_rule(strategy: Strategy, trusted: Sequence[str]) -> str:
    """What becomes of the strategy's alerts where no rule is known; empty if all is well."""
    if trusted or strategy.verify.query is not None:
        return ""
    if strategy.when is not None:
        return "no heal is ever proven: give it a `verify.query`"
    return f"its alerts wait: {_REMEDY}"


def _is_for(strategy: Strategy, rule: Rule) -> bool:
    """Whether alerts of *rule* may be the strategy's, as far as their name tells."""
    named = [matcher for matcher in strategy.match if matcher.name == "alertname"]
    return bool(named) and all(matcher.matches({"alertname": rule.name}) for matcher in named)


def _unreadable(rule: Rule) -> str:
    try:
        promql.parse(rule.query)
    except ValueError as error:
        return (
            f"the expression of the rule {rule.name!r} cannot be read as PromQL ({error}), so no "
            "heal of it is ever proven: give it a `verify.query`"
        )
    return ""
