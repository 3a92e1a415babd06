"""What does a scalar mean? The type of the field decides, never the look of the text.

A reader is a function from a node to a value. It reports what is wrong and returns BAD, so that
reading goes on and finds the next problem.

Plain scalars follow YAML 1.2: only `true` and `false` are booleans, `010` is no number, and where
the field is a text, `no` and `22:30` are what was written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import inspect

from receiver.yaml.diagnostics import DiagnosticSeverity, Report, nearest, quoted
from receiver.yaml.nodes import Items, Node, Pairs, Refused, Scalar

Read = Callable[[Node, Report], Any]
"""Returns the value of a node, or BAD after a report."""

BAD: Final[Any] = msgspec.UNSET
"""Stands for a value that was reported."""

_INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_BOOLS: Final = {"true": True, "false": False}


def read_text(node: Node, report: Report) -> Any:
    """Return the text, quoted or not. Nothing and `null` are refused."""
    if not isinstance(node, Scalar):
        return expected("a text", node, report)
    if node.is_null:
        return expected("a text", node, report, 'write "" for an empty one')
    return node.value


def parsed(parse: Callable[[str], Any]) -> Read:
    """Return the reader of a text that *parse* turns into a value; its ValueError is the problem.

    Results are cached: a file repeats the same few durations.
    """
    parse = lru_cache(maxsize=256)(parse)

    def read(node: Node, report: Report) -> Any:
        text = read_text(node, report)
        if text is BAD:
            return BAD
        try:
            return parse(text)
        except ValueError as error:
            position = getattr(error, "position", None)
            if isinstance(position, int) and isinstance(node, Scalar):
                start = _inside(node, report)
                if start is not None:
                    length = 1 if position else len(node.value)
                    report.add(str(error), node.line, start + position, length)
                    return BAD
            return mark(node, report, str(error))

    return read


def _inside(node: Scalar, report: Report) -> int | None:
    """Return the column where the text of *node* begins, if the file has it without escapes."""
    if node.line != node.end_line or node.line >= len(report.lines):
        return None
    quote = 0 if node.plain else 1
    shown = report.lines[node.line][node.column + quote : node.end_column - quote]
    return node.column + quote if shown == node.value else None


def read_bool(node: Node, report: Report) -> Any:
    if isinstance(node, Scalar):
        if node.plain and node.value in _BOOLS:
            return _BOOLS[node.value]
        text = node.value.strip().lower()
        if text in {"true", "yes", "on", "y", "1", "enabled"}:
            return expected("true or false", node, report, "write true")
        if text in {"false", "no", "off", "n", "0", "disabled"}:
            return expected("true or false", node, report, "write false")
    return expected("true or false", node, report)


def read_int(node: Node, report: Report) -> Any:
    if isinstance(node, Scalar) and node.plain and _INT.fullmatch(node.value):
        return int(node.value)
    return expected("a whole number", node, report, _number_hint(node, _INT))


def read_float(node: Node, report: Report) -> Any:
    if isinstance(node, Scalar) and node.plain and _FLOAT.fullmatch(node.value):
        value = float(node.value)
        if math.isfinite(value):
            return value
    return expected("a number", node, report, _number_hint(node, _FLOAT))


class CoreValue(msgspec.Struct, frozen=True):
    value: bool | int | float | None


def core(node: Scalar) -> CoreValue | None:
    """Return what a plain scalar is by YAML 1.2's core schema, or None when it is a text.

    Only for fields of type Any, where no type decides.
    """
    if node.is_null:
        return CoreValue(None)
    if not node.plain:
        return None
    if node.value in _BOOLS:
        return CoreValue(_BOOLS[node.value])
    if _INT.fullmatch(node.value):
        return CoreValue(int(node.value))
    if _FLOAT.fullmatch(node.value) and math.isfinite(float(node.value)):
        return CoreValue(float(node.value))
    return None


def _number_hint(node: Node, pattern: re.Pattern[str]) -> str:
    if not isinstance(node, Scalar):
        return ""
    if not node.plain and pattern.fullmatch(node.value):
        return "remove the quotes"
    bare = node.value.replace("_", "").lstrip("0")
    if node.plain and bare != node.value and pattern.fullmatch(bare):
        return f"write {bare}"
    return ""


def choice(options: Mapping[str, Any]) -> Read:
    def read(node: Node, report: Report) -> Any:
        if not isinstance(node, Scalar) or node.is_null:
            return expected(" or ".join(options), node, report)
        if node.value in options:
            return options[node.value]
        near = nearest(node.value, options)
        hint = "" if near is None else f"; did you mean {near!r}?"
        return mark(node, report, f"{quoted(node.value)} is none of {', '.join(options)}{hint}")

    return read


def bounded(read: Read, limits: inspect.Type, amend: str = "", example: str = "") -> Read:
    """Return *read* with the limits of a `msgspec.Meta` on what it returns.

    The problem of a text that does not match a pattern has a remedy: *amend* is what is probably
    missing around it, such as `http://{}`, and *example* is a text that matches.
    """
    checks = {
        name: limit
        for name in ("gt", "ge", "lt", "le", "min_length", "max_length", "pattern")
        if (limit := getattr(limits, name, None)) is not None
    }
    if not checks:
        return read

    def read_bounded(node: Node, report: Report) -> Any:
        value = read(node, report)
        if value is BAD:
            return BAD
        for name, limit in checks.items():
            problem = _beyond(name, limit, value)
            if problem and name == "pattern":
                problem += _remedy(value, limit, amend, example)
            if problem:
                return mark(node, report, problem)
        return value

    return read_bounded


def _beyond(name: str, limit: Any, value: Any) -> str:  # noqa: PLR0911  a case a limit
    """Return how *value* is beyond a limit, or an empty text."""
    match name:
        case "gt" if value <= limit:
            return f"must be more than {limit:g}"
        case "ge" if value < limit:
            return f"must be at least {limit:g}"
        case "lt" if value >= limit:
            return f"must be less than {limit:g}"
        case "le" if value > limit:
            return f"must be at most {limit:g}"
        case "min_length" if len(value) < limit:
            return "must not be empty" if limit == 1 else f"must have at least {limit} {_of(value)}"
        case "max_length" if len(value) > limit:
            return f"must have at most {limit} {_of(value)}"
        case "pattern" if not re.search(limit, value):
            return f"{quoted(value)} does not have the right form"
        case _:
            return ""


def _remedy(text: str, pattern: str, amend: str, example: str) -> str:
    amended = amend.replace("{}", text)
    if amended and " " not in text and re.search(pattern, amended):
        return f"; write {amended}"
    return f"; write for example {example}" if example else f", which is {pattern}"


def _of(value: Any) -> str:
    return "characters" if isinstance(value, str) else "items"


def key_text(node: Node, report: Report) -> str | None:
    """Return the text of a key, or report that it is none."""
    if isinstance(node, Scalar):
        return node.value
    expected("a key", node, report)
    return None


def expected(what: str, node: Node, report: Report, remedy: str = "") -> Any:
    """Report that *what* was expected and something else was found, and return BAD."""
    match node:
        case Refused():
            return BAD
        case Scalar() if node.is_null:
            found = "nothing" if not node.value else node.value
        case Scalar():
            found = quoted(node.value)
        case Items():
            found = "a list"
        case _:
            found = "a mapping"
            if isinstance(node, Pairs) and any(isinstance(key, Pairs) for key, _ in node.pairs):
                remedy = 'write a template in quotes: "{{ … }}"'
    return mark(node, report, f"expected {what}, found {found}" + (f"; {remedy}" if remedy else ""))


def instead(node: Node, empty: str) -> str:
    """Return the remedy where a list or mapping is expected."""
    if not isinstance(node, Scalar):
        return ""
    if node.is_null:
        return f"remove the key, or write {empty}"
    return ""


def caution(node: Node, report: Report, message: str) -> None:
    """Warn of *message* at *node*: it works, and is not to stay."""
    report.add(message, node.line, node.column, node.length, DiagnosticSeverity.WARNING)


def mark(node: Node, report: Report, message: str) -> Any:
    """Report *message* at *node* and return BAD."""
    report.add(message, node.line, node.column, node.length)
    return BAD
