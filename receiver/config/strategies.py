"""What does healing_strategies.yml say? Its strategies, with the rules that no type expresses.

The keys of a strategy are the fields of receiver.policy.strategy.Strategy; those of a step are
`action`, `timeout`, `if` and, on the same level, the parameters of the action.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple, get_type_hints

import msgspec
from msgspec import inspect

from receiver.actions import Action, Actions
from receiver.actions.parameters import Path, Values, names_used
from receiver.config.fields import bare
from receiver.config.undeclared import undeclared
from receiver.errors import ConfigError
from receiver.policy import promql
from receiver.policy.duration import Duration
from receiver.policy.proof.syntax import parse
from receiver.policy.strategy import (
    Expect,
    StepKeys,
    StepSpec,
    Strategies,
    Strategy,
    Verify,
    WhenBlind,
)
from receiver.policy.value_pattern import ValuePatternText
from receiver.services import Inventory
from receiver.template import is_template, name_of_value, problems_in, problems_in_promql, sample
from receiver.yaml.diagnostics import DiagnosticSeverity, Report, quoted
from receiver.yaml.keys import MappingKey, construct, entries, read_keys, value_of
from receiver.yaml.nodes import Items, Node, Pairs
from receiver.yaml.nodes import parse as parse_yaml
from receiver.yaml.scalars import BAD, Read, bounded, expected, key_text, mark, parsed, read_text
from receiver.yaml.values import Readers, mapping, optional, sequence

MIN_WITHIN: Final = 1.0
"""Seconds; no rule is evaluated and no target scraped in less."""
NAME: Final = "[a-zA-Z0-9_-]{1,64}"
"""What may name a strategy."""

_NAME: Final = re.compile(NAME)
_STEPS: Final = bare(inspect.type_info(get_type_hints(Strategy, include_extras=True)["actions"]))


def read_strategies(
    tree: Node | None,
    report: Report,
    actions: Actions,
    inventory: Inventory | None,
    *,
    severity: DiagnosticSeverity = DiagnosticSeverity.ERROR,
) -> list[Strategy]:
    """Return the strategies. *severity* is that of an undeclared value in an argument."""
    found = []
    for name, key, node in entries(tree, "strategies", report):
        if not _NAME.fullmatch(name):
            mark(
                key,
                report,
                f"{quoted(name)} cannot name a strategy, for it becomes a metric's label; "
                "write up to 64 of the characters a-z, A-Z, 0-9, _ and -",
            )
        declared = value_of(node, "values") if isinstance(node, Pairs) else None
        patterns = {} if declared is None else _read_values(declared, report)
        # Without readable `values`, every step would report that they are missing.
        judge = None if patterns is BAD else _Judge(patterns, severity)
        steps = bounded(sequence(_step(actions, inventory, judge)), _STEPS)
        keys = STRATEGY_KEYS | {"actions": MappingKey(read=steps, required=True, field="actions")}
        values = read_keys(node, report, keys)
        if values is not None:
            strategy = construct(Strategy, {"name": name, **values}, node, report)
            if strategy is not BAD:
                _warn_of_contradictions(strategy, node, report)
                found.append(strategy)
                if declared is not None:
                    _warn_of_unused(declared, strategy, report)
    return found


def strategies_in(text: str, actions: Actions) -> Strategies:
    """Return the strategies in a text that was accepted once, as far as they can still be read."""
    report = Report("", text)
    severity = DiagnosticSeverity.WARNING
    tree = parse_yaml(text, report)
    return Strategies(read_strategies(tree, report, actions, None, severity=severity))


def _warn_of_contradictions(strategy: Strategy, node: Node, report: Report) -> None:
    if strategy.when is not None and strategy.when_blind is WhenBlind.ACT:
        blind = value_of(node, "when_blind")
        assert blind is not None
        report.add(
            "`when` is asked of Prometheus too, so nothing begins blind; remove one of both",
            blind.line,
            blind.column,
            blind.length,
            DiagnosticSeverity.WARNING,
        )


class _Judge(NamedTuple):
    """Checks the parameters of a step for values that are not declared."""

    patterns: Values
    severity: DiagnosticSeverity

    def judge(self, action: Action, params: msgspec.Struct, node: Node, report: Report) -> None:
        try:
            readings = list(action.readings(params))
        except Exception as error:  # noqa: BLE001  an action may be anybody's
            mark(node, report, f"it cannot be told how it reads its parameters: {error!r}")
            return
        for found in undeclared(params, readings, self.patterns):
            there = _node_at(node, found.path)
            severity = self.severity if found.tolerable else DiagnosticSeverity.ERROR
            report.add(found.message, there.line, there.column, there.length, severity)


def _warn_of_unused(node: Node, strategy: Strategy, report: Report) -> None:
    """Warn of declared values that no step uses: a misspelt name protects nothing."""
    assert isinstance(node, Pairs)
    used = {name for step in strategy.actions for name in names_used(step.params)}
    for key, _ in node.pairs:
        name = key_text(key, Report(""))
        if name is not None and name_of_value(name) not in used:
            report.add(
                f"no step uses {name_of_value(name)}, so nothing is compared with this pattern; "
                "remove it",
                key.line,
                key.column,
                key.length,
                DiagnosticSeverity.WARNING,
            )


def _node_at(node: Node, path: Path) -> Node:
    """Return the node at *path* in a step, or the closest one above it."""
    for part in path:
        below = None
        if isinstance(node, Pairs) and isinstance(part, str):
            below = value_of(node, part)
        elif isinstance(node, Items) and isinstance(part, int):
            below = node.items[part]
        if below is None:
            break
        node = below
    return node


def _read_values(node: Node, report: Report) -> Any:
    patterns = _PATTERNS(node, report)
    if patterns is not BAD and len(patterns) < len(node.pairs if isinstance(node, Pairs) else ()):
        return mark(node, report, "two of its names are one, as service and labels.service are")
    return patterns


def _step(actions: Actions, inventory: Inventory | None, judge: _Judge | None) -> Read:
    """Return the reader of a step: `action`, `timeout` and `if`, and the action's own keys."""

    def read(node: Node, report: Report) -> Any:
        if not isinstance(node, Pairs):
            return expected("a mapping", node, report, "write `- action: NAME`")
        chosen = value_of(node, "action")
        if chosen is None:
            return mark(node, report, f"missing key 'action'; known: {', '.join(actions.names)}")
        name = read_text(chosen, report)
        if name is BAD:
            return BAD
        try:
            action = actions.get(name)
            keys = _TEMPLATED.keys(action.Params) | _STEP
        except ConfigError as error:
            return mark(chosen, report, str(error))
        values = read_keys(node, report, keys)
        assert values is not None
        own = {key.field: values.pop(key.field, None) for key in _STEP.values()}
        params = construct(action.Params, values, node, report)
        if params is not BAD and inventory is not None:
            for problem in _problems(action, params, inventory):
                mark(chosen, report, problem)
        if params is not BAD and judge is not None:
            judge.judge(action, params, node, report)
        if params is BAD or any(value is BAD for value in own.values()):
            return BAD
        return StepSpec(
            action=name,
            params=params,
            timeout=own["timeout"] or action.timeout,
            condition=own["condition"] or (),
        )

    return read


def _problems(action: Action, params: msgspec.Struct, inventory: Inventory) -> list[str]:
    try:
        return list(action.problems(params, inventory))
    except Exception as error:  # noqa: BLE001  an action may be anybody's
        return [f"its parameters could not be checked: {type(error).__name__}: {error}"]


def _read_verify(node: Node, report: Report) -> Any:
    values = read_keys(node, report, _VERIFY)
    if values is None:
        return BAD
    if values.get("expect") is Expect.PRESENT and values.get("query") is None:
        expect = value_of(node, "expect")
        assert expect is not None
        return mark(
            expect,
            report,
            "`present` needs a `query`: the alert's own expression is there while it is ill",
        )
    query = values.get("query")
    if isinstance(query, str):
        try:
            parse(sample(query))
        except ValueError as error:
            asked = value_of(node, "query")
            assert asked is not None
            return mark(asked, report, f"nothing can be proven by this query: {error}")
    return construct(Verify, values, node, report)


def _read_within(node: Node, report: Report) -> Any:
    within = _READERS.of(Duration)(node, report)
    if within is not BAD and within < MIN_WITHIN:
        report.add(
            "Prometheus cannot prove anything in less than a second; write for example 5m",
            node.line,
            node.column,
            node.length,
            DiagnosticSeverity.WARNING,
        )
    return within


def _read_query(node: Node, report: Report) -> Any:
    """Return PromQL that parses with 1 in place of each template: a number fits anywhere."""
    text = read_text(node, report)
    if text is BAD:
        return BAD
    problem = problems_in_promql(text)
    if problem is None:
        try:
            promql.parse(sample(text))
        except ValueError as error:
            problem = f"no PromQL that can be asked: {error}"
    return text if problem is None else mark(node, report, problem)


def _read_templated(node: Node, report: Report) -> Any:
    text = read_text(node, report)
    if text is not BAD and is_template(text):
        problem = problems_in(text)
        if problem is not None:
            return mark(node, report, problem)
    return text


_READERS: Final = Readers()
_TEMPLATED: Final = Readers(_read_templated)

_PATTERNS: Final = mapping(parsed(name_of_value), _READERS.of(ValuePatternText))
_VERIFY: Final = _READERS.keys(Verify, within=_read_within, query=optional(_read_query))
STRATEGY_KEYS: Final = _READERS.keys(
    Strategy,
    omit=("name", "actions"),
    when=optional(_read_query),
    verify=_read_verify,
    values=_read_values,
)
"""Without `actions`, whose reader depends on the actions, and `name`, the key of the mapping."""
_STEP: Final = _READERS.keys(StepKeys)
