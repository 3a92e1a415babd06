"""A test file to values, with every problem at its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from receiver.actions import Actions
from receiver.config.files import LoadedConfig
from receiver.errors import ConfigError
from receiver.policy.breaker import MAIN
from receiver.policy.scope import TARGET, ScopeError, parse_scope
from receiver.policy.target import labels_of
from receiver.testing.expectations import CallPattern, parse_call
from receiver.testing.expected import Never
from receiver.testing.file import StrategyTest, StrategyTests
from receiver.testing.inline import INLINE, configuration
from receiver.testing.samples import parse_sample
from receiver.yaml.diagnostics import InvalidConfig, Report, quoted, suggestion
from receiver.yaml.keys import value_of
from receiver.yaml.nodes import Items, Node, Pairs, parse, read_file
from receiver.yaml.scalars import mark
from receiver.yaml.values import Readers

CHECKS: Final = ("decision_test", "run_test", "call_test", "breaker_test", "metric_test")
"""The keys of a test that expect something at a time."""

_READERS: Final = Readers(own=INLINE)


class Place(msgspec.Struct, frozen=True):
    """From 1."""

    line: int
    column: int


class Placed(msgspec.Struct, frozen=True):
    """A test with the places of what is expected in it."""

    test: StrategyTest
    at: Place
    places: dict[tuple[str, int], Place]
    """By key and position."""


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """A test file without errors."""

    path: str
    loaded: LoadedConfig
    file: StrategyTests
    tests: tuple[Placed, ...]
    never: tuple[Place, ...]
    """Of the file's own `never`."""


def read_suite(path: Path, actions: Actions) -> Suite:
    """Read a test file and its configuration. Raises InvalidConfig with all problems of both."""
    report = Report(str(path))
    try:
        found = read_file(path, report)
    except FileNotFoundError:
        report.add("no such file; `promheal test --init` writes a first one")
        raise InvalidConfig(report.problems) from None
    if found is None:
        raise InvalidConfig(report.problems)
    report = Report(str(path), found[1])
    tree = parse(found[1], report, behind=True)
    if tree is None:
        if not report.broken:
            report.add("the file is empty; `promheal test --init` writes a first one", 0, 0)
        raise InvalidConfig(report.problems)
    file = _READERS.of(StrategyTests)(tree, report)
    if not isinstance(file, StrategyTests):
        raise InvalidConfig(report.problems)
    assert isinstance(tree, Pairs)
    loaded = _configuration(file, tree, report, actions, path.parent)
    if loaded is not None:
        _Checker(file, tree, report, loaded, actions).check()
    if loaded is None or report.broken:
        raise InvalidConfig(report.problems)
    return Suite(
        path=str(path),
        loaded=loaded,
        file=file,
        tests=tuple(
            Placed(test, _place(node), dict(_places(node)))
            for test, node in zip(file.tests, _items(tree, "tests"), strict=True)
        ),
        never=tuple(map(_place, _items(tree, "never"))),
    )


def _configuration(
    file: StrategyTests, tree: Pairs, report: Report, actions: Actions, folder: Path
) -> LoadedConfig | None:
    if (file.config_file is None) == (file.strategies is None):
        mark(tree, report, "write either `config_file` or `strategies`")
        return None
    try:
        return configuration(file, report, actions, folder)
    except InvalidConfig as invalid:
        node = value_of(tree, "config_file")
        assert node is not None
        number = len(invalid.problems)
        more = f" (and {number - 1} more)" if number > 1 else ""
        first = invalid.problems[0]
        where = f"{first.file}:{first.line}:{first.column}" if first.line else first.file
        mark(node, report, f"it cannot be used: {where}: {first.message}{more}")
        return None


def _items(node: Node, key: str) -> list[Node]:
    found = value_of(node, key)
    return found.items if isinstance(found, Items) else []


def _places(test: Node) -> Iterator[tuple[tuple[str, int], Place]]:
    for key in (*CHECKS, "events", "never"):
        for position, node in enumerate(_items(test, key)):
            yield (key, position), _place(node)


def _place(node: Node) -> Place:
    return Place(node.line + 1, node.column + 1)


class _Checker:
    """Finds what no type expresses: names that do not exist, texts that are no calls or samples."""

    def __init__(
        self,
        file: StrategyTests,
        tree: Pairs,
        report: Report,
        loaded: LoadedConfig,
        actions: Actions,
    ) -> None:
        self._file = file
        self._tree = tree
        self._report = report
        self._strategies = loaded.strategies.names
        self._used = {step.action for one in loaded.strategies for step in one.actions}
        self._actions = actions

    def check(self) -> None:
        self._never(self._file.never, _items(self._tree, "never"))
        for test, node in zip(self._file.tests, _items(self._tree, "tests"), strict=True):
            self._test(test, node)

    def _test(self, test: StrategyTest, node: Node) -> None:
        self._alerts(test, _items(node, "alerts"))
        for action, at in zip(test.actions, _items(node, "actions"), strict=True):
            self._action(action.action, at, "action")
            self._target(action.target, at, "target")
        for event, at in zip(test.events, _items(node, "events"), strict=True):
            self._event(event, at)
        for key in CHECKS:
            for check, at in zip(getattr(test, key), _items(node, key), strict=True):
                self._check(key, check, at)
        self._never(test.never, _items(node, "never"))

    def _alerts(self, test: StrategyTest, nodes: list[Node]) -> None:
        seen: dict[frozenset[tuple[str, str]], int] = {}
        for alert, at in zip(test.alerts, nodes, strict=True):
            labels = frozenset(alert.labels.items())
            if labels in seen:
                self._mark(at, f"the labels of the alert in line {seen[labels]}; write one of both")
            seen[labels] = at.line + 1
            if "alertname" not in alert.labels:
                self._mark(value_of(at, "labels") or at, "an alert has the label `alertname`")
            if alert.healed_by is not None:
                healed = value_of(at, "healed_by")
                assert healed is not None
                self._action(alert.healed_by.action, healed, "action")

    def _event(self, event: Any, at: Node) -> None:
        name, value = event.chosen
        below = value_of(at, name) or at
        match name:
            case "approve" | "reject" | "cancel":
                self._strategy(value.strategy, below, "strategy")
                self._target(value.target, below, "target")
            case "pause" | "resume":
                self._scope(value.scope, below)
            case "reset":
                self._breaker(value.breaker, below, "breaker")
            case "restart" if event.during is not None:
                self._action(event.during, at, "during")
            case _:
                pass

    def _check(self, key: str, check: Any, at: Node) -> None:
        match key:
            case "decision_test":
                self._strategy(check.strategy, at, "strategy")
                self._target(check.target, at, "target")
            case "run_test":
                if check.strategy is not None:
                    self._strategy(check.strategy, at, "strategy")
                for run, node in zip(check.exp_runs, _items(at, "exp_runs"), strict=True):
                    self._run(run, node)
            case "call_test":
                self._texts(check.exp_calls, _items(at, "exp_calls"), self._call)
            case "breaker_test":
                self._breaker(check.name, at, "name")
            case "metric_test":
                self._texts(check.exp_samples, _items(at, "exp_samples"), parse_sample)
            case _:
                pass

    def _run(self, run: Any, node: Node) -> None:
        self._strategy(run.strategy, node, "strategy")
        self._target(run.target, node, "target")
        for step, at in zip(run.steps or (), _items(node, "steps"), strict=True):
            if len(step) != 1:
                self._mark(at, "a step is written as `- restart_service: done`")
            for name in step:
                self._action(name, at, name)
        for name, at in zip(run.undone or (), _items(node, "undone"), strict=True):
            self._action(name, at, "")

    def _call(self, text: str) -> CallPattern:
        found = parse_call(text)
        if found.action not in self._actions.names:
            raise ValueError(
                f"unknown action {quoted(found.action)}"
                f"{suggestion(found.action, self._actions.names)}"
            )
        return found

    def _texts(self, texts: Iterable[str], nodes: Iterable[Node], read: Any) -> None:
        for text, node in zip(texts, nodes, strict=True):
            try:
                read(text)
            except ValueError as error:
                self._mark(node, str(error))

    def _never(self, nevers: Iterable[Never], nodes: Iterable[Node]) -> None:
        for never, at in zip(nevers, nodes, strict=True):
            if never.strategy != "*":
                self._strategy(never.strategy, at, "strategy")
            self._target(never.target, at, "target")
            if never.action is not None:
                self._action(never.action, at, "action")
            if never.action is not None and never.outcome is not None:
                self._mark(at, "an execution of an action has no outcome; remove one of both")
            if never.more_than is not None and (never.more_than.calls is None) != (
                never.action is None
            ):
                self._mark(at, "`runs` are counted of a strategy, `calls` of an `action`")

    def _strategy(self, name: str, node: Node, key: str) -> None:
        if name not in self._strategies:
            near = suggestion(name, self._strategies)
            self._mark(value_of(node, key) or node, f"no strategy {quoted(name)}{near}")

    def _action(self, name: str, node: Node, key: str) -> None:
        try:
            self._actions.get(name)
        except ConfigError as error:
            self._mark((value_of(node, key) if isinstance(node, Pairs) else None) or node,
                       str(error))  # fmt: skip
            return
        if name not in self._used:
            self._mark(
                (value_of(node, key) if isinstance(node, Pairs) else None) or node,
                f"no strategy has the action {quoted(name)}{suggestion(name, self._used)}",
            )

    def _target(self, target: str | None, node: Node, key: str) -> None:
        if target is not None and labels_of(target) is None:
            self._mark(
                value_of(node, key) or node,
                f"{quoted(target)} is no target; write for example 'service=\"checkout\"'",
            )

    def _scope(self, scope: str, node: Node) -> None:
        try:
            meant = parse_scope(scope)
        except ScopeError as error:
            self._mark(value_of(node, "scope") or node, str(error))
        else:
            if meant.strategy:
                self._strategy(meant.strategy, node, "scope")

    def _breaker(self, name: str, node: Node, key: str) -> None:
        known = (MAIN, *(f"strategy:{one}" for one in self._strategies))
        if name not in known and not name.startswith(TARGET):
            near = suggestion(name, known)
            self._mark(value_of(node, key) or node, f"no breaker {quoted(name)}{near}")

    def _mark(self, node: Node, message: str) -> None:
        mark(node, self._report, message)
