"""What does an expression rest on, and what does Prometheus answer with? Values only.

An expression is read with every string literal replaced by a placeholder. So the literals come out
exactly as they were written, whatever their quotes and escapes; the parser never compiles a regular
expression, which costs it up to half a second and knows another dialect than Prometheus; and
brackets within strings are not counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final

import msgspec
import promql_parser as parser

from receiver.duration import format_duration

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
    group: str = ""
    interval: float = 0.0
    """Seconds between its evaluations."""
    state: str = ""
    """`firing`, `pending` or `inactive`."""
    alerts: tuple[dict[str, str], ...] = ()
    """Labels of its active alerts, without external labels and before relabelling."""


class Flow(msgspec.Struct, frozen=True):
    """Which labels of a selector's series can reach the expression's result."""

    only: frozenset[str] | None = None
    """These; None: all."""
    without: frozenset[str] = frozenset()
    """Except these."""

    def keep(self, names: Iterable[str]) -> Flow:
        kept = frozenset(names)
        return Flow(kept if self.only is None else self.only & kept, self.without)

    def drop(self, names: Iterable[str]) -> Flow:
        return Flow(self.only, self.without | frozenset(names))

    def __contains__(self, name: str) -> bool:
        return (self.only is None or name in self.only) and name not in self.without


class Selector(msgspec.Struct, frozen=True):
    """One vector selector of an expression."""

    text: str
    """A plain instant vector selector with its own matchers, without range, offset and `@`."""
    offset: float = 0.0
    """Seconds back from now to the moment whose data is read, `offset` of subqueries included."""
    optional: bool = False
    """A healthy state may lack its data: right of `unless`, inside `absent`, or pinned by `@`."""
    pair_within: float = 0.0
    """Seconds within which its function (`rate` …) needs two samples to return anything; 0: one."""
    flow: Flow = Flow()

    def of(self, labels: Mapping[str, str]) -> str:
        """Return the selector of those series that have the values of *labels*, or lack them."""
        return self._matching(
            f"{_name(name)}=~{quote(_literally(value) + '|')}" for name, value in labels.items()
        )

    def newest(self, labels: Mapping[str, str]) -> str:
        """Return PromQL for the newest sample's time by the names of *labels*.

        Only series that have the values of *labels*, or lack the label, are looked at: of 100,000
        series few can be meant.
        """
        text = self.of(labels)
        shift = self._shift()
        times = f"timestamp({text}{shift})"
        if self.pair_within:
            window = format_duration(self.pair_within)
            times += f" and count_over_time({text}[{window}]{shift}) > 1"
        return f"max by ({', '.join(map(_name, labels))}) ({times})"

    def carries(self, label: str) -> str:
        """Return PromQL that answers with something when any of its series has *label*."""
        present = f'{_name(label)}!=""'
        return f"count({self._matching([present])}{self._shift()})"

    def _matching(self, matchers: Iterable[str]) -> str:
        more = ",".join(matchers)
        if not more:
            return self.text
        if self.text.endswith("}"):
            return f"{self.text[:-1]},{more}}}"
        return f"{self.text}{{{more}}}"

    def _shift(self) -> str:
        if not self.offset:
            return ""
        return f" offset {'-' if self.offset < 0 else ''}{format_duration(abs(self.offset))}"


class Expression(msgspec.Struct, frozen=True):
    text: str
    """Without comments, and with single spaces: equal for the same expression on other lines."""
    is_scalar: bool
    """A number, like `vector(1)` without its `vector`: a rule on it always fires."""
    selectors: tuple[Selector, ...]
    """Each once."""


def selectors(expression: str) -> tuple[Selector, ...]:
    """Return the vector selectors of *expression*, each once. Raises ValueError as `read` does."""
    return read(expression).selectors


@lru_cache(maxsize=512)
def read(expression: str) -> Expression:
    """Read *expression*.

    Raises ValueError, with the parser's text, when it is no PromQL, cannot be a rule's (a range or
    a string), or is larger than anyone's.
    """
    tree, skeleton, literals = parse(expression)
    if isinstance(tree, parser.MatrixSelector | parser.SubqueryExpr | parser.StringLiteral):
        raise ValueError(  # noqa: TRY004  it is the text that is wrong
            "the expression is a range or a string; a rule needs an instant vector"
        )
    found = _Reader(literals).walk(tree, _Scope())
    return Expression(
        text=_PLACEHOLDER.sub(lambda match: literals[match[1]], skeleton),
        is_scalar=_is_scalar(tree),
        selectors=tuple(dict.fromkeys(found)),
    )


def parse(expression: str) -> tuple[parser.Expr, str, Mapping[str, str]]:
    """Return the tree of an expression, the text that it is of, and what its literals stand for.

    Raises ValueError when it is no PromQL, or larger than anyone's.
    """
    if len(expression) > MAX_EXPRESSION:
        raise ValueError(f"the expression is longer than {MAX_EXPRESSION} characters")
    skeleton, literals = _skeleton(expression)
    if len(_OPERATOR.findall(_BRACES.sub("{", skeleton))) > MAX_OPERATORS:
        raise ValueError(f"the expression has more than {MAX_OPERATORS} operators and brackets")
    return parser.parse(skeleton), skeleton, literals


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
_LEGACY_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
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


def _name(name: str) -> str:
    """A label's name where PromQL wants one: in quotes if it is not of the old kind."""
    return name if _LEGACY_NAME.fullmatch(name) else quote(name)


def _literally(value: str) -> str:
    """A regular expression of RE2 that matches just *value*."""
    return _REGEX_META.sub(r"\\\g<0>", value)


# --- the tree -------------------------------------------------------------------------------------

_NEEDS_TWO_SAMPLES: Final = frozenset(
    {
        "delta",
        "deriv",
        "double_exponential_smoothing",
        "holt_winters",
        "idelta",
        "increase",
        "irate",
        "predict_linear",
        "rate",
    }
)
_KEEPS_ITS_INPUT: Final = frozenset({"bottomk", "limit_ratio", "limitk", "topk"})
"""Aggregations that return some of their series as they are."""
_NOTHING: Final[frozenset[str]] = frozenset()


class _Scope(msgspec.Struct, frozen=True):
    """What the expression around a node means for the selectors in it."""

    flow: Flow = Flow()
    offset: float = 0.0
    optional: bool = False
    needs_two: bool = False

    def within(self, flow: Flow) -> _Scope:
        return msgspec.structs.replace(self, flow=flow, needs_two=False)

    def shifted(self, node: parser.VectorSelector | parser.SubqueryExpr) -> _Scope:
        """As seen from *node*, which may have an offset and an `@`."""
        offset = node.offset.total_seconds() if node.offset else 0.0
        if node.at is None:
            return msgspec.structs.replace(self, offset=self.offset + offset)
        # `@ end()` is the moment of asking again; another `@` is history, which no action changes.
        pinned = node.at.type == parser.AtModifierType.At
        return msgspec.structs.replace(self, offset=offset, optional=self.optional or pinned)


class _Reader:
    """Walks the tree of a skeleton."""

    def __init__(self, literals: Mapping[str, str]) -> None:
        self._literals = literals

    def walk(self, node: parser.Expr, scope: _Scope) -> Iterator[Selector]:
        match node:
            case parser.VectorSelector():
                yield self._selector(node, scope, 0.0)
            case parser.MatrixSelector():
                window = node.range.total_seconds() if scope.needs_two else 0.0
                yield self._selector(node.vector_selector, scope, window)
            case parser.SubqueryExpr():
                yield from self.walk(node.expr, scope.shifted(node).within(scope.flow))
            case parser.ParenExpr() | parser.UnaryExpr():
                yield from self.walk(node.expr, scope)
            case parser.AggregateExpr():
                yield from self._aggregation(node, scope)
            case parser.BinaryExpr():
                yield from self._operation(node, scope)
            case parser.Call():
                yield from self._call(node, scope)
            case _:  # numbers and strings rest on nothing
                return

    def _selector(self, node: parser.VectorSelector, scope: _Scope, pair_within: float) -> Selector:
        if node.matchers.or_matchers:
            raise ValueError("`or` between matchers is no PromQL")
        inner = scope.shifted(node)
        matchers = [
            f"{self._label(m.name)}{_operator(m.op)}{self._literals[m.value]}"
            for m in node.matchers.matchers
        ]
        name = node.name or ""
        if name and not _LEGACY_METRIC.fullmatch(name):
            matchers.insert(0, f"__name__={self._literals.get(name) or quote(name)}")
            name = ""
        return Selector(
            text=f"{name}{{{','.join(matchers)}}}" if matchers else name,
            offset=inner.offset,
            optional=inner.optional,
            pair_within=pair_within,
            flow=scope.flow,
        )

    def _label(self, name: str) -> str:
        return self._literals.get(name, name)

    def _names(self, labels: Iterable[str]) -> list[str]:
        """Label names as alerts have them: without the quotes that they may stand in."""
        return [self._literals[n][1:-1] if n in self._literals else n for n in labels]

    def _aggregation(self, node: parser.AggregateExpr, scope: _Scope) -> Iterator[Selector]:
        if isinstance(node.param, parser.Expr):
            yield from self.walk(node.param, scope.within(scope.flow.keep(_NOTHING)))
        flow = scope.flow
        if str(node.op) not in _KEEPS_ITS_INPUT:
            if node.modifier is None:
                flow = flow.keep(_NOTHING)
            elif node.modifier.type == parser.AggModifierType.By:
                flow = flow.keep(self._names(node.modifier.labels))
            else:
                flow = flow.drop(self._names(node.modifier.labels))
        yield from self.walk(node.expr, scope.within(flow))

    def _operation(self, node: parser.BinaryExpr, scope: _Scope) -> Iterator[Selector]:
        """Each side, with the labels of the result that can be from it.

        Source: prometheus/prometheus, promql/engine.go, resultMetric and the set operators.
        """
        left = right = scope.flow
        modifier = node.modifier
        operator = str(node.op)
        if modifier is not None and modifier.matching is not None and operator != "or":
            names = self._names(modifier.matching.labels)
            brought = self._names(modifier.group_labels or [])
            if modifier.matching.type == parser.LabelModifierType.Include:
                one = scope.flow.keep([*names, *brought])
            else:
                one = scope.flow.drop(set(names) - set(brought))
            many = scope.flow.drop(brought)
            match modifier.card:
                case parser.VectorMatchCardinality.OneToOne:
                    left = right = one
                case parser.VectorMatchCardinality.OneToMany:
                    left, right = one, many
                case parser.VectorMatchCardinality.ManyToOne:
                    left, right = many, one
                case _:  # `and`, `unless`: the left side's labels stand
                    right = one
        yield from self.walk(node.lhs, scope.within(left))
        outer = scope.within(right)
        if operator == "unless":
            outer = msgspec.structs.replace(outer, optional=True)
        yield from self.walk(node.rhs, outer)

    def _call(self, node: parser.Call, scope: _Scope) -> Iterator[Selector]:
        name = node.func.name
        flow = scope.flow.keep(_NOTHING) if name == "scalar" else scope.flow
        inner = msgspec.structs.replace(
            scope.within(flow),
            optional=scope.optional or name.startswith("absent"),
            needs_two=name in _NEEDS_TWO_SAMPLES,
        )
        arguments = list(node.args)
        # The second argument of info() chooses labels; it is no selector of its own.
        for argument in arguments[:1] if name == "info" else arguments:
            yield from self.walk(argument, inner)


def _operator(op: parser.MatchOp) -> str:
    if op == parser.MatchOp.Equal:
        return "="
    if op == parser.MatchOp.NotEqual:
        return "!="
    return "=~" if op == parser.MatchOp.Re else "!~"


def _is_scalar(node: parser.Expr) -> bool:
    match node:
        case parser.NumberLiteral():
            return True
        case parser.ParenExpr() | parser.UnaryExpr():
            return _is_scalar(node.expr)
        case parser.BinaryExpr():
            return _is_scalar(node.lhs) and _is_scalar(node.rhs)
        case parser.Call():
            return bool(node.func.return_type == parser.ValueType.Scalar)
        case _:
            return False
