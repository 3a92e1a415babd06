"""Reads PromQL into a tree, as far as it can be asked about in parts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import promql_parser as parser

from receiver.policy import promql
from receiver.policy.promql import LEGACY_METRIC, label_name, unquote
from receiver.policy.proof.tree import (
    Aggregation,
    Binary,
    Call,
    Expr,
    Matching,
    Negation,
    Number,
    Selector,
    Shift,
    Subquery,
    Text,
    Tree,
    is_scalar,
)


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


class _Maker:
    """Makes our tree of the parser's, whose literals are placeholders."""

    def __init__(self, literals: Mapping[str, str]) -> None:
        self._literals = literals
        self.selectors: list[Selector] = []

    def node(self, tree: Any) -> Expr:  # noqa: C901, PLR0911  one case a kind
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

    def _aggregation(self, tree: Any) -> Expr:
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

    def _binary(self, tree: Any) -> Expr:
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
