"""Values for which an expression returns something, or is false on numbers: guesses.

Solved backwards from the condition, as if each selector had one series, and with chance wherever
there is a choice. Whether a guess is right, only Prometheus can say.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Final

import msgspec
import promql_parser as parser

from bench.public_rules.known import Known, left_of, right_of
from bench.public_rules.states import NOW, Line, State
from bench.public_rules.tree import (
    COUNTING,
    PICKING,
    Kind,
    Node,
    Shape,
    bare,
    compare,
    constant,
    is_bool,
    is_comparison,
    is_selector,
    kinds_below,
    nodes,
    operator,
)

MOST: Final = 40
"""Series of one kind."""
POOL: Final = (0.0, 1.0, 1.0, 2.0, 10.0, 100.0, 1000.0)


_MIRRORED: Final = {"==": "==", "!=": "!=", ">": "<", "<": ">", ">=": "<=", "<=": ">="}


def guess(shape: Shape, *, holds: bool, rng: Random, targets: int = 1) -> State:
    """Return values that may make the expression return something, or, not *holds*, nothing."""
    solver = _Solver(shape, rng)
    solver.hold(shape.root, holds)
    return solver.state(targets)


class _Solver(Known):
    """Chooses values backwards from what shall hold."""

    def __init__(self, shape: Shape, rng: Random) -> None:
        super().__init__(shape)
        self._rng = rng
        self._absent: set[Kind] = set()

    def state(self, targets: int) -> State:
        result: State = {}
        for kind in self._shape.kinds:
            if kind in self._absent:
                continue
            line = self._line(kind)
            lines = [line] * min(MOST, max(targets, self.many.get(kind, 1)))
            # Now and then a second series that differs, for what counts and compares its own.
            if kind not in self.many and self._rng.random() < (0.7 if targets > 1 else 0.12):
                other = msgspec.structs.replace(line)
                if line.quantile is None:
                    value = self._rng.choice([*POOL, line.start or 0.0])
                    other = Line(value, line.slope * self._rng.choice([0.0, 0.1, 1.0]))
                lines = [*lines[: max(1, targets - 1)], other]
            result[kind] = tuple(lines[:targets] if targets > 1 else lines)
        return result

    def _line(self, kind: Kind) -> Line:
        if kind in self.lines:
            return self.lines[kind]
        if kind.buckets:
            return Line(quantile=self._rng.choice([0.1, 1.0, 10.0]))
        if kind.counter:
            return Line(slope=self._rng.choice([0.0, 0.1, 1.0, 10.0]))
        return Line(self._rng.choice(POOL))

    # --- what an expression shall return ----------------------------------------------------------

    def hold(self, node: Node, holds: bool) -> None:  # noqa: C901, PLR0912  a case a node
        """Let *node* return something, or let its conditions be false on numbers."""
        node = bare(node)
        match node:
            case parser.BinaryExpr() if is_comparison(node):
                self._condition(node, holds)
            case parser.BinaryExpr() if operator(node) in {"and", "or", "unless"}:
                self._set_operator(node, holds)
            case parser.Call() if node.func.name.startswith("absent"):
                below = {self._shape.kind(n) for n in nodes(node) if is_selector(n)}
                if holds:
                    self._absent |= below
                else:
                    self.hold(node.args[0], True)
            case parser.BinaryExpr() if not holds:
                sides = [s for s in (node.lhs, node.rhs) if _conditional(s)]
                falsified = self._rng.choice(sides) if sides else None
                for side in (node.lhs, node.rhs):
                    self.hold(side, side is not falsified)
            case parser.AggregateExpr():
                self.hold(node.expr, holds)
            case parser.Call():
                for argument in node.args:
                    self.hold(argument, holds)
            case parser.BinaryExpr():
                self.hold(node.lhs, holds)
                self.hold(node.rhs, holds)
            case parser.UnaryExpr() | parser.SubqueryExpr():
                self.hold(node.expr, holds)
            case parser.MatrixSelector() | parser.VectorSelector():
                pass
            case _:
                pass

    def _condition(self, node: Node, holds: bool) -> None:
        op = operator(node)
        inner = [s for s in (node.lhs, node.rhs) if _conditional(s)]
        if not holds and inner and self._rng.random() < 0.5:
            # False since what it counts or compares is false already.
            for side in inner:
                self.hold(side, False)
            return
        left, right = self.value(node.lhs), self.value(node.rhs)
        sides = [(node.lhs, node.rhs, op), (node.rhs, node.lhs, _MIRRORED[op])]
        if (right is None and left is not None) or (
            left is None and right is None and self._rng.random() < 0.3
        ):
            sides.reverse()
        for free, given, directed in sides:
            if constant(free) is not None:
                continue
            limit = self.value(given)
            if limit is None:
                limit = self._rng.choice((1.0, 5.0, 100.0))
                self.aim(given, limit)
                limit = self.value(given) or limit
            self.aim(free, self._beyond(directed, limit, holds))
            break
        for side in (node.lhs, node.rhs):
            if _conditional(side):
                self.hold(side, True)

    def _beyond(self, op: str, limit: float, holds: bool) -> float:
        """A value that compares to *limit* as wanted."""
        size = abs(limit) or 1.0
        if 0 < abs(limit) < 1 and self._rng.random() < 0.7:
            size = min(abs(limit), 1 - abs(limit))  # stay among the ratios
        if abs(limit - NOW) < 1e8:
            size = self._rng.choice((600.0, 86400.0))
        far = self._rng.choice((0.2, 0.5, 0.5, 1.0, 3.0, 50.0)) * size
        if self._rng.random() < 0.3:
            far = max(1.0, math.ceil(far))
        options = [limit + far, limit - far, limit]
        if limit > 0:
            options.append(0.0)
        if limit == 0:
            options.append(self._rng.choice((1.0, 5.0)))
        fit = [v for v in options if compare(op, v, limit) == holds]
        sane = [v for v in fit if v >= 0 or limit < 0]
        return self._rng.choice(sane or fit or options)

    def _set_operator(self, node: Node, holds: bool) -> None:  # noqa: C901  a case an operator
        both = [node.lhs, node.rhs]
        match operator(node), holds:
            case "and", True:
                for side in both:
                    self.hold(side, True)
            case "and", False:
                sides = [s for s in both if _conditional(s)]
                roll = self._rng.random()
                chosen = sides if roll < 0.4 else [self._rng.choice(sides)] if sides else []
                for side in both:
                    self.hold(side, side not in chosen)
            case "or", True:
                chosen = both if self._rng.random() < 0.3 else [self._rng.choice(both)]
                for side in both:
                    self.hold(side, side in chosen or not _conditional(side))
            case "or", False:
                for side in both:
                    self.hold(side, False)
            case _:
                if not holds and self._rng.random() < 0.25:
                    # Nothing is returned, and yet the condition holds: it is excluded.
                    self.hold(node.lhs, True)
                    self.hold(node.rhs, True)
                    return
                self.hold(node.lhs, holds)
                if _conditional(node.rhs):
                    self.hold(node.rhs, (not holds) and self._rng.random() < 0.2)
                elif holds or self._rng.random() < 0.8:
                    mine = kinds_below(self._shape, node.lhs)
                    self._absent |= kinds_below(self._shape, node.rhs) - mine

    # --- what an expression's value shall be ------------------------------------------------------

    def aim(self, node: Node, value: float) -> None:
        node = bare(node)
        match node:
            case parser.VectorSelector():
                self._set(node, Line(value))
            case parser.MatrixSelector():
                self.aim(node.vector_selector, value)
            case parser.UnaryExpr():
                self.aim(node.expr, -value)
            case parser.SubqueryExpr():
                self.aim(node.expr, value)
            case parser.AggregateExpr():
                self._aim_aggregation(node, value)
            case parser.Call():
                self._aim_call(node, value)
            case parser.BinaryExpr():
                self._aim_operation(node, value)
            case _:
                pass

    def _set(self, selector: Node, line: Line) -> None:
        kind = self._shape.kind(selector)
        known = self.lines.get(kind)
        if known is None:
            self.lines[kind] = line
        elif known.start is None and line.start is not None:
            self.lines[kind] = msgspec.structs.replace(known, start=line.start)
        elif not known.slope and line.start is None:
            self.lines[kind] = msgspec.structs.replace(known, slope=line.slope)

    def _aim_aggregation(self, node: Node, value: float) -> None:
        op = operator(node)
        below = [self._shape.kind(n) for n in nodes(node.expr) if is_selector(n)]
        if op in {"count", "count_values"} and value > 1:
            for kind in below:
                self.many[kind] = max(self.many.get(kind, 1), math.ceil(value))
        elif op == "sum" and value > 1 and self._rng.random() < 0.3 and value < MOST:
            # Flags are summed to a count.
            for kind in below:
                self.many[kind] = max(self.many.get(kind, 1), math.ceil(value))
            self.aim(node.expr, 1.0)
        elif op in {"sum", "avg", "min", "max", "quantile", "stddev", "stdvar"} or op in PICKING:
            many = max((self.many.get(kind, 1) for kind in below), default=1)
            self.aim(node.expr, value / many if op == "sum" else value)

    def _aim_call(self, node: Node, value: float) -> None:  # noqa: C901, PLR0912  a case a function
        name = node.func.name
        first = (
            node.args[-1] if name == "quantile_over_time" else node.args[0] if node.args else None
        )
        if first is None:
            return
        ranged = first.range.total_seconds() if isinstance(first, parser.MatrixSelector) else 0.0
        selector = first.vector_selector if ranged else None
        match name:
            case "rate" | "irate" | "deriv" if selector is not None:
                slope = value if name == "deriv" else max(0.0, value)
                self._set(selector, Line(slope=slope) if name != "deriv" else Line(1e6, slope))
            case "increase" | "delta" if selector is not None:
                slope = value / ranged
                self._set(
                    selector, Line(slope=max(0.0, slope)) if name in COUNTING else Line(1e6, slope)
                )
            case "idelta" if selector is not None:
                self._set(selector, Line(1e6, value / 15))
            case "predict_linear" if selector is not None:
                ahead = constant(node.args[1]) or 3600.0
                here = self._rng.choice((value, value + 1, abs(value) * 2 + 1, 10.0, 1e6))
                self._set(selector, Line(here, (value - here) / ahead))
            case "changes" | "resets" if selector is not None:
                self._set(selector, Line(1.0, wave=1.0 if value > 0 else 0.0))
            case "stddev_over_time" | "stdvar_over_time" if selector is not None:
                self._set(selector, Line(10.0, wave=2 * value))
            case "sum_over_time" if selector is not None:
                self._set(selector, Line(value / max(1.0, ranged / 15)))
            case "histogram_quantile":
                for n in nodes(node.args[1]):
                    if is_selector(n) and self._shape.kind(n).buckets:
                        self.lines.setdefault(self._shape.kind(n), Line(quantile=max(value, 1e-9)))
            case "ln" | "log2" | "log10" | "exp" | "sqrt":
                undone: dict[str, Callable[[float], float]] = {
                    "ln": math.exp,
                    "log2": lambda v: 2**v,
                    "log10": lambda v: 10**v,
                    "exp": lambda v: math.log(max(v, 1e-9)),
                    "sqrt": lambda v: v * v,
                }
                self.aim(first, undone[name](min(value, 300.0)))
            case "time" | "vector" if constant(first) is not None:
                pass
            case _:
                if not name.startswith("absent"):
                    self.aim(first, value)

    def _aim_operation(self, node: Node, value: float) -> None:
        op = operator(node)
        if is_comparison(node):
            self._aim_filter(node, value)
            return
        if op in {"and", "or", "unless"}:
            self.aim(node.lhs, value)
            if op == "or":
                self.aim(node.rhs, value)
            return
        left, right = self.value(node.lhs), self.value(node.rhs)
        if left is None and right is None:
            left, right = self._split(node, op, value)
        elif left is None and right is not None:
            left = left_of(op, value, right)
            if left is not None:
                self.aim(node.lhs, left)
        elif right is None and left is not None:
            right = right_of(op, value, left)
            if right is not None:
                self.aim(node.rhs, right)

    def _aim_filter(self, node: Node, value: float) -> None:
        op = operator(node)
        if is_bool(node):
            self._condition(node, value > 0)
            return
        limit = self.value(node.rhs)
        if limit is not None and not compare(op, value, limit):
            value = self._beyond(op, limit, True)
        self.aim(node.lhs, value)

    def _split(self, node: Node, op: str, value: float) -> tuple[float | None, float | None]:
        """Neither side is known: choose one, and aim at the other."""
        size = self._rng.choice((1.0, 1.0, 10.0, 100.0, 1e6))
        if op in {"+", "-"} and self._rng.random() < 0.5:
            size = abs(value) * self._rng.choice((0.25, 0.5, 1.0)) or 1.0
        first, second = node.lhs, node.rhs
        if self._rng.random() < 0.5:  # the right side first
            right = size
            left = left_of(op, value, right)
            if left is None:
                return None, right
            if self._rng.random() < 0.5:
                self.aim(first, left)
                self.aim(second, right_of(op, value, self.value(first) or left) or right)
            else:
                self.aim(second, right)
                self.aim(first, left_of(op, value, self.value(second) or right) or left)
            return left, right
        left = size if op != "-" else size + max(value, 0.0)
        self.aim(first, left)
        found = right_of(op, value, self.value(first) or left)
        if found is not None:
            self.aim(second, found)
        return left, found


def _conditional(node: Node) -> bool:
    """Whether something in *node* can be false."""
    return any(
        is_comparison(n) or (isinstance(n, parser.Call) and n.func.name.startswith("absent"))
        for n in nodes(node)
    )
