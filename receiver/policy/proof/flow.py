"""Where does each selector of an expression stand? From the result down, one operator at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from receiver.policy.proof.placement import ALL, OUTERMOST, Flow, Placement, Rewritten
from receiver.policy.proof.tree import (
    CHOOSING,
    Aggregation,
    Binary,
    Call,
    Expr,
    Negation,
    Number,
    Selector,
    Subquery,
    Text,
)

COUNTERS: Final = frozenset({"increase", "irate", "rate"})
_RISING: Final = frozenset({
    "avg_over_time", "ceil", "clamp", "clamp_max", "clamp_min", "count_over_time", "delta", "deriv",
    "exp", "floor", "idelta", "increase", "irate", "label_join", "label_replace", "last_over_time",
    "ln", "log10", "log2", "max_over_time", "min_over_time", "quantile_over_time", "rate", "round",
    "scalar", "sort", "sort_by_label", "sort_by_label_desc", "sort_desc", "sqrt", "sum_over_time",
    "vector",
})  # fmt: skip
"""Functions whose value never falls when their argument rises."""
_RISING_AGGREGATIONS: Final = frozenset({
    "avg", "bottomk", "count", "max", "min", "quantile", "sum", "topk",
})  # fmt: skip
_NOTHING: Final[frozenset[str]] = frozenset()


def places(root: Expr, outer: Placement = OUTERMOST) -> dict[int, Placement]:
    """Return the place of each selector below *root*, by its index."""
    return dict(_below(root, outer))


def below(node: Expr, place: Placement) -> Iterator[tuple[Expr, Placement]]:
    """Yield the parts of *node*, which stands at *place*, each with its own place."""
    match node:
        case Subquery():
            yield node.expr, _within(node, place)
        case Negation():
            yield node.expr, place.signed(-1)
        case Aggregation():
            yield from _aggregation(node, place)
        case Binary():
            yield from _operation(node, place)
        case Call():
            yield from _call(node, place)
        case _:
            return


def shifted(node: Selector | Subquery, place: Placement) -> Placement:
    """Return *place* as seen from a selector with an offset, or from inside such a subquery."""
    shift = node.shift
    if not shift.at:
        return msgspec.structs.replace(place, offset=place.offset + shift.offset)
    pinned = place.pinned or shift.pinned
    return msgspec.structs.replace(
        place, offset=shift.offset, pinned=pinned, optional=place.optional or pinned
    )


def _below(node: Expr, place: Placement) -> Iterator[tuple[int, Placement]]:
    if isinstance(node, Selector):
        yield node.index, shifted(node, place)
    for part, inner in below(node, place):
        yield from _below(part, inner)


def _within(node: Subquery, place: Placement) -> Placement:
    inner = shifted(node, place)
    return msgspec.structs.replace(inner, under=(*place.under, node))


def _aggregation(node: Aggregation, place: Placement) -> Iterator[tuple[Expr, Placement]]:
    if node.param is not None:
        yield node.param, place.through(ALL.keep(_NOTHING)).signed(0)
    through = ALL
    if node.op == "count_values" and isinstance(node.param, Text):
        through = through.drop((node.param.value,))
    if node.op not in CHOOSING:
        if node.by is not None:
            through = through.keep(node.by)
        elif node.without is not None:
            through = through.drop(node.without)
        else:
            through = through.keep(_NOTHING)
    inner = place.through(through).signed(1 if node.op in _RISING_AGGREGATIONS else 0)
    yield (
        node.expr,
        msgspec.structs.replace(
            inner, summed=node.op == "sum", grouped=place.grouped or node.op not in CHOOSING
        ),
    )


def _operation(node: Binary, place: Placement) -> Iterator[tuple[Expr, Placement]]:
    left, right = _sides(node)
    one, other = place.through(left), place.through(right)
    one = msgspec.structs.replace(one, summed=False)
    other = msgspec.structs.replace(other, summed=False)
    match node.op:
        case ">" | ">=":
            signs = 1, -1
        case "<" | "<=":
            signs = -1, 1
        case "+" | "and" | "or":
            signs = 1, 1
        case "-" | "unless":
            signs = 1, -1
        case "*":
            signs = _factor(node.right), _factor(node.left)
        case "/":
            divisor = (node.right, place.under)
            one = msgspec.structs.replace(one, divisors=(*one.divisors, divisor))
            signs = _factor(node.right), -1
        case _:
            signs = 0, 0
    if node.op == "unless":
        other = msgspec.structs.replace(other, optional=True)
    if node.op == "or":
        one = msgspec.structs.replace(one, branch=True)
        other = msgspec.structs.replace(other, branch=True)
    yield node.left, one.signed(signs[0])
    yield node.right, other.signed(signs[1])


def _factor(node: Expr) -> int:
    """What multiplying by *node* does to a sign; what is no number is taken for positive."""
    if isinstance(node, Negation):
        return -_factor(node.expr)
    return -1 if isinstance(node, Number) and node.value < 0 else 1


def _sides(node: Binary) -> tuple[Flow, Flow]:
    """Return which labels of the result can be from the left side, and which from the right.

    Source: prometheus/prometheus, promql/engine.go, resultMetric and the set operators.
    """
    matching = node.matching
    if matching is None or node.op == "or":
        return ALL, ALL
    if matching.on:
        one = ALL.keep((*matching.labels, *matching.brought))
    else:
        one = ALL.drop(set(matching.labels) - set(matching.brought))
    many = ALL.drop(matching.brought)
    if node.op in {"and", "unless"}:  # the left side's labels stand
        return ALL, one
    match matching.group:
        case "group_left":
            return many, one
        case "group_right":
            return one, many
        case _:
            return one, one


def _call(node: Call, place: Placement) -> Iterator[tuple[Expr, Placement]]:
    name = node.function
    inner = place.signed(1 if name in _RISING else 0)
    inner = msgspec.structs.replace(inner, counter=place.counter or name in COUNTERS)
    if name.startswith("absent"):
        inner = msgspec.structs.replace(inner, optional=True)
    if name == "scalar" or name.startswith("absent"):
        inner = inner.through(ALL.keep(_NOTHING))
    elif name == "label_replace" and len(node.arguments) == 5:
        inner = _replaced(node, inner)
    elif name == "label_join" and len(node.arguments) > 1:
        made, *sources = (each.value for each in node.arguments if isinstance(each, Text))
        inner = inner.making(made, sources[1:])  # the first is what stands between them
    for argument in node.arguments:
        yield argument, inner


def _replaced(node: Call, place: Placement) -> Placement:
    _, made, replacement, source, regex = node.arguments
    assert isinstance(made, Text)
    assert isinstance(replacement, Text)
    assert isinstance(source, Text)
    assert isinstance(regex, Text)
    inner = place.making(made.value, (source.value,))
    if made.value not in place.flow or replacement.value not in {"$1", "${1}"}:
        return inner
    parts = _only_group(regex.value)
    # A series that the expression does not match keeps the label that it has: that is the same
    # label only where source and target are one, and else none as long as every value matches.
    if parts is None or (source.value != made.value and regex.value not in {"(.*)", "(.+)"}):
        return inner
    rewritten = Rewritten(made.value, source.value, *parts)
    return msgspec.structs.replace(inner, rewritten=(*inner.rewritten, rewritten))


def _only_group(regex: str) -> tuple[str, str, str] | None:
    """Split a regular expression around its only capturing group, where that always takes part."""
    groups: list[tuple[int, int, int]] = []
    opened: list[tuple[int, bool]] = []
    for match in _PIECE.finditer(regex):
        piece, at = match[0], match.start()
        if piece.startswith("("):
            opened.append((at, piece == "("))
        elif piece == ")" and opened:
            start, captures = opened.pop()
            if captures:
                groups.append((start, at, len(opened)))
        elif piece == "|" and not opened:
            return None
    if len(groups) != 1 or groups[0][2] or "\\Q" in regex:
        return None
    start, end, _ = groups[0]
    before, group, after = regex[:start], regex[start + 1 : end], regex[end + 1 :]
    return None if after[:1] in tuple("*+?{") else (before, group, after)


_PIECE: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?[^:)]*:|\(|\)|\|", re.DOTALL)
"""An escape, a character class, or what opens, ends and divides groups."""
