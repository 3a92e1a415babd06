"""Why is an answer empty? Node by node, asked of Prometheus; none of promheal's code is used.

An expression that returns nothing is *false* when each comparison that decides had numbers on both
sides. Else something was no number, missing, or only a guard or an exclusion ended it.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

import msgspec
import promql_parser as parser

from bench.public_rules.server import Asker
from bench.public_rules.tree import (
    PICKING,
    Node,
    Shape,
    bare,
    children,
    constant,
    is_bool,
    is_comparison,
    is_guard,
    nodes,
    operator,
)

MARK: Final = "__asked__"
_HIDING: Final = frozenset({"max", "min", "quantile"}) | PICKING


class Is(StrEnum):
    SOME = "some"  # it returns something, or would
    FALSE = "false"  # a condition on numbers is false
    NAN = "nan"
    MISSING = "missing"
    ENDED = "ended"  # the condition holds, and something beside it filters it


class Truth(msgspec.Struct, frozen=True):
    why: Is
    returned: tuple[dict[str, str], ...]
    """Labels of what the expression returns."""
    error: str = ""

    @property
    def fires(self) -> bool:
        return bool(self.returned)

    @property
    def well(self) -> bool:
        return not self.returned and self.why is Is.FALSE and not self.error


class Question:
    """The one query that tells it, and how its answer is read."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._number = {id(node): n for n, node in enumerate(nodes(shape.root))}
        parts = [f'label_replace({shape.text}\n, "{MARK}", "root", "", "")']
        for node in nodes(shape.root):
            for mark, query in self._probes(node):
                parts.append(f'label_replace({query}, "{MARK}", "{mark}", "", "")')
        self.query = "\nor ".join(dict.fromkeys(parts))

    def _probes(self, node: Node) -> list[tuple[str, str]]:
        number = self._number[id(node)]
        if isinstance(node, parser.VectorSelector):
            return [(f"s{number}", f"count({_text(node)})")]
        if isinstance(node, parser.MatrixSelector):
            return [(f"m{number}", f"count(count_over_time({_text(node)}))")]
        if is_comparison(node) and _vector(node):
            left, right = _text(node.lhs), _text(node.rhs)
            how = _matching(node)
            return [
                (f"d{number}", f"sum(({left}) - {how} ({right}))"),
                (f"c{number}", f"count(({left}) {operator(node)} {how} ({right}))"),
            ]
        if operator(node) in _HIDING and isinstance(node, parser.AggregateExpr):
            return [(f"h{number}", f"sum({_text(node.expr)})")]
        return []

    def ask(self, asker: Asker, at: float) -> Truth:
        try:
            answer = asker.ask(self.query, at)
        except ValueError as error:
            return Truth(Is.MISSING, (), str(error)[:200])
        found: dict[str, float] = {}
        returned = []
        for labels, value in answer:
            mark = labels.pop(MARK, "root")
            if mark == "root":
                returned.append(labels)
            else:
                found[mark] = value
        returned.sort(key=lambda labels: sorted(labels.items()))
        return Truth(self._status(self._shape.root, found), tuple(returned))

    def _status(self, node: Node, found: dict[str, float]) -> Is:  # noqa: PLR0911  a case a node
        node = bare(node)
        number = self._number[id(node)]
        match node:
            case parser.VectorSelector():
                return Is.SOME if f"s{number}" in found else Is.MISSING
            case parser.MatrixSelector():
                return Is.SOME if f"m{number}" in found else Is.MISSING
            case parser.Call() if node.func.name.startswith("absent"):
                inner = self._status(node.args[0], found)
                return Is.FALSE if inner is Is.SOME else Is.SOME
            case parser.BinaryExpr() if operator(node) in {"and", "or", "unless"}:
                return self._set_status(node, found)
            case parser.BinaryExpr() if is_comparison(node) and _vector(node):
                parts = self._parts(node, found)
                if parts in {Is.NAN, Is.MISSING, Is.ENDED}:
                    return parts
                difference = found.get(f"d{number}")
                if difference is None:
                    return Is.FALSE if parts is Is.FALSE else Is.MISSING
                if math.isnan(difference):
                    return Is.NAN
                return Is.SOME if f"c{number}" in found or is_bool(node) else Is.FALSE
            case _:
                if math.isnan(found.get(f"h{number}", 0.0)):
                    return Is.NAN
                return self._parts(node, found)

    def _parts(self, node: Node, found: dict[str, float]) -> Is:
        inner = {self._status(child, found) for child in children(node)}
        order = (Is.NAN, Is.MISSING, Is.ENDED, Is.FALSE)
        return next((each for each in order if each in inner), Is.SOME)

    def _set_status(  # noqa: C901, PLR0911  a row a state
        self, node: Node, found: dict[str, float]
    ) -> Is:
        left, right = self._status(node.lhs, found), self._status(node.rhs, found)
        match operator(node):
            case "or":
                if Is.SOME in {left, right}:
                    return Is.SOME
                if left is Is.MISSING:
                    return right
                if right is Is.MISSING:
                    return left
                return next((s for s in (Is.NAN, Is.ENDED) if s in {left, right}), Is.FALSE)
            case "unless":
                if left is not Is.SOME or right is not Is.SOME:
                    return left
                # Of what is no condition, the exclusion is the condition.
                return Is.ENDED if any(is_comparison(n) for n in nodes(node.lhs)) else Is.FALSE
            case _:
                for one in (Is.NAN, Is.MISSING, Is.ENDED):
                    if one in {left, right}:
                        return one
                if left is Is.FALSE and right is Is.SOME and self._guard(node.lhs, node.rhs):
                    return Is.ENDED
                if right is Is.FALSE and left is Is.SOME and self._guard(node.rhs, node.lhs):
                    return Is.ENDED
                return Is.FALSE if Is.FALSE in {left, right} else Is.SOME

    def _guard(self, node: Node, other: Node) -> bool:
        return is_guard(self._shape, node, other)


def _vector(node: Node) -> bool:
    """Whether data has a say in a comparison."""
    return (
        any(isinstance(n, parser.VectorSelector | parser.Call) for n in nodes(node))
        and constant(node) is None
    )


def _matching(node: Node) -> str:
    modifier = node.modifier
    if modifier is None or modifier.matching is None:
        return ""
    kind = modifier.matching.type == parser.LabelModifierType.Include
    text = f"{'on' if kind else 'ignoring'} ({', '.join(modifier.matching.labels)})"
    grouped = f" ({', '.join(modifier.group_labels or [])})"
    if modifier.card == parser.VectorMatchCardinality.ManyToOne:
        return f"{text} group_left{grouped}"
    if modifier.card == parser.VectorMatchCardinality.OneToMany:
        return f"{text} group_right{grouped}"
    return text


def _text(node: Node) -> str:
    return str(node.prettify())
