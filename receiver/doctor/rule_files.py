"""Rules of Prometheus' rule files, as far as promheal judges them.

Everything else in them is left to `promtool check rules`.
https://prometheus.io/docs/prometheus/latest/configuration/recording_rules/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from receiver.errors import ConfigError
from receiver.policy.duration import parse_duration
from receiver.policy.promql import Rule
from receiver.yaml.diagnostics import DiagnosticSeverity, Report
from receiver.yaml.nodes import Items, Node, Pairs, Scalar, parse, read_file

ENDINGS: Final = (".yml", ".yaml", ".rules")
"""What is read of a folder."""
INTERVAL: Final = 60.0
"""Seconds between evaluations where the group does not say: Prometheus' own default."""


class RulePlace(msgspec.Struct, frozen=True, kw_only=True):
    """The place of a rule in a file."""

    report: Report
    node: Node

    def warn(self, message: str) -> None:
        node = self.node
        self.report.add(message, node.line, node.column, node.length, DiagnosticSeverity.WARNING)


class Written(msgspec.Struct, frozen=True, kw_only=True):
    rule: Rule
    place: RulePlace


class RuleFiles(msgspec.Struct, frozen=True):
    rules: tuple[Written, ...]
    reports: tuple[Report, ...]
    """One a file, with what could not be read."""


def read_rule_files(paths: Iterable[Path]) -> RuleFiles:
    """Read files, and those of folders whose names end like rule files, in the order of names.

    What cannot be read is reported, and the rest is read. Raises
    ConfigError for a path that is not there, or a folder without any such file.
    """
    rules: list[Written] = []
    reports: list[Report] = []
    for path in paths:
        for file in _files(path):
            report = Report(str(file))
            try:
                found = read_file(file, report)
            except FileNotFoundError:
                raise ConfigError(
                    f"{file}: no such file; name rule files or their folder"
                ) from None
            if found is not None:
                report = Report(str(file), found[1])
                rules += _written(parse(found[1], report), report)
            reports.append(report)
    return RuleFiles(tuple(rules), tuple(reports))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix in ENDINGS and file.is_file())
    if not found:
        raise ConfigError(f"{path}: no file in it ends in {', '.join(ENDINGS)}")
    return found


def _written(tree: Node | None, report: Report) -> Iterator[Written]:
    for group in _items(_value(tree, "groups")):
        interval = _seconds(_value(group, "interval"), report) or INTERVAL
        for node in _items(_value(group, "rules")):
            record, query = _value(node, "record"), _value(node, "expr")
            name = record or _value(node, "alert")
            if not isinstance(name, Scalar) or not isinstance(query, Scalar):
                report.add(
                    "no rule: it needs `alert` or `record`, and `expr`",
                    node.line,
                    node.column,
                    node.length,
                    DiagnosticSeverity.WARNING,
                )
                continue
            rule = Rule(
                name=name.value,
                query=query.value,
                records=record is not None,
                labels={
                    key.value: value.value
                    for key, value in _pairs(_value(node, "labels"))
                    if isinstance(key, Scalar) and isinstance(value, Scalar)
                },
                duration=_seconds(_value(node, "for"), report),
                keep_firing_for=_seconds(_value(node, "keep_firing_for"), report),
                interval=interval,
            )
            yield Written(rule=rule, place=RulePlace(report=report, node=name))


def _value(node: Node | None, name: str) -> Node | None:
    return next(
        (value for key, value in _pairs(node) if isinstance(key, Scalar) and key.value == name),
        None,
    )


def _pairs(node: Node | None) -> list[tuple[Node, Node]]:
    return node.pairs if isinstance(node, Pairs) else []


def _items(node: Node | None) -> list[Node]:
    return node.items if isinstance(node, Items) else []


def _word(node: Node | None) -> str:
    return node.value if isinstance(node, Scalar) else ""


def _seconds(node: Node | None, report: Report) -> float:
    if not isinstance(node, Scalar):
        return 0.0
    try:
        return parse_duration(node.value)
    except ValueError as error:
        report.add(str(error), node.line, node.column, node.length, DiagnosticSeverity.WARNING)
        return 0.0
