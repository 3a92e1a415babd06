"""An expression as a tree that can be written out again, in part and with more matchers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from receiver.policy.duration import format_duration
from receiver.policy.promql import label_name, unquote

COMPARISONS: Final = frozenset({"==", "!=", ">", "<", ">=", "<="})
CHOOSING: Final = frozenset({"bottomk", "limit_ratio", "limitk", "topk"})
"""Aggregations that return some of their series as they are."""


class Expr(msgspec.Struct, frozen=True):
    """A part of an expression."""

    @property
    def parts(self) -> tuple[Expr, ...]:
        return ()


class Number(Expr, frozen=True):
    value: float


class Text(Expr, frozen=True):
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


class Selector(Expr, frozen=True):
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


class Subquery(Expr, frozen=True):
    expr: Expr
    window: float
    step: float | None
    """Seconds; None: the server's evaluation interval."""
    shift: Shift = Shift()

    @property
    def parts(self) -> tuple[Expr, ...]:
        return (self.expr,)

    def around(self, text: str) -> str:
        """Return a subquery over the same moments for another expression."""
        step = "" if self.step is None else format_duration(self.step)
        return f"({text})[{format_duration(self.window)}:{step}]{self.shift.show()}"


class Negation(Expr, frozen=True):
    expr: Expr

    @property
    def parts(self) -> tuple[Expr, ...]:
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


class Binary(Expr, frozen=True):
    op: str
    left: Expr
    right: Expr
    bool_: bool = False
    matching: Matching | None = None

    @property
    def parts(self) -> tuple[Expr, ...]:
        return (self.left, self.right)

    @property
    def compares(self) -> bool:
        return self.op in COMPARISONS

    @property
    def filters(self) -> bool:
        return self.compares and not self.bool_


class Aggregation(Expr, frozen=True):
    op: str
    expr: Expr
    param: Expr | None = None
    by: tuple[str, ...] | None = None
    without: tuple[str, ...] | None = None

    @property
    def parts(self) -> tuple[Expr, ...]:
        return (self.expr,) if self.param is None else (self.param, self.expr)


class Call(Expr, frozen=True):
    function: str
    arguments: tuple[Expr, ...]

    @property
    def parts(self) -> tuple[Expr, ...]:
        return self.arguments


class Tree(msgspec.Struct, frozen=True):
    """A whole expression."""

    root: Expr
    is_scalar: bool
    """A number, like `vector(1)` without its `vector`."""
    selectors: tuple[Selector, ...]
    """In the order in which they stand there; `index` counts them."""

    @property
    def chooses(self) -> bool:
        """Whether some of its series can be left out because others rank before them."""
        return any(
            isinstance(each, Aggregation) and each.op in CHOOSING for each in walk(self.root)
        )


def walk(node: Expr) -> Iterator[Expr]:
    """Yield *node* and everything below it."""
    yield node
    for part in node.parts:
        yield from walk(part)


def is_scalar(node: Expr) -> bool:
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


def show(node: Expr, more: Mapping[int, tuple[str, ...]] = {}) -> str:  # noqa: C901, PLR0911  one case a kind
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
