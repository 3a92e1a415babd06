"""What does an expression rest on, and what does Prometheus answer with? Values only.

An expression is read with every string literal replaced by a placeholder. So the literals come out
exactly as they were written, whatever their quotes and escapes; the parser never compiles a regular
expression, which costs it up to half a second and knows another dialect than Prometheus; and
brackets within strings are not counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec
import promql_parser as parser

MAX_EXPRESSION: Final = 16_384
"""Characters of an expression that is read."""
MAX_OPERATORS: Final = 250
"""Operators and brackets of an expression that is read.

The parser's time grows with their square, 40 ms here, and some 3,000 of them overflow its stack,
which ends the process; and expressions arrive in notifications.
"""


class Sample(msgspec.Struct, frozen=True):
    """One series of an instant query's answer."""

    labels: dict[str, str]
    value: float
    """NaN for a native histogram, which has no single value."""
    at: float = 0.0
    """When it was evaluated, seconds since the epoch, by Prometheus' clock."""


class Samples(tuple[Sample, ...]):  # noqa: SLOT001  a tuple's subclass needs a dict to carry more
    """An instant query's answer, empty when nothing was returned."""

    warnings: tuple[str, ...] = ()
    """What Prometheus, or what federates several of them, remarked: perhaps parts are missing."""
    clock: float | None = None
    """What the server's clock showed when it was asked, at most a second early; None: not told."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as Prometheus runs it now."""

    name: str
    """The alert's, or that of the series that it records."""
    query: str
    records: bool = False
    """A recording rule; the others raise alerts."""
    labels: dict[str, str] = {}
    """Set by the rule, over the series' own; values may hold templates."""
    duration: float = 0.0
    """Seconds of its `for`."""
    keep_firing_for: float = 0.0
    """Seconds for which its alert fires on when the expression returns nothing any more."""
    health: str = "unknown"
    """`ok`, `err` or `unknown` (not evaluated yet)."""
    last_error: str = ""
    last_evaluation: float = 0.0
    """Seconds since the epoch, by Prometheus' clock."""
    interval: float = 0.0
    """Seconds between its evaluations."""
    state: str = ""
    """`firing`, `pending` or `inactive`."""
    alerts: tuple[dict[str, str], ...] = ()
    """Labels of its active alerts, without external labels and before relabelling."""
    firing: tuple[dict[str, str], ...] = ()
    """Of these, the ones whose `for` is over."""


def parse(expression: str) -> tuple[parser.Expr, str, Mapping[str, str]]:
    """Return the tree of an expression, the text that it is of, and what its literals stand for.

    Raises ValueError, with the parser's text, when it is no PromQL, cannot be a rule's (a range or
    a string), or is larger than anyone's.
    """
    if len(expression) > MAX_EXPRESSION:
        raise ValueError(f"the expression is longer than {MAX_EXPRESSION} characters")
    skeleton, literals = _skeleton(expression)
    if len(_OPERATOR.findall(_BRACES.sub("{", skeleton))) > MAX_OPERATORS:
        raise ValueError(f"the expression has more than {MAX_OPERATORS} operators and brackets")
    tree = parser.parse(skeleton)
    if isinstance(tree, parser.MatrixSelector | parser.SubqueryExpr | parser.StringLiteral):
        raise ValueError(  # noqa: TRY004  it is the text that is wrong
            "the expression is a range or a string; a rule needs an instant vector"
        )
    return tree, skeleton, literals


def same_expression(one: str, other: str) -> bool:
    """Whether both are the same text but for white space and comments."""
    return one == other or _normal(one) == _normal(other)


def quote(value: str) -> str:
    """Return *value* as a PromQL string literal."""
    return '"' + _UNSAFE.sub(lambda match: _escape(match[0]), value) + '"'


# --- literals -------------------------------------------------------------------------------------

_LITERAL: Final = re.compile(
    r""""(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`[^`]*`|\#[^\n]*""", re.DOTALL
)
_PLACEHOLDER: Final = re.compile(r'"(§\d+)"')
_SPACE: Final = re.compile(r"\s+")
_BRACES: Final = re.compile(r"\{[^}]*")
_OPERATOR: Final = re.compile(r"[-+*/%^<>(\[{]|[=!]=|\b(?:and|or|unless|atan2)\b", re.IGNORECASE)
_UNSAFE: Final = re.compile(r'[\\"\x00-\x1f\x7f]')
_LEGACY_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
LEGACY_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_ESCAPED: Final = re.compile(
    r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL
)
_SHORT: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "'": "'", '"': '"',
}  # fmt: skip
_REGEX_META: Final = re.compile(r"[\\.+*?()|\[\]{}^$]")


def _skeleton(expression: str) -> tuple[str, dict[str, str]]:
    """The expression without comments, and its literals by the names that stand for them."""
    literals: dict[str, str] = {}

    def replace(match: re.Match[str]) -> str:
        if match[0].startswith("#"):
            return " "
        name = f"§{len(literals)}"
        literals[name] = match[0]
        return f'"{name}"'

    return _SPACE.sub(" ", _LITERAL.sub(replace, expression)).strip(), literals


def _normal(expression: str) -> str:
    skeleton, literals = _skeleton(expression)
    return _PLACEHOLDER.sub(lambda match: literals.get(match[1], match[0]), skeleton)


def _escape(character: str) -> str:
    if character in '\\"':
        return "\\" + character
    return "\\n" if character == "\n" else f"\\x{ord(character):02x}"


def label_name(name: str) -> str:
    """A label's name where PromQL wants one: in quotes if it is not of the old kind."""
    return name if _LEGACY_NAME.fullmatch(name) else quote(name)


def unquote(literal: str) -> str:
    """Return what a PromQL string literal stands for. Raises ValueError for an unknown escape."""
    body = literal[1:-1]
    if literal.startswith("`") or "\\" not in body:
        return body
    return _ESCAPED.sub(lambda match: _unescaped(match[0]), body)


def _unescaped(escape: str) -> str:
    """Source: Go's strconv.UnquoteChar, which PromQL follows."""
    kind = escape[1]
    if kind in _SHORT:
        return _SHORT[kind]
    if len(escape) == 2:
        raise ValueError(f"{escape} is no escape in PromQL")
    digits, base = (escape[1:], 8) if kind.isdigit() else (escape[2:], 16)
    return chr(int(digits, base))


def literally(value: str) -> str:
    """A regular expression of RE2 that matches just *value*."""
    return _REGEX_META.sub(r"\\\g<0>", value)
