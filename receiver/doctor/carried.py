"""From which series may the result of an expression have a label? For alerts carry what it has.

Source: prometheus/prometheus, promql/engine.go (aggregation, resultMetric of binary operators) and
promql/functions.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from receiver.policy.proof.tree import (
    CHOOSING,
    Aggregation,
    Binary,
    Call,
    Expr,
    Selector,
    Text,
    is_scalar,
    walk,
)

MADE: Final = ""
"""The expression itself makes it."""

_MAKERS: Final = frozenset({"label_join", "label_replace"})
_ABSENT: Final = frozenset({"absent", "absent_over_time"})


def origins(node: Expr, name: str) -> Iterator[str]:
    """Yield the selectors, or MADE, of which the result may have the label *name*.

    Nothing when its series never have it, whatever is measured.
    """
    match node:
        case Selector():
            yield node.plain()
        case Aggregation():
            yield from _aggregated(node, name)
        case Binary():
            for side in _sides(node, name):
                yield from origins(side, name)
        case Call():
            yield from _called(node, name)
        case _:
            for part in node.parts:
                yield from origins(part, name)


def named(root: Expr) -> Iterator[str]:
    """Yield the labels that the expression itself speaks of, kept or not."""
    for node in walk(root):
        match node:
            case Aggregation():
                yield from node.by or ()
            case Binary():
                yield from () if node.matching is None else node.matching.labels
                yield from () if node.matching is None else node.matching.brought
            case Selector():
                yield from node.equal
            case Text():
                yield node.value
            case _:
                pass


def _aggregated(node: Aggregation, name: str) -> Iterator[str]:
    if node.op == "count_values" and isinstance(node.param, Text) and node.param.value == name:
        yield MADE
    kept = node.op in CHOOSING
    if node.by is not None:
        kept = kept or name in node.by
    elif node.without is not None:
        kept = kept or name not in node.without
    if kept:
        yield from origins(node.expr, name)


def _sides(node: Binary, name: str) -> Iterator[Expr]:
    if is_scalar(node.left) or is_scalar(node.right):
        yield node.right if is_scalar(node.left) else node.left
        return
    if node.op == "or":
        yield from node.parts
        return
    many, one = node.left, node.right
    matching = node.matching
    if matching is None or node.op in {"and", "unless"}:
        yield many
        return
    if matching.group == "group_right":
        many, one = one, many
    if matching.group:
        yield one if name in matching.brought else many
    elif (name in matching.labels) == matching.on:
        yield many


def _called(node: Call, name: str) -> Iterator[str]:
    function, arguments = node.function, node.arguments
    if function in _MAKERS and isinstance(arguments[1], Text) and arguments[1].value == name:
        yield MADE
    if function in _ABSENT:
        if any(isinstance(one, Selector) and name in one.equal for one in arguments):
            yield MADE
        return
    if function == "vector" or is_scalar(node):
        return
    for argument in arguments:
        yield from origins(argument, name)
