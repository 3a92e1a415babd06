"""From kinds of series and how they run to labels and samples."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import Final, TypeAlias

import msgspec

from bench.public_rules.states import NOW, Line, State
from bench.public_rules.tree import Kind, Shape

STEP: Final = 15.0
"""Seconds between two samples, near where somebody looks."""
DENSE: Final = 40
"""Samples at that distance."""
COARSE: Final = 240.0
"""Seconds between two samples further away: less than Prometheus looks back."""
BOUNDS: Final = tuple(f * 10.0**e for e in range(-4, 7) for f in (1, 2, 5))
"""Upper bounds of buckets."""

PODS: Final = ("pod", "pod_name", "container_id", "pod_ip", "uid", "id")
"""Labels that are another's when a pod is replaced."""
A, B, C, D, E = range(5)
"""The target that is ill, a healthy sibling, and what takes the place of the first: another target
with other pods; only another exporter that tells of the same; another pod, told of by the same."""
INSTANCES: Final = ("a:1", "b:1", "c:1", "d:1", "a:1")

_OBJECT: Final = re.compile(r"kube_([a-z]+)_")
"""What kube-state-metrics tells of, each with a label of that name."""

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""With `__name__`, in order."""
Phases: TypeAlias = tuple[State | None, State | None, State | None]
"""Well, before the action, after it; None: no series."""


class Naming(msgspec.Struct, frozen=True):
    """Which values the labels of a rule's series have: they must meet where it joins them."""

    values: Mapping[str, str]
    spread: str
    """What tells several series of one kind apart."""
    own: Mapping[str, Mapping[str, str]] = {}
    """Values that only the series of one selector have, by its text."""


def naming(shape: Shape, rng: Random) -> Naming:
    values = {"instance": INSTANCES[0], "job": "shop"}
    objects = objects_of(shape)
    for label in shape.labels | {"namespace" for _ in objects} | objects:
        values.setdefault(label, f"{label.replace('_', '-')}-1")
    pinned: dict[str, list[str]] = {}
    for kind in shape.kinds:
        for label, op, value in kind.matchers:
            if op == "=" and value:
                pinned.setdefault(label, []).append(value)
            elif op == "=~":
                pinned.setdefault(label, []).append(_fitting(value, values.get(label, "x")))
    for label, choices in pinned.items():
        # Parts and their whole, `x{code="500"} / x`, are to be different series.
        chance = 0.15 if _parted(shape, label) else 0.6
        if label in values and rng.random() < chance:
            values[label] = rng.choice(choices)
    _make(values, shape)
    spread = rng.choice(["replica", "replica", "instance", *sorted(shape.labels)])
    values.setdefault(spread, f"{spread}-1")
    return Naming(values, spread, _wholes(shape))


def _wholes(shape: Shape) -> dict[str, dict[str, str]]:
    """Of `x{code!="200"} / x`, let the right side have a series that the left has not."""
    found: dict[str, dict[str, str]] = {}
    for part in shape.kinds:
        for label, op, value in part.matchers:
            excluded = value if op == "!=" else _fitting(value, "") if op == "!~" else ""
            for whole in shape.kinds if excluded else ():
                if whole.name == part.name and all(m[0] != label for m in whole.matchers):
                    found.setdefault(whole.text, {})[label] = excluded
    return found


def objects_of(shape: Shape) -> set[str]:
    """Return the kinds of objects that kube-state-metrics tells of here."""
    return {found[1] for kind in shape.kinds if (found := _OBJECT.match(kind.name))}


def _make(values: dict[str, str], shape: Shape) -> None:
    """Give labels that the expression makes the values that it makes."""
    for target, replacement, source, pattern in shape.made:
        if _fullmatch(pattern, values.get(source, "")) is None:
            values[source] = _fitting(pattern, values.get(source, ""))
        found = _fullmatch(pattern, values.get(source, ""))
        if found is not None:
            values[target] = _expanded(replacement, found)


def _parted(shape: Shape, label: str) -> bool:
    with_it = {k.name for k in shape.kinds if any(m[0] == label for m in k.matchers)}
    return any(k.name in with_it and all(m[0] != label for m in k.matchers) for k in shape.kinds)


def labelled(kind: Kind, names: Naming, target: int, number: int) -> Labels:
    """Labels of the series *number* of *kind* that *target* exposes."""
    found = {**names.values, **names.own.get(kind.text, {})}
    found["instance"] = INSTANCES[target]
    if target in {B, C, E}:
        found |= {label: f"{found[label]}-{target}" for label in PODS if label in found}
    if number:
        found[names.spread] = f"{found.get(names.spread, names.spread)}{number}"
    for label, op, value in kind.matchers:
        found[label] = _obeying(op, value, found.get(label, ""))
    found = {label: value for label, value in found.items() if value and label != "__name__"}
    return (("__name__", kind.name), *sorted(found.items()))


def _obeying(op: str, value: str, here: str) -> str:
    """*here*, or else what a matcher takes."""
    if op == "=":
        return value
    if op == "!=" and (here == value or not here):
        return "other" if value != "other" else "another"
    if op == "=~" and _fullmatch(value, here) is None:
        return _fitting(value, here)
    if op == "!~" and _fullmatch(value, here) is not None:
        tries = ("other", "x", "eth0", "sda1", "1", "prod", "", here + "x")
        return next((v for v in tries if _fullmatch(value, v) is None), "other")
    return here


def grid(length: float, looks: Iterable[float] = ()) -> tuple[float, ...]:
    """Seconds, ending at 0, at which a phase of *length* has samples: negative, ascending.

    Dense at its end and where somebody *looks* (seconds before its end).
    """
    times = {-STEP * k for k in range(DENSE) if STEP * k < length}
    for look in looks:
        times |= {-look - STEP * k for k in range(24) if look + STEP * k < length}
    at = STEP * DENSE
    while at < length:
        times.add(-at)
        at += COARSE if at < 3 * 3600 else max(COARSE, length / 30)
    return tuple(sorted(times))


def samples(
    shape: Shape,
    names: Naming,
    targets: Mapping[int, Phases],
    *,
    action: float,
    length: float,
    looks: Iterable[float] = (),
    restarted: bool = False,
) -> Iterator[tuple[Labels, list[tuple[float, float]]]]:
    """Yield the series of *targets*, each with its samples in order.

    *action* is the moment between before and after; each phase is *length* seconds. *restarted*:
    counters begin anew after it.
    Raises ValueError when two targets would have one and the same series.
    """
    seen: dict[Labels, int] = {}
    times = grid(length), grid(length), grid(length, [length - look for look in looks])
    for target, phases in targets.items():
        for kind in shape.kinds:
            many = max((len(s.get(kind, ())) for s in phases if s), default=0)
            for number in range(many):
                base = labelled(kind, names, target, number)
                lines = [
                    s[kind][number] if s and number < len(s.get(kind, ())) else None for s in phases
                ]
                rows = _phases(base, kind, lines, (action, length, restarted), times)
                for labels, points in rows.items():
                    if labels not in seen:  # else two selectors match it
                        yield labels, points
                    elif seen[labels] != target:
                        raise ValueError("two targets with one series")
                seen.update(dict.fromkeys(rows, target))


def _phases(
    base: Labels,
    kind: Kind,
    lines: Sequence[Line | None],
    when: tuple[float, float, bool],
    times: Sequence[tuple[float, ...]],
) -> dict[Labels, list[tuple[float, float]]]:
    """The samples of what is one series, or one histogram."""
    action, length, restarted = when
    rows: dict[Labels, list[tuple[float, float]]] = {}
    totals: dict[Labels, float] = {}
    for index, line in enumerate(lines):
        if index == 2 and restarted:
            totals = dict.fromkeys(totals, 0.0)
        if line is None:
            continue
        end = action + (index - 1) * length
        for labels, values in _run(base, kind, line, end, times[index], totals):
            points = zip((end + t for t in times[index]), values, strict=True)
            rows.setdefault(labels, []).extend(points)
    return rows


def _run(
    base: Labels,
    kind: Kind,
    line: Line,
    end: float,
    times: tuple[float, ...],
    totals: dict[Labels, float],
) -> Iterator[tuple[Labels, list[float]]]:
    if kind.buckets:
        bounds, rates = _buckets(line)
        for bound, rate in zip(bounds, rates, strict=True):
            labels = _with(base, "le", bound)
            yield labels, _rising(labels, rate, times, totals)
    elif line.start is None and kind.counter:
        yield base, _rising(base, line.slope, times, totals)
    else:
        labels = base
        if kind.name.endswith("_bucket") and "le" not in dict(base):
            labels = _with(base, "le", "+Inf")
        start = 1.0 if line.start is None else line.start
        if abs(start - NOW) < 5e8:
            start += end - NOW
        elif abs(start - NOW * 1e3) < 5e11:
            start += end * 1e3 - NOW * 1e3
        values = [
            start + line.slope * t + (line.wave if index % 2 else 0.0)
            for index, t in enumerate(times)
        ]
        if kind.counter:
            values = [v if math.isnan(v) else max(0.0, v) for v in values]
        yield labels, values


def _rising(
    labels: Labels, rate: float, times: tuple[float, ...], totals: dict[Labels, float]
) -> list[float]:
    if math.isnan(rate):
        return [rate] * len(times)
    total = totals.get(labels, 1000.0)
    totals[labels] = total + rate * (times[-1] - times[0] + STEP)
    return [total + rate * (t - times[0] + STEP) for t in times]


def _buckets(line: Line) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Bounds, and observations a second below each: all in the middle of one bucket."""
    wanted = line.quantile if line.quantile is not None else line.start or 0.0
    rate = 0.0 if math.isnan(wanted) else (line.slope if line.quantile is None else 10.0)
    if line.quantile is None and line.start is not None and math.isnan(line.start):
        rate = math.nan
    below = [rate if bound >= wanted else 0.0 for bound in BOUNDS]
    if math.isnan(rate):
        below = [rate] * len(BOUNDS)
    elif rate and not any(below):
        below[-1] = rate  # beyond the last bound
    return (*(f"{b:.10g}" for b in BOUNDS), "+Inf"), (*below, rate)


def text(rows: Iterable[tuple[Labels, list[tuple[float, float]]]]) -> str:
    """OpenMetrics lines, without the end mark."""
    lines = []
    for labels, points in rows:
        inner = ",".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in labels[1:])
        head = f"{labels[0][1]}{{{inner}}}"
        lines += [f"{head} {f'{v:.12g}'.replace('nan', 'NaN')} {t:.3f}" for t, v in points]
    return "\n".join(lines)


def _with(labels: Labels, name: str, value: str) -> Labels:
    found = dict(labels) | {name: value}
    return (labels[0], *sorted((k, v) for k, v in found.items() if k != "__name__"))


# --- strings that a regular expression takes ------------------------------------------------------


@lru_cache(maxsize=4096)
def _fullmatch(pattern: str, value: str) -> re.Match[str] | None:
    try:
        return re.fullmatch(pattern, value, re.DOTALL)
    except re.error:
        return None


@lru_cache(maxsize=4096)
def _fitting(pattern: str, near: str) -> str:
    """A string that *pattern* takes, *near* or made of its pieces."""
    tries = [near, "a", "1", "a-1", "eth0", "a:1", "prod", "a-b-c"]
    tries += [f"{alternative}" for alternative in re.split(r"[|()]", pattern)]
    plain = re.sub(r"\(\?[:imsU]+|[()^$?]", "", pattern)
    for one in plain.split("|"):
        literal = re.sub(r"\\d|\[0-9\]|\[\^?[^\]]*\]|\\w", "1", one)
        literal = re.sub(r"\{\d+(,\d*)?\}", "", literal)
        tries.append(
            re.sub(
                r"\\(.)", r"\1", re.sub(r"\.[*+]", "x", literal).replace("+", "").replace("*", "")
            )
        )
    return next((t for t in tries if t and _fullmatch(pattern, t) is not None), near)


def _expanded(replacement: str, found: re.Match[str]) -> str:
    template = re.sub(r"\$\{?(\d+)\}?", r"\\g<\1>", replacement)
    try:
        return found.expand(template)
    except (re.error, IndexError):
        return replacement
