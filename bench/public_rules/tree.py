"""What an expression is made of: nodes, the kinds of series that it reads, its reach."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from operator import add, mod, mul, sub, truediv
from typing import Any, Final, TypeAlias

import msgspec
import promql_parser as parser

Node: TypeAlias = Any
"""A node of promql_parser, which has no types."""

COUNTING: Final = frozenset({"rate", "irate", "increase"})
COMPARISONS: Final = frozenset({"==", "!=", ">", "<", ">=", "<="})
_ARITHMETIC: Final[dict[str, Callable[[float, float], float]]] = {
    "+": add,
    "-": sub,
    "*": mul,
    "/": truediv,
    "%": mod,
    "^": math.pow,
}
PICKING: Final = frozenset({"topk", "bottomk", "limitk", "limit_ratio"})


class Kind(msgspec.Struct, frozen=True):
    """The series of one selector: those with its name and its matchers."""

    text: str
    """The selector, without range, offset and `@`."""
    name: str
    matchers: tuple[tuple[str, str, str], ...]
    """Label, operator, value."""
    counter: bool = False
    """Somewhere the expression asks how fast it rises."""
    buckets: bool = False
    """Of a classic histogram whose quantile is asked for."""


class Shape(msgspec.Struct, frozen=True):
    """An expression, taken apart."""

    text: str
    root: Node
    kinds: tuple[Kind, ...]
    labels: frozenset[str]
    """Every label that the expression names."""
    made: tuple[tuple[str, str, str, str], ...]
    """`label_replace`: target, replacement, source, regular expression."""
    reach: float
    """Seconds: what is older has no say."""

    @property
    def picks(self) -> bool:
        """Whether some series keep others from being returned."""
        return any(operator(node) in PICKING for node in nodes(self.root))

    def kind(self, node: Node) -> Kind:
        """The kind of a vector selector."""
        text = selector_text(node)
        return next(k for k in self.kinds if k.text == text)


def shape(text: str) -> Shape:
    """Take *text* apart. Raises ValueError when series cannot be made for it."""
    root = parser.parse(text)
    found: dict[str, Kind] = {}
    labels: set[str] = set()
    made: list[tuple[str, str, str, str]] = []
    for node, above in _walk(root, ()):
        match node:
            case parser.VectorSelector():
                kind = _kind(node, above)
                known = found.get(kind.text, kind)
                found[kind.text] = msgspec.structs.replace(
                    kind,
                    counter=kind.counter or known.counter,
                    buckets=kind.buckets or known.buckets,
                )
                labels |= {label for label, _, _ in kind.matchers}
            case parser.AggregateExpr() if node.modifier:
                labels |= set(node.modifier.labels)
            case parser.BinaryExpr() if node.modifier:
                labels |= set(node.modifier.matching.labels if node.modifier.matching else ())
                labels |= set(node.modifier.group_labels or ())
            case parser.Call() if node.func.name == "label_replace":
                target, replacement, source, pattern = (a.val for a in node.args[1:5])
                made.append((target, replacement, source, pattern))
                labels |= {source}
            case parser.Call() if node.func.name == "label_join":
                labels |= {a.val for a in node.args[3:]}
    if not found:
        raise ValueError("reads no series")
    return Shape(
        text=text,
        root=root,
        kinds=tuple(found.values()),
        labels=frozenset(labels - {"__name__", "le"}),
        made=tuple(made),
        reach=reach(root),
    )


def children(node: Node) -> tuple[Node, ...]:
    """The vectors that *node* is computed from."""
    match node:
        case parser.BinaryExpr():
            return node.lhs, node.rhs
        case parser.AggregateExpr():
            param = (node.param,) if isinstance(node.param, parser.Expr) else ()
            return (*param, node.expr)
        case parser.Call():
            return tuple(node.args)
        case parser.ParenExpr() | parser.UnaryExpr() | parser.SubqueryExpr():
            return (node.expr,)
        case parser.MatrixSelector():
            return (node.vector_selector,)
        case _:
            return ()


def nodes(root: Node) -> Iterator[Node]:
    """*root* and everything below it."""
    return (node for node, _ in _walk(root, ()))


def bare(node: Node) -> Node:
    """*node* without the brackets around it."""
    while isinstance(node, parser.ParenExpr):
        node = node.expr
    return node


def operator(node: Node) -> str:
    """A binary operator, or an aggregation's name; empty for other nodes."""
    if isinstance(node, parser.BinaryExpr | parser.AggregateExpr):
        return str(node.op).lower()
    return ""


def is_comparison(node: Node) -> bool:
    return isinstance(node, parser.BinaryExpr) and operator(node) in COMPARISONS


def is_selector(node: Node) -> bool:
    return isinstance(node, parser.VectorSelector)


def is_bool(node: Node) -> bool:
    return bool(node.modifier and node.modifier.return_bool)


def kinds_below(shape_: Shape, node: Node) -> set[Kind]:
    return {shape_.kind(n) for n in nodes(node) if isinstance(n, parser.VectorSelector)}


def constant(node: Node) -> float | None:
    """The number that *node* is, whatever the data; None when data has a say."""
    match node:
        case parser.NumberLiteral():
            return float(node.val)
        case parser.ParenExpr():
            return constant(node.expr)
        case parser.UnaryExpr():
            inner = constant(node.expr)
            return None if inner is None else -inner
        case parser.BinaryExpr():
            left, right = constant(node.lhs), constant(node.rhs)
            return None if left is None or right is None else apply(operator(node), left, right)
        case _:
            return None


def apply(op: str, left: float, right: float) -> float | None:
    """What PromQL's arithmetic makes of two numbers; None where it is no number."""
    try:
        return _ARITHMETIC[op](left, right)
    except (KeyError, ZeroDivisionError, OverflowError, ValueError):
        return None


def compare(op: str, left: float, right: float) -> bool:
    return {
        "==": left == right,
        "!=": left != right,
        ">": left > right,
        "<": left < right,
        ">=": left >= right,
        "<=": left <= right,
    }[op]


def seconds(node: Node) -> float:
    """Of the range of a matrix selector or a subquery."""
    return float(node.range.total_seconds())


def reach(node: Node) -> float:
    """Seconds that *node* looks back, offsets included."""
    own = 0.0
    if isinstance(node, parser.MatrixSelector | parser.SubqueryExpr):
        own = seconds(node)
    if isinstance(node, parser.VectorSelector | parser.SubqueryExpr) and node.offset:
        own += max(0.0, node.offset.total_seconds())
    return own + max((reach(child) for child in children(node)), default=0.0)


def is_guard(shape_: Shape, node: Node, other: Node) -> bool:
    """Whether *node*, one side of `and`, only asks for enough data to judge *other* by.

    By its form: `x > 0` or `x != 0` of what is on the other side too, or a rate above a number. Of
    two such sides none is.
    """
    return (
        any(is_comparison(n) for n in nodes(other))
        and _asks_for_data(shape_, node, other)
        and not _asks_for_data(shape_, other, node)
    )


def _asks_for_data(shape_: Shape, node: Node, other: Node) -> bool:
    node = bare(node)
    if not is_comparison(node) or constant(node.rhs) is None:
        return False
    names = {k.name for k in kinds_below(shape_, node)}
    if operator(node) in {">", "!="} and constant(node.rhs) == 0:
        if names <= {k.name for k in kinds_below(shape_, other)}:
            return True
    elif operator(node) not in {">", ">="}:
        return False
    below = list(nodes(node.lhs))
    calls = {n.func.name for n in below if isinstance(n, parser.Call)}
    return (
        bool(calls & COUNTING)
        and not calls & {"deriv", "changes", "histogram_quantile", "quantile_over_time"}
        and not any(operator(n) in {"/", "-", "quantile"} for n in below)
    )


def selector_text(node: Node) -> str:
    """A vector selector without offset and `@`."""
    matchers = ",".join(f"{m.name}{_op(m.op)}{_quoted(m.value)}" for m in node.matchers.matchers)
    name = node.name or ""
    return f"{name}{{{matchers}}}" if matchers else name


def _kind(node: Node, above: tuple[Node, ...]) -> Kind:
    if node.matchers.or_matchers:
        raise ValueError("`or` between matchers")
    name = node.name or ""
    matchers = []
    for m in node.matchers.matchers:
        if m.name == "__name__":
            name = m.value if _op(m.op) == "=" else name or _named(m)
        else:
            matchers.append((m.name, _op(m.op), m.value))
    if not re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", name):
        raise ValueError("a metric name that is not of the old kind")
    calls = [n.func.name for n in above if isinstance(n, parser.Call)]
    return Kind(
        text=selector_text(node),
        name=name,
        matchers=tuple(matchers),
        counter=any(name in COUNTING for name in calls),
        buckets="histogram_quantile" in calls and not any(m[0] == "le" for m in matchers),
    )


def _named(matcher: Node) -> str:
    first = re.split(r"[|)]", matcher.value.strip("^$("))[0]
    return re.sub(r"\.[*+]\??", "x", first) if _op(matcher.op) == "=~" else "some_metric"


def _walk(node: Node, above: tuple[Node, ...]) -> Iterator[tuple[Node, tuple[Node, ...]]]:
    yield node, above
    for child in children(node):
        yield from _walk(child, (*above, node))


def _op(op: Node) -> str:
    return {
        str(parser.MatchOp.Equal): "=",
        str(parser.MatchOp.NotEqual): "!=",
        str(parser.MatchOp.Re): "=~",
    }.get(str(op), "!~")


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
