"""An expression as a tree that can be written out again, in part and with more matchers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec
import promql_parser as parser

from receiver.policy import promql
from receiver.policy.duration import format_duration
from receiver.policy.promql import LEGACY_METRIC, label_name, unquote

COMPARISONS: Final = frozenset({"==", "!=", ">", "<", ">=", "<="})
CHOOSING: Final = frozenset({"bottomk", "limit_ratio", "limitk", "topk"})
"""Aggregations that return some of their series as they are."""


class Node(msgspec.Struct, frozen=True):
    """A part of an expression."""

    @property
    def parts(self) -> tuple[Node, ...]:
        return ()


class Number(Node, frozen=True):
    value: float


class Text(Node, frozen=True):
    literal: str
    """With its quotes, as it was written."""

    @property
    def value(self) -> str:
        return unquote(self.literal)


class Shift(msgspec.Struct, frozen=True):
    """`offset` and `@` of a selector or a subquery."""

    offset: float = 0.0
    """Seconds back; negative: forth."""
    at: str = ""
    """`@ 1600000000`, `@ end()` or `@ start()`."""

    @property
    def pinned(self) -> bool:
        """Reads history, which no action changes."""
        return bool(self.at) and not self.at.endswith("()")

    def show(self) -> str:
        at = f" {self.at}" if self.at else ""
        if not self.offset:
            return at
        sign = "-" if self.offset < 0 else ""
        return f"{at} offset {sign}{format_duration(abs(self.offset))}"


class Selector(Node, frozen=True):
    """A vector selector, with a range where a function wants one."""

    index: int
    """Its position among the selectors of the expression."""
    name: str
    """The metric's, in PromQL where it is of the old kind; else empty and among the matchers."""
    matchers: tuple[str, ...]
    """`name="value"` as written."""
    equal: Mapping[str, str]
    """Labels that a matcher ties to one value, `__name__` among them."""
    window: float = 0.0
    """Seconds of its range; 0: an instant vector."""
    shift: Shift = Shift()

    @property
    def metric(self) -> str:
        """The metric's name, empty where it is a pattern."""
        return self.equal.get("__name__", "")

    def plain(self, more: tuple[str, ...] = ()) -> str:
        """Return the instant vector selector without `offset` and `@`, with *more* matchers."""
        matchers = ",".join((*self.matchers, *more))
        return f"{self.name}{{{matchers}}}" if matchers else self.name


class Subquery(Node, frozen=True):
    expr: Node
    window: float
    step: float | None
    """Seconds; None: the server's evaluation interval."""
    shift: Shift = Shift()

    @property
    def parts(self) -> tuple[Node, ...]:
        return (self.expr,)

    def around(self, text: str) -> str:
        """Return a subquery over the same moments for another expression."""
        step = "" if self.step is None else format_duration(self.step)
        return f"({text})[{format_duration(self.window)}:{step}]{self.shift.show()}"


class Negation(Node, frozen=True):
    expr: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        return (self.expr,)


class Matching(msgspec.Struct, frozen=True):
    """`on`, `ignoring`, `group_left` and `group_right` of a binary operator."""

    on: bool
    labels: tuple[str, ...]
    group: str = ""
    """`group_left`, `group_right` or nothing."""
    brought: tuple[str, ...] = ()
    """Labels that the group takes over from the one side."""

    def show(self) -> str:
        said = f"{'on' if self.on else 'ignoring'} ({_names(self.labels)})"
        if self.group:
            said += f" {self.group} ({_names(self.brought)})"
        return said


class Binary(Node, frozen=True):
    op: str
    left: Node
    right: Node
    bool_: bool = False
    matching: Matching | None = None

    @property
    def parts(self) -> tuple[Node, ...]:
        return (self.left, self.right)

    @property
    def compares(self) -> bool:
        return self.op in COMPARISONS

    @property
    def filters(self) -> bool:
        return self.compares and not self.bool_


class Aggregation(Node, frozen=True):
    op: str
    expr: Node
    param: Node | None = None
    by: tuple[str, ...] | None = None
    without: tuple[str, ...] | None = None

    @property
    def parts(self) -> tuple[Node, ...]:
        return (self.expr,) if self.param is None else (self.param, self.expr)


class Call(Node, frozen=True):
    function: str
    arguments: tuple[Node, ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        return self.arguments


class Tree(msgspec.Struct, frozen=True):
    """A whole expression."""

    root: Node
    is_scalar: bool
    """A number, like `vector(1)` without its `vector`."""
    selectors: tuple[Selector, ...]
    """In the order in which they stand there; `index` counts them."""


@lru_cache(maxsize=512)
def parse(expression: str) -> Tree:
    """Read *expression*.

    Raises ValueError, with the parser's text, when it is no PromQL, cannot be a rule's (a range or
    a string), is larger than anyone's, or has something that we cannot ask about in parts.
    """
    parsed, _, literals = promql.parse(expression)
    made = _Maker(literals)
    root = made.node(parsed)
    return Tree(root, is_scalar(root), tuple(made.selectors))


def walk(node: Node) -> Iterator[Node]:
    """Yield *node* and everything below it."""
    yield node
    for part in node.parts:
        yield from walk(part)


def is_scalar(node: Node) -> bool:
    match node:
        case Number():
            return True
        case Negation():
            return is_scalar(node.expr)
        case Binary():
            return is_scalar(node.left) and is_scalar(node.right)
        case Call():
            return node.function in {"scalar", "time", "pi"}
        case _:
            return False


def show(node: Node, more: Mapping[int, tuple[str, ...]] = {}) -> str:  # noqa: C901, PLR0911  one case a kind
    """Return the PromQL of *node*, in which selectors have *more* matchers, by their index."""
    match node:
        case Number():
            return _number(node.value)
        case Text():
            return node.literal
        case Selector():
            window = f"[{format_duration(node.window)}]" if node.window else ""
            return f"{node.plain(more.get(node.index, ()))}{window}{node.shift.show()}"
        case Subquery():
            return node.around(show(node.expr, more))
        case Negation():
            return f"-({show(node.expr, more)})"
        case Binary():
            words = [node.op]
            if node.bool_:
                words.append("bool")
            if node.matching is not None:
                words.append(node.matching.show())
            return f"({show(node.left, more)}) {' '.join(words)} ({show(node.right, more)})"
        case Aggregation():
            inner = ", ".join(show(part, more) for part in node.parts)
            return f"{node.op}{_grouping(node)} ({inner})"
        case Call():
            return f"{node.function}({', '.join(show(part, more) for part in node.arguments)})"
        case _:
            raise TypeError(f"{type(node).__name__} is no part of an expression")


def _number(value: float) -> str:
    if value != value:  # noqa: PLR0124  NaN
        return "NaN"
    if value in {float("inf"), float("-inf")}:
        return "Inf" if value > 0 else "-Inf"
    return repr(value)


def _grouping(node: Aggregation) -> str:
    if node.by is not None:
        return f" by ({_names(node.by)})"
    return "" if node.without is None else f" without ({_names(node.without)})"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(map(label_name, names))


class _Maker:
    """Makes our tree of the parser's, whose literals are placeholders."""

    def __init__(self, literals: Mapping[str, str]) -> None:
        self._literals = literals
        self.selectors: list[Selector] = []

    def node(self, tree: Any) -> Node:  # noqa: C901, PLR0911  one case a kind
        match tree:
            case parser.NumberLiteral():
                return Number(tree.val)
            case parser.StringLiteral():
                return Text(self._literals[tree.val])
            case parser.ParenExpr():
                return self.node(tree.expr)
            case parser.UnaryExpr():
                return Negation(self.node(tree.expr))
            case parser.VectorSelector():
                return self._selector(tree, 0.0)
            case parser.MatrixSelector():
                return self._selector(tree.vector_selector, tree.range.total_seconds())
            case parser.SubqueryExpr():
                step = None if tree.step is None else tree.step.total_seconds()
                window = 0.0 if tree.range is None else tree.range.total_seconds()
                return Subquery(self.node(tree.expr), window, step, _shift(tree))
            case parser.AggregateExpr():
                return self._aggregation(tree)
            case parser.BinaryExpr():
                return self._binary(tree)
            case parser.Call():
                if tree.func.name == "info":
                    raise ValueError("info() takes its labels from series that it does not name")
                return Call(tree.func.name, tuple(self.node(each) for each in tree.args))
            case _:
                raise ValueError(f"{type(tree).__name__} cannot be asked about in parts")

    def _selector(self, tree: Any, window: float) -> Selector:
        if tree.matchers.or_matchers:
            raise ValueError("`or` between matchers is no PromQL")
        matchers: list[str] = []
        equal: dict[str, str] = {}
        name = tree.name or ""
        for each in tree.matchers.matchers:
            label, literal = self._name(each.name), self._literals[each.value]
            matchers.append(f"{label_name(label)}{_operator(each.op)}{literal}")
            if each.op == parser.MatchOp.Equal:
                equal[label] = unquote(literal)
        if name and not LEGACY_METRIC.fullmatch(name):
            literal = self._literals[name]
            matchers.insert(0, f"__name__={literal}")
            name, equal["__name__"] = "", unquote(literal)
        elif name:
            equal["__name__"] = name
        made = Selector(len(self.selectors), name, tuple(matchers), equal, window, _shift(tree))
        self.selectors.append(made)
        return made

    def _aggregation(self, tree: Any) -> Node:
        labels = None if tree.modifier is None else self._names(tree.modifier.labels)
        by = labels is not None and tree.modifier.type == parser.AggModifierType.By
        param = None if tree.param is None else self.node(tree.param)
        return Aggregation(
            str(tree.op),
            self.node(tree.expr),
            param,
            by=labels if by else None,
            without=None if by else labels,
        )

    def _binary(self, tree: Any) -> Node:
        left, right = self.node(tree.lhs), self.node(tree.rhs)
        modifier, matching, bool_ = tree.modifier, None, False
        if modifier is not None:
            bool_ = modifier.return_bool
            fill = modifier.fill_values
            if fill is not None and (fill.lhs is not None or fill.rhs is not None):
                raise ValueError("fill values cannot be asked about in parts")
            group = ""
            if modifier.card == parser.VectorMatchCardinality.ManyToOne:
                group = "group_left"
            elif modifier.card == parser.VectorMatchCardinality.OneToMany:
                group = "group_right"
            if modifier.matching is not None:
                on = modifier.matching.type == parser.LabelModifierType.Include
                matching = Matching(
                    on,
                    self._names(modifier.matching.labels),
                    group,
                    self._names(modifier.group_labels or []),
                )
        return Binary(str(tree.op), left, right, bool_, matching)

    def _name(self, name: str) -> str:
        """A label's name as series have it: without the quotes that it may stand in."""
        return unquote(self._literals[name]) if name in self._literals else name

    def _names(self, names: list[str]) -> tuple[str, ...]:
        return tuple(map(self._name, names))


def _shift(tree: Any) -> Shift:
    offset = tree.offset.total_seconds() if tree.offset else 0.0
    if tree.at is None:
        return Shift(offset)
    if tree.at.type == parser.AtModifierType.At:
        return Shift(offset, f"@ {tree.at.at.timestamp():.3f}")
    end = tree.at.type == parser.AtModifierType.End
    return Shift(offset, "@ end()" if end else "@ start()")


def _operator(op: Any) -> str:
    if op == parser.MatchOp.Equal:
        return "="
    if op == parser.MatchOp.NotEqual:
        return "!="
    return "=~" if op == parser.MatchOp.Re else "!~"
