"""Alerting rules out of the YAML files of a folder: Prometheus' own, PrometheusRule, and lists."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import promql_parser as parser
import yaml

from receiver.policy.duration import parse_duration

SUFFIXES = {".yml", ".yaml", ".rules", ".alerts", ".json"}
LARGEST = 16 * 2**20
"""Bytes of a file that is read."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEMPLATE = re.compile(r"\{\{|<[a-z_ ]+>|\$[a-zA-Z_{]|%\(")
_WORDS = re.compile(r"[^0-9A-Za-z]+")


class PublicRule(msgspec.Struct, frozen=True, kw_only=True):
    """An alerting rule as its file has it."""

    name: str
    expr: str
    labels: dict[str, str] = {}
    """Those whose value is no template."""
    duration: float = 0.0
    """Seconds of its `for`."""
    file: str = ""


class Read(msgspec.Struct, kw_only=True):
    """What a folder holds."""

    rules: list[PublicRule] = []
    """Each expression once."""
    repeated: int = 0
    recording: dict[str, str] = {}
    """Expressions by the name that they record."""
    refused: list[tuple[str, str]] = []
    """Place and reason of what cannot be used."""


def read_folder(folder: Path) -> Read:
    """Read every YAML file below *folder*. What cannot be used is told, and never raises."""
    found = Read()
    seen: set[str] = set()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES and p.is_file()):
        place = str(path.relative_to(folder))
        if path.stat().st_size > LARGEST:
            found.refused.append((place, "file: larger than 16 MiB"))
            continue
        try:
            documents = list(yaml.load_all(path.read_text(errors="replace"), _LOADER))
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            kind = "a template" if "{{" in path.read_text(errors="replace") else "no YAML"
            found.refused.append((place, f"file: {kind} ({type(error).__name__})"))
            continue
        for rule in _rules(documents):
            _add(found, seen, rule, place)
    return found


def _add(found: Read, seen: set[str], rule: Mapping[str, Any], place: str) -> None:
    expr = rule.get("expr", rule.get("query"))
    if "record" in rule:
        found.recording.setdefault(str(rule["record"]), str(expr))
        return
    name = str(rule.get("alert", rule.get("name")))
    text = " ".join(str(expr).split())
    if text in seen:
        found.repeated += 1
        return
    seen.add(text)
    reason = _refusal(text)
    if reason:
        found.refused.append((f"{place}: {name}", reason))
        return
    labels = rule.get("labels")
    duration = rule.get("for") or "0s"
    found.rules.append(
        PublicRule(
            name="".join(_WORDS.split(name)) or "Rule",
            expr=str(expr),
            labels={
                str(k): str(v)
                for k, v in (labels.items() if isinstance(labels, dict) else ())
                if isinstance(v, str | int | float) and "{{" not in str(v)
            },
            duration=_seconds(str(duration)),
            file=place,
        )
    )


def _rules(node: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping that is a rule: with `alert` or `record`, or as awesome-prometheus-alerts'."""
    match node:
        case {"alert": str(), "expr": _} | {"record": str(), "expr": _}:
            yield node
        case {"name": str(), "query": str(), "severity": _}:
            yield node
        case dict():
            for child in node.values():
                yield from _rules(child)
        case list():
            for child in node:
                yield from _rules(child)
        case _:
            return


def _refusal(text: str) -> str:
    try:
        tree = parser.parse(text)
    except ValueError as error:
        return "a template" if _TEMPLATE.search(text) else f"PromQL: {str(error)[:60]}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return f"PromQL: the parser fails ({type(error).__name__})"  # it panics
    if isinstance(tree, parser.MatrixSelector | parser.SubqueryExpr | parser.StringLiteral):
        return "no instant vector"
    return ""


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError:
        return 0.0
