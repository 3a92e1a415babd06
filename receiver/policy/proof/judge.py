"""What does an answer prove about one alert?

An answer is empty because the condition is *false*, a value is *NaN*, an operand is *missing*, or
*something else filters it*. Only the first is health. So each part of the expression gets a value
(value.py), and a false operand does not make up for a missing one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from receiver.policy.promql import Sample
from receiver.policy.proof.condition import compares, guards
from receiver.policy.proof.flow import below
from receiver.policy.proof.lost import Lost
from receiver.policy.proof.placement import Placement
from receiver.policy.proof.question import (
    MOST_LOST,
    Timing,
    difference,
    fed,
    fresh,
    here,
    lost,
    numbers,
    returned,
)
from receiver.policy.proof.restricted import Restricted
from receiver.policy.proof.tree import (
    Binary,
    Call,
    Expr,
    Number,
    Selector,
    Text,
    is_scalar,
    show,
    walk,
)
from receiver.policy.proof.value import (
    DECIDED,
    EMPTY,
    PRESENT,
    Kind,
    Value,
    cut,
    either,
    unknown,
    weakest,
)


class PartReader(Protocol):
    """The answers to parts, by their text."""

    def number(self, part: str) -> float | None: ...

    def rows(self, part: str) -> tuple[Sample, ...]: ...


Explain = Callable[[Lost], Value | None]
"""Explains series that are lost; None: that was not asked."""


class Judge:
    """Gives every part of an expression its value.

    A first pass, with a reader that only records, finds what it reads.
    """

    def __init__(self, timing: Timing, reading: PartReader, explain: Explain) -> None:
        self._timing = timing
        self._reading = reading
        self._explain = explain
        self.lost: list[Lost] = []

    def root(self, asked: Restricted) -> Value:
        return self._value(asked, asked.tree.root, asked.outer)

    def _value(self, asked: Restricted, node: Expr, place: Placement) -> Value:  # noqa: PLR0911
        match node:
            case Number() | Text():
                return PRESENT
            case Selector():
                return self._selector(asked, node)
            case Call() if node.function.startswith("absent"):
                return self._absent(asked, node)
            case Binary() if node.op in {"and", "or", "unless"}:
                left, right = (self._value(asked, *each) for each in below(node, place))
                if node.op == "and":
                    return self._and(asked, node, left, right, place)
                if node.op == "or":
                    return either(left, right)
                return self._unless(asked, node, left, right, place)
            case Binary() if node.compares:
                parts = [self._value(asked, *each) for each in below(node, place)]
                return self._comparison(asked, node, parts, place)
            case _:
                parts = [self._value(asked, *each) for each in below(node, place)]
                return self._made_of(asked, node, parts, place)

    def _selector(self, asked: Restricted, node: Selector) -> Value:
        own = self._plain(asked, node)
        recorded = [self.root(each) for each in asked.recorded.get(node.index, ())]
        for value in recorded:
            if value.kind is Kind.UNKNOWN:
                return value
        makes = [
            self._reading.number(returned(each, each.tree.root))
            for each in asked.recorded.get(node.index, ())
        ]
        kinds = {value.kind for value in recorded} - {Kind.NEVER}
        if own.is_open and kinds and kinds <= {Kind.EMPTY, Kind.DECIDED} and not any(makes):
            return EMPTY  # nothing is recorded, since there is nothing to record
        return own

    def _plain(self, asked: Restricted, node: Selector) -> Value:
        if asked.places[node.index].pinned:
            return PRESENT
        new = self._reading.number(fresh(asked, node, self._timing)) or 0.0
        once = self._reading.number(fed(asked, node, self._timing)) or 0.0
        rows = self._reading.rows(lost(asked, node, self._timing))
        if rows:
            return self._of_lost(Lost(asked, node, rows), new)
        if new:
            return PRESENT
        text = cut(asked.series(node))
        if not once:
            return Value(Kind.NEVER, f"there never was data for {text}")
        return unknown(f"no sample since the action for {text}")

    def _of_lost(self, those: Lost, new: float) -> Value:
        self.lost.append(those)
        if len(those.rows) > MOST_LOST:
            return unknown(f"more than {MOST_LOST} targets have no sample since the action")
        explained = self._explain(those)
        if explained is None:
            number = round(sum(row.value for row in those.rows))
            return unknown(
                f"{number} series that fed the alert {'has' if number == 1 else 'have'} no sample "
                f"since the action: {cut(those.key)}"
            )
        if explained.kind is Kind.EMPTY and new:
            return PRESENT
        return explained

    def _absent(self, asked: Restricted, node: Call) -> Value:
        """`absent` returns nothing when there is something: that must be there."""
        there = {
            asked.series(each): self._reading.number(fresh(asked, each, self._timing))
            for each in walk(node)
            if isinstance(each, Selector)
        }
        for series, new in there.items():
            if not new:
                return unknown(f"no sample since the action for {cut(series)}")
        return EMPTY

    def _made_of(
        self, asked: Restricted, node: Expr, parts: Iterable[Value], place: Placement
    ) -> Value:
        value = weakest(parts)
        probe = numbers(asked, node, place.under)
        if probe:
            number = self._reading.number(probe)
            if number is not None and number != number:  # noqa: PLR0124  NaN
                return _no_number(node)
        if isinstance(node, Binary) and self._unpaired(asked, node, place):
            return value if value.is_open else _no_pair(node)
        return value

    def _unpaired(self, asked: Restricted, node: Binary, place: Placement) -> bool:
        """Whether both sides return something and the operator nothing: the labels do not match."""
        vectors = not is_scalar(node.left) and not is_scalar(node.right)
        if place.under or place.grouped or not vectors:
            return False
        if not (compares(node.left) or compares(node.right)):
            return False
        sides = [self._reading.number(returned(asked, each)) for each in node.parts]
        op = node.op if node.op == "and" else "-"
        joined = Binary(op, node.left, node.right, matching=node.matching)
        return not self._reading.number(returned(asked, joined)) and all(sides)

    def _comparison(
        self, asked: Restricted, node: Binary, parts: Iterable[Value], place: Placement
    ) -> Value:
        worst = weakest(parts)
        number = self._reading.number(difference(asked, node, place.under))
        unpaired = self._unpaired(asked, node, place)
        if worst.is_open:
            return worst
        if number is None:
            if worst.kind is Kind.PRESENT or unpaired:
                return _no_pair(node)
            value = EMPTY
        elif number != number:  # noqa: PLR0124  NaN
            return _no_number(node)
        else:
            value = DECIDED
        return PRESENT if node.bool_ else value

    def _and(
        self, asked: Restricted, node: Binary, left: Value, right: Value, place: Placement
    ) -> Value:
        filtered = ""
        for guard, other in ((node.right, node.left), (node.left, node.right)):
            if place.under or not guards(guard, other):
                continue
            # Each by itself: what one target's guard lets pass says nothing of another's.
            only = Binary("unless", other, guard, matching=node.matching)
            if self._reading.number(returned(asked, only)):
                filtered = f"still true: {cut(show(other))}; only {cut(show(guard))} ended it"
        unpaired = self._unpaired(asked, node, place)
        worst = weakest((left, right))
        if worst.is_open:
            return worst
        if filtered:
            return unknown(filtered)
        return _no_pair(node) if unpaired else worst

    def _unless(
        self, asked: Restricted, node: Binary, left: Value, right: Value, place: Placement
    ) -> Value:
        still = None
        if compares(node.left) and not place.under:
            excluded = Binary("and", node.left, node.right, matching=node.matching)
            still = self._reading.number(returned(asked, excluded))
        stale = ""
        for each in walk(node.right):
            if isinstance(each, Selector) and not asked.places[each.index].pinned:
                new = self._reading.number(fresh(asked, each, self._timing))
                if self._reading.number(here(asked, each)) and not new:
                    stale = cut(asked.series(each))
        if left.is_open:
            return left
        if still:
            return unknown(f"still true: {cut(show(node.left))}; only what stands right of "
                           "`unless` ended it")  # fmt: skip
        if stale:
            return unknown(f"no sample since the action for {stale}")
        if right.kind is Kind.UNKNOWN and not compares(node.left):
            return right  # where the left is no condition, the right is: NaN != 0 is true
        return DECIDED if left.kind is Kind.PRESENT else left


def _no_pair(node: Expr) -> Value:
    return unknown(f"no value to compare: {cut(show(node))}")


def _no_number(node: Expr) -> Value:
    return unknown(f"not a number: {cut(show(node))} (no traffic? give a `verify.query`)")
