"""What may come after an action, and what is true of each: known, since we made it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec
import promql_parser as parser

from bench.public_rules.finding import Case
from bench.public_rules.series import (
    PODS,
    STEP,
    A,
    B,
    C,
    D,
    E,
    Labels,
    Phases,
    labelled,
    objects_of,
)
from bench.public_rules.states import Line, State
from bench.public_rules.tree import Kind, children, operator

Values: TypeAlias = tuple[float | None, float | None, float | None]
"""Well, before the action, after it; None: none."""


class Fact(StrEnum):
    ILL = "ill"  # cleared would be wrong
    HEALED = "healed"  # firing would be wrong
    UNTOLD = "untold"  # the data does not say: cleared would be wrong
    ASK = "ask"  # cleared is right only when each condition is a number, and false


class History(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    fact: Fact
    targets: dict[int, Phases]
    up: dict[int, Values] = {}
    """`up` of each target: well, before, after."""
    look: float
    """Seconds after the action at which the last look is."""
    restarted: bool = False
    """Counters begin anew after the action."""


TITLES: Final = {
    "ill": "still ill",
    "well": "well",
    "well, up": "well, with `up` and a well sibling",
    "dead": "target dead",
    "dead, sibling": "target dead, healthy sibling",
    "missing, well": "one series missing, the others well",
    "missing, ill": "one series missing, the others ill",
    "counters": "counters stand still",
    "NaN": "condition NaN",
    "up: dead": "`up` is 0, sibling lives",
    "up: silent": "`up` is 1, but silent, sibling lives",
    "up: left": "left discovery, sibling lives",
    "replaced, ill": "replaced, successor ill",
    "replaced, well": "replaced, successor well",
    "pod, ill": "another pod, same exporter, ill",
    "pod, well": "another pod, same exporter, well",
    "restarted": "well, counters begin anew",
    "a third": "well for a third of the window",
    "ended": "holds, only a guard or exclusion ended it",
}


def histories(case: Case) -> Iterator[History]:
    """Yield all that can be told with the states that were found of *case*."""
    ill, length = case.ill, case.length
    assert ill is not None
    well = case.wells[0] if case.wells else None

    def one(name: str, fact: Fact, after: State | None) -> History:
        return History(name=name, fact=fact, targets={A: (None, ill, after)}, look=length)

    yield one("ill", Fact.ILL, ill)
    for state in case.wells:
        yield one("well", Fact.HEALED, state)
    yield one("dead", Fact.UNTOLD, None)
    for kind in fed_by(case):
        if len(case.shape.kinds) > 1 or len(ill.get(kind, ())) > 1:
            yield one("missing, ill", Fact.UNTOLD, without(case, ill, kind))
            if well is not None and kind in well:
                # Nothing new is to appear that could have taken its place.
                old = {k: lines[: len(ill.get(k, ()))] for k, lines in well.items()}
                yield one("missing, well", Fact.UNTOLD, without(case, old, kind))
    if any(kind.counter or kind.buckets for kind in ill):
        yield one("counters", Fact.ASK, {k: _still(k, lines) for k, lines in ill.items()})
    yield one("NaN", Fact.ASK, {k: tuple(_nan(k) for _ in lines) for k, lines in ill.items()})
    if case.ended is not None:
        yield one("ended", Fact.ILL, case.ended)
    if well is not None:
        yield from _with_others(case, well)


def _with_others(case: Case, well: State) -> Iterator[History]:
    """Those with a healthy sibling or a successor, and with the time that healing takes."""
    ill, length = case.ill, case.length
    uses_up = any(kind.name == "up" for kind in case.shape.kinds)

    def one(
        name: str, fact: Fact, targets: dict[int, Phases], up: dict[int, Values] | None = None
    ) -> History:
        return History(name=name, fact=fact, look=length, targets=targets, up=up or {})

    third = case.shape.reach / 3
    if third >= 2 * STEP:
        healing = one("a third", Fact.HEALED, {A: (None, ill, well)})
        yield msgspec.structs.replace(healing, look=third)
    if any(kind.counter or kind.buckets for kind in well):
        again = one("restarted", Fact.HEALED, {A: (None, ill, well)})
        yield msgspec.structs.replace(again, restarted=True)
    dead: Phases = (None, ill, None)
    yield one("dead, sibling", Fact.UNTOLD, {A: dead, B: (None, well, well)})
    if uses_up:
        return
    always: Values = (1.0, 1.0, 1.0)
    targets: dict[int, Phases]
    for name, after in (("up: dead", 0.0), ("up: silent", 1.0), ("up: left", None)):
        targets = {A: (well, ill, None), B: (well, well, well)}
        yield one(name, Fact.UNTOLD, targets, {A: (1.0, 1.0, after), B: always})
    targets = {A: (well, ill, well), B: (well, well, well)}
    yield one("well, up", Fact.HEALED, targets, {A: always, B: always})
    assert case.names is not None
    objects = objects_of(case.shape)
    # Of other objects, the pod in their labels is the exporter's.
    pods = objects <= {"pod"} and any(label in case.names.values for label in PODS[:3])
    for name, fact, state in (("ill", Fact.ILL, ill), ("well", Fact.HEALED, well)):
        # A StatefulSet's pod keeps its name, and so do the objects that an exporter tells of.
        for new in (D,) if objects else (C, D) if pods else (C,):
            targets = {A: (well, ill, None), new: (None, None, state)}
            up: dict[int, Values] = {A: (1.0, 1.0, None), new: (None, None, 1.0)}
            yield one(f"replaced, {name}", fact, targets, up)
        if pods:
            targets = {A: (well, ill, None), E: (None, None, state)}
            yield one(f"pod, {name}", fact, targets, {A: always})


def ups(
    case: Case, history: History, *, action: float
) -> Iterator[tuple[Labels, list[tuple[float, float]]]]:
    """Yield the series `up` of the targets of *history*."""
    assert case.names is not None
    for target, values in history.up.items():
        found = set()
        for kind in case.shape.kinds:
            many = max((len(s.get(kind, ())) for s in history.targets[target] if s), default=0)
            for number in range(many):
                labels = dict(labelled(kind, case.names, target, number))
                found.add(tuple((k, labels[k]) for k in ("instance", "job") if k in labels))
        for pair in sorted(found):
            points = []
            for index, value in enumerate(values):
                start = action + (index - 2) * case.length
                if value is not None:
                    count = int(case.length // (4 * STEP))
                    points += [(start + 4 * STEP * (k + 1), value) for k in range(count)]
                    points += [
                        (start + case.length - STEP * k, value) for k in range(min(12, 4 * count))
                    ]
            yield (("__name__", "up"), *pair), sorted(set(points))


def fed_by(case: Case) -> list[Kind]:
    """Kinds of series that feed the alert, and whose absence leaves its condition untold."""
    exempt: set[str] = set()
    needed: set[str] = set()

    def walk(node: object, free: bool) -> None:
        if isinstance(node, parser.VectorSelector):
            (exempt if free else needed).add(case.shape.kind(node).text)
            return
        absent = isinstance(node, parser.Call) and node.func.name.startswith("absent")
        for index, child in enumerate(children(node)):
            beside = operator(node) == "unless" and index == 1
            walk(child, free or absent or beside)

    walk(case.shape.root, False)
    assert case.ill is not None
    assert case.names is not None
    found = []
    for kind in case.shape.kinds:
        labels = dict(labelled(kind, case.names, A, 0))
        # Of another node, of another code: then it is another alert that it feeds.
        same = all(labels.get(k, v) == v for k, v in case.alert.items())
        if kind in case.ill and kind.text in needed - exempt and same:
            found.append(kind)
    return found


def changed(case: Case, state: State, kind: Kind, number: int, line: Line | None) -> State:
    """*state* with another line for a series, by whichever selectors it is read."""
    assert case.names is not None
    labels = labelled(kind, case.names, A, number)
    return {
        other: tuple(
            line if labelled(other, case.names, A, n) == labels else own
            for n, own in enumerate(lines)
        )
        for other, lines in state.items()
    }


def without(case: Case, state: State, kind: Kind, number: int = 0) -> State:
    """*state* without a series of *kind*."""
    return changed(case, state, kind, number, None)


def _still(kind: Kind, lines: tuple[Line | None, ...]) -> tuple[Line | None, ...]:
    if kind.buckets:
        return tuple(
            msgspec.structs.replace(line, quantile=math.nan) for line in lines if line is not None
        )
    if kind.counter:
        return tuple(
            msgspec.structs.replace(line, slope=0.0, wave=0.0) for line in lines if line is not None
        )
    return lines


def _nan(kind: Kind) -> Line:
    return Line(math.nan) if not kind.buckets else Line(math.nan, slope=math.nan)
