"""What an expression's value is, as far as the values of its series are chosen."""

from __future__ import annotations

import promql_parser as parser

from bench.public_rules.states import NOW, Line
from bench.public_rules.tree import (
    Kind,
    Node,
    Shape,
    apply,
    bare,
    compare,
    is_bool,
    is_comparison,
    is_selector,
    nodes,
    operator,
)


class Known:
    """The values that are chosen, as if each selector had one series or several equal ones."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self.lines: dict[Kind, Line] = {}
        self.many: dict[Kind, int] = {}
        """How many series there are, where it matters."""

    def value(self, node: Node) -> float | None:  # noqa: C901, PLR0911  a case a node
        """The value of *node* by what is chosen already; None: not all is."""
        node = bare(node)
        match node:
            case parser.NumberLiteral():
                return float(node.val)
            case parser.UnaryExpr():
                inner = self.value(node.expr)
                return None if inner is None else -inner
            case parser.VectorSelector():
                line = self.lines.get(self._shape.kind(node))
                return line.start if line else None
            case parser.SubqueryExpr():
                return self.value(node.expr)
            case parser.AggregateExpr():
                return self._aggregated(node)
            case parser.Call():
                return self._called(node)
            case parser.BinaryExpr():
                left, right = self.value(node.lhs), self.value(node.rhs)
                if operator(node) in {"and", "unless", "or"} or (
                    is_comparison(node) and not is_bool(node)
                ):
                    return left
                if left is None or right is None:
                    return None
                if is_comparison(node):
                    return float(compare(operator(node), left, right))
                return apply(operator(node), left, right)
            case _:
                return None

    def _aggregated(self, node: Node) -> float | None:
        below = [self._shape.kind(n) for n in nodes(node.expr) if is_selector(n)]
        many = max((self.many.get(kind, 1) for kind in below), default=1)
        if operator(node) == "count":
            return float(many) if any(kind in self.lines for kind in below) else None
        inner = self.value(node.expr)
        if inner is None:
            return None
        return inner * many if operator(node) == "sum" else inner

    def _called(self, node: Node) -> float | None:  # noqa: PLR0911  a case a function
        name = node.func.name
        if name == "time":
            return NOW
        if name == "timestamp":
            return NOW
        if not node.args:
            return None
        first = node.args[0]
        if isinstance(first, parser.MatrixSelector):
            line = self.lines.get(self._shape.kind(first.vector_selector))
            if line is None:
                return None
            if name in {"rate", "irate", "deriv"}:
                return line.slope
            if name in {"increase", "delta"}:
                return line.slope * float(first.range.total_seconds())
            return line.start
        if name.startswith("absent") or name == "histogram_quantile":
            return None
        return self.value(first)


def left_of(op: str, value: float, right: float) -> float | None:  # noqa: PLR0911  a case an operator
    """Return x of `x op right` = value; None: there is none, or many."""
    match op:
        case "+":
            return value - right
        case "-":
            return value + right
        case "*":
            return value / right if right else None
        case "/":
            return value * right
        case "%":
            return value if value < right else None
        case "^":
            return value ** (1 / right) if right and value > 0 else None
        case _:
            return None


def right_of(op: str, value: float, left: float) -> float | None:
    """Return x of `left op x` = value."""
    match op:
        case "+":
            return value - left
        case "-":
            return left - value
        case "*":
            return value / left if left else None
        case "/":
            return left / value if value else None
        case _:
            return None
