"""What does an answer prove about one alert?

An answer is empty because the condition is *false*, a value is *NaN*, an operand is *missing*, or
*something else filters it*. Only the first is health. So each part of the expression gets a value:

| value | meaning |
| --- | --- |
| present | it has what it needs, and returns something |
| empty | it returns nothing, and that is proven |
| decided | it returns something or nothing; either way it rests on numbers |
| never | it never had data |
| unknown | what it rests on is missing, not a number, or from before the action |

A false operand does not make up for a missing one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from receiver.policy.promql import Sample
from receiver.policy.proof.flow import COUNTERS, Place, below
from receiver.policy.proof.question import (
    MOST_LOST,
    Moment,
    Restricted,
    difference,
    fed,
    fresh,
    here,
    lost,
    numbers,
    returned,
)
from receiver.policy.proof.syntax import (
    CHOOSING,
    Aggregation,
    Binary,
    Call,
    Negation,
    Node,
    Number,
    Selector,
    Text,
    is_scalar,
    show,
    walk,
)


class Kind(StrEnum):
    PRESENT = "present"
    EMPTY = "empty"
    DECIDED = "decided"
    NEVER = "never"
    UNKNOWN = "unknown"


class Value(msgspec.Struct, frozen=True):
    kind: Kind
    why: str = ""
    """For the operator: what is missing. Only for unknown and never."""

    @property
    def is_open(self) -> bool:
        """Nothing can be concluded from it."""
        return self.kind in {Kind.NEVER, Kind.UNKNOWN}


PRESENT: Final = Value(Kind.PRESENT)
EMPTY: Final = Value(Kind.EMPTY)
DECIDED: Final = Value(Kind.DECIDED)


def unknown(why: str) -> Value:
    return Value(Kind.UNKNOWN, why)


class Reading(Protocol):
    """Answers by the text of the part."""

    def number(self, part: str) -> float | None: ...

    def rows(self, part: str) -> tuple[Sample, ...]: ...


class Lost(msgspec.Struct, frozen=True):
    """Series of a selector that fed the alert and have no sample since the action."""

    asked: Restricted
    selector: Selector
    rows: tuple[Sample, ...]
    """How many, by `job` and `instance`."""

    @property
    def key(self) -> str:
        return self.asked.series(self.selector)


Explain = Callable[[Lost], Value | None]
"""What became of series that are lost; None: that was not asked."""


class Judge:
    """Values an expression. Once with a reading that knows nothing, to see what it would read."""

    def __init__(self, moment: Moment, reading: Reading, explain: Explain) -> None:
        self._moment = moment
        self._reading = reading
        self._explain = explain
        self.lost: list[Lost] = []

    def root(self, asked: Restricted) -> Value:
        return self._value(asked, asked.tree.root, asked.outer)

    def _value(self, asked: Restricted, node: Node, place: Place) -> Value:  # noqa: PLR0911
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
                    return _or(left, right)
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
        new = self._reading.number(fresh(asked, node, self._moment)) or 0.0
        once = self._reading.number(fed(asked, node, self._moment)) or 0.0
        rows = self._reading.rows(lost(asked, node, self._moment))
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
            asked.series(each): self._reading.number(fresh(asked, each, self._moment))
            for each in walk(node)
            if isinstance(each, Selector)
        }
        for series, new in there.items():
            if not new:
                return unknown(f"no sample since the action for {cut(series)}")
        return EMPTY

    def _made_of(
        self, asked: Restricted, node: Node, parts: Iterable[Value], place: Place
    ) -> Value:
        value = _worst(parts)
        probe = numbers(asked, node, place.under)
        if probe:
            number = self._reading.number(probe)
            if number is not None and number != number:  # noqa: PLR0124  NaN
                return _no_number(node)
        if isinstance(node, Binary) and self._unpaired(asked, node, place):
            return value if value.is_open else _no_pair(node)
        return value

    def _unpaired(self, asked: Restricted, node: Binary, place: Place) -> bool:
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
        self, asked: Restricted, node: Binary, parts: Iterable[Value], place: Place
    ) -> Value:
        worst = _worst(parts)
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
        self, asked: Restricted, node: Binary, left: Value, right: Value, place: Place
    ) -> Value:
        filtered = ""
        for guard, other in ((node.right, node.left), (node.left, node.right)):
            if place.under or not _guards(guard, other):
                continue
            # Each by itself: what one target's guard lets pass says nothing of another's.
            only = Binary("unless", other, guard, matching=node.matching)
            if self._reading.number(returned(asked, only)):
                filtered = f"still true: {cut(show(other))}; only {cut(show(guard))} ended it"
        unpaired = self._unpaired(asked, node, place)
        worst = _worst((left, right))
        if worst.is_open:
            return worst
        if filtered:
            return unknown(filtered)
        return _no_pair(node) if unpaired else worst

    def _unless(
        self, asked: Restricted, node: Binary, left: Value, right: Value, place: Place
    ) -> Value:
        still = None
        if compares(node.left) and not place.under:
            excluded = Binary("and", node.left, node.right, matching=node.matching)
            still = self._reading.number(returned(asked, excluded))
        stale = ""
        for each in walk(node.right):
            if isinstance(each, Selector) and not asked.places[each.index].pinned:
                new = self._reading.number(fresh(asked, each, self._moment))
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


def chooses(node: Node) -> bool:
    """Whether some of its series can be left out because others rank before them."""
    return any(isinstance(each, Aggregation) and each.op in CHOOSING for each in walk(node))


def _worst(parts: Iterable[Value]) -> Value:
    """The value of what needs all of its parts."""
    found = list(parts)
    for kind in (Kind.UNKNOWN, Kind.NEVER):
        for value in found:
            if value.kind is kind:
                return value
    kinds = {value.kind for value in found}
    if Kind.EMPTY in kinds:
        return EMPTY
    return DECIDED if Kind.DECIDED in kinds else PRESENT


def _or(left: Value, right: Value) -> Value:
    for value in (left, right):
        if value.kind is Kind.UNKNOWN:
            return value
    known = [value for value in (left, right) if value.kind is not Kind.NEVER]
    if not known:
        return left
    kinds = {value.kind for value in known}
    if kinds == {Kind.EMPTY}:
        return EMPTY
    return DECIDED if Kind.DECIDED in kinds else PRESENT


def compares(node: Node) -> bool:
    """Whether it returns less when a condition in it is false; a `bool` always has a value."""
    return any(isinstance(each, Binary) and each.filters for each in walk(node))


def _no_pair(node: Node) -> Value:
    return unknown(f"no value to compare: {cut(show(node))}")


def _no_number(node: Node) -> Value:
    return unknown(f"not a number: {cut(show(node))} (no traffic? give a `verify.query`)")


def _guards(node: Node, other: Node) -> bool:
    """Whether *node* only says when *other* is asked: with data, with traffic, in the daytime.

    Recognised by its form: it compares nothing, or nothing that is measured; `x > 0` or `x != 0`
    whose metrics all stand on the other side too; a rate against any number.
    """
    if not compares(other):
        return False
    if not compares(node) or not any(isinstance(each, Selector) for each in walk(node)):
        return any(isinstance(each, Selector) for each in walk(other))
    return _form(node, _metrics(other)) and not _form(other, _metrics(node))


def _form(node: Node, others: frozenset[str]) -> bool:
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


def _measures(node: Node) -> bool:
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


def _metrics(node: Node) -> frozenset[str]:
    return frozenset(each.metric for each in walk(node) if isinstance(each, Selector))


def cut(text: str) -> str:
    """Return the beginning of a text for an operator."""
    return text if len(text) <= 200 else text[:200] + "…"
