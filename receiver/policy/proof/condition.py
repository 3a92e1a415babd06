"""Which part of an expression is its condition, and which only says when to ask?"""

from __future__ import annotations

from typing import Final

from receiver.policy.proof.flow import COUNTERS
from receiver.policy.proof.tree import (
    Aggregation,
    Binary,
    Call,
    Expr,
    Negation,
    Number,
    Selector,
    walk,
)


def compares(node: Expr) -> bool:
    """Whether it returns less when a condition in it is false; a `bool` always has a value."""
    return any(isinstance(each, Binary) and each.filters for each in walk(node))


def guards(node: Expr, other: Expr) -> bool:
    """Whether *node* only limits when *other* applies: with data, with traffic, in the daytime.

    It is recognised by its form: it compares nothing, or nothing measured; `x > 0` or `x != 0`
    whose metrics all stand on the other side too; a rate against any number.
    """
    if not compares(other):
        return False
    if not compares(node) or not any(isinstance(each, Selector) for each in walk(node)):
        return any(isinstance(each, Selector) for each in walk(other))
    return _form(node, _metrics(other)) and not _form(other, _metrics(node))


def _form(node: Expr, others: frozenset[str]) -> bool:
    if not (isinstance(node, Binary) and node.filters):
        return False
    if isinstance(node.right, Number):
        side, op, number = node.left, node.op, node.right.value
    elif isinstance(node.left, Number):
        side, op, number = node.right, {"<": ">"}.get(node.op, node.op), node.left.value
    else:
        return False
    if number == 0 and op in {">", "!="} and _metrics(side) and _metrics(side) <= others:
        return True
    rates = any(isinstance(each, Call) and each.function in COUNTERS for each in walk(side))
    return rates and op in {">", ">="} and not any(map(_measures, walk(side)))


def _measures(node: Expr) -> bool:
    """Whether a rate in it is more than traffic: a share, a difference, a quantile."""
    match node:
        case Negation():
            return True
        case Binary():
            return node.op in {"/", "-"}
        case Aggregation():
            return node.op == "quantile"
        case Call():
            return node.function in _NO_GUARD
        case _:
            return False


_NO_GUARD: Final = frozenset({"changes", "deriv", "histogram_quantile", "quantile_over_time"})


def _metrics(node: Expr) -> frozenset[str]:
    return frozenset(each.metric for each in walk(node) if isinstance(each, Selector))
