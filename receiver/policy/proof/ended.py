"""What became of series that fed the alert and have no sample since the action?

A target that is down looks like health, and so does one that does not expose a series any more. A
pod that was replaced, an object that is gone, a counter that has counted nothing since a restart,
and a series that exists only while something is wrong do not come back, and need not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from receiver.policy.duration import format_duration
from receiver.policy.promql import Sample, label_name, literally, quote
from receiver.policy.proof.judgement import EMPTY, Lost, Value, cut, unknown
from receiver.policy.proof.question import (
    MOST_LOST,
    Answer,
    Moment,
    Parts,
    ended,
    shown_offset,
    total,
)

IDENTITY: Final = frozenset({"container_id", "id", "instance", "pod", "pod_ip", "pod_name", "uid"})
"""Labels by which a target differs from the one that takes its place."""

_EXPORTER: Final = frozenset({"instance"})
"""Of these, the label that an exporter gives to what it tells of others."""
_POD: Final = IDENTITY - _EXPORTER
_POD_NAMES: Final = ("container_id", "pod", "pod_name")
_OWNERS: Final = ("created_by_name", "daemonset", "deployment", "owner_name", "statefulset")
"""Labels that name whose an object is."""
_KUBE: Final = re.compile(r"kube_([a-z]+)_")
_CALLED: Final = {"hpa": "horizontalpodautoscaler", "job": "job_name"}
"""How kube-state-metrics calls the label of an object, where it is not the object's kind."""

_NOTHING: Final[frozenset[str]] = frozenset()

Target = tuple[str, str]
"""`job` and `instance`."""


class Questions:
    """What must be known to explain why series have ended."""

    def __init__(
        self, lost: Iterable[Lost], moment: Moment, well_at: float, *, accept_gone: bool
    ) -> None:
        """*well_at*: when the alert did not fire yet, seconds since the epoch; 0: not known.

        *accept_gone*: what is gone for good need not have a successor.
        """
        self._accept_gone = accept_gone
        self._lost = tuple(lost)
        self._moment = moment
        self._well_at = well_at
        self._targets = sorted({_target(row) for each in self._lost for row in each.rows})

    # -- the first question

    def ask(self, parts: Parts) -> None:
        for text in (self._up_new, self._up, self._up_then, self._started):
            parts.add(text)
        if self._well_at:
            parts.add(self._up_well)
        for each in self._lost:
            for text in self._asked_of(each):
                parts.add(text)

    def _asked_of(self, lost: Lost) -> Iterator[str]:
        if self._well_at:
            yield self._was_there(lost)
        for names in (_left_by(lost), _POD):
            yield self._fresh_others(lost, names)
            yield self._fed_others(lost, names)
        yield self._of_pods(lost)
        yield self._kinds_gone(lost)
        yield from self._divisors(lost)
        if kube(lost):
            yield self._objects(lost)
        for name in _told_apart_by(lost, IDENTITY | {kube(lost)}):
            yield self._old(lost, name)
            yield self._still(lost, name)

    @property
    def _selected(self) -> str:
        jobs = sorted({job for job, _ in self._targets})
        instances = sorted({instance for _, instance in self._targets})
        return f"job=~{_any(jobs)},instance=~{_any(instances)}"

    @property
    def _up(self) -> str:
        return f"up{{{self._selected}}}"

    @property
    def _up_new(self) -> str:
        if self._moment.age is None:
            return f"{self._up} + 0"
        return f"{self._up} and (time() - timestamp({self._up}) < {self._moment.age:.3f})"

    @property
    def _up_then(self) -> str:
        return f"{self._up} @ {self._moment.fed_at:.3f}"

    @property
    def _up_well(self) -> str:
        return f"{self._up} @ {self._well_at:.3f} == 1"

    @property
    def _started(self) -> str:
        series = f"process_start_time_seconds{{{self._selected}}}"
        return f"{series} > {self._moment.fed_at:.3f}"

    def _was_there(self, lost: Lost) -> str:
        series = lost.asked.series(lost.selector, at=f"{self._well_at:.3f}")
        gone = ended(lost.asked, lost.selector, self._moment)
        return f"count by (job, instance) ({gone} and {series})"

    def _others(self, lost: Lost, names: frozenset[str], at: str = "", more: str = "") -> str:
        """The selector's series whatever their values of *names*, which tell targets apart."""
        place = lost.asked.places[lost.selector.index]
        gone = identity(lost, names)
        labels = {n: value for n, value in lost.asked.labels.items() if n not in gone}
        matchers = (*place.matchers(labels), *((more,) if more else ()))
        at = f" @ {at}" if at else ""
        return f"{lost.selector.plain(matchers)}{at}{shown_offset(place.offset)}"

    def _new_others(self, lost: Lost, names: frozenset[str], more: str = "") -> str:
        series = self._others(lost, names, more=more)
        if self._moment.age is None:
            return series
        age = self._moment.age_of(lost.asked.places[lost.selector.index])
        return f"(time() - timestamp({series}) < {age:.3f})"

    def _fresh_others(self, lost: Lost, names: frozenset[str]) -> str:
        return f"count by (job) ({self._new_others(lost, names)})"

    def _fed_others(self, lost: Lost, names: frozenset[str]) -> str:
        return f"count by (job) ({self._others(lost, names, self._fed_at)})"

    @property
    def _fed_at(self) -> str:
        return f"{self._moment.fed_at:.3f}"

    def _of_pods(self, lost: Lost) -> str:
        """How many of the lost series are of a pod or container, by what they were scraped from."""
        new = self._new_others(lost, _NOTHING)
        then = (self._others(lost, _NOTHING, self._fed_at, f'{name}!=""') for name in _POD_NAMES)
        gone = " or ".join(f"({series} unless {new})" for series in then)
        return f"count by (job, instance) ({gone})"

    def _kinds_gone(self, lost: Lost) -> str:
        """How many kinds of series have no sample any more, whichever pod they were of."""
        names = ", ".join(sorted(_POD))
        then, now = self._others(lost, _POD, self._fed_at), self._new_others(lost, _POD)
        return f"count(count without ({names}) ({then}) unless count without ({names}) ({now}))"

    def _divisors(self, lost: Lost) -> tuple[str, ...]:
        place = lost.asked.places[lost.selector.index]
        if not place.counter:
            return ()
        return tuple(total(lost.asked, node, under) for node, under in place.divisors)

    def _objects(self, lost: Lost) -> str:
        gone = ended(lost.asked, lost.selector, self._moment)
        return f"topk({MOST_LOST + 1}, count by (namespace, {kube(lost)}, job, instance) {gone})"

    def _still(self, lost: Lost, name: str) -> str:
        """How many new series of others have the value of *name* that the alert's series had."""
        value = lost.asked.labels.get(name)
        if value is None:  # the expression has made another label of it
            return "vector(0)"
        names = IDENTITY | {kube(lost)}
        return f"count({self._new_others(lost, names, f'{label_name(name)}={quote(value)}')})"

    def _old(self, lost: Lost, name: str) -> str:
        place = lost.asked.places[lost.selector.index]
        names = identity(lost, IDENTITY | {kube(lost)})
        labels = {n: value for n, value in lost.asked.labels.items() if n not in names}
        series = lost.selector.plain(place.matchers(labels))
        at = f" @ {self._fed_at}{shown_offset(place.offset)}"
        return f"topk({MOST_LOST + 1}, count by ({label_name(name)}) ({series}{at}))"

    # -- the second question, about objects of Kubernetes

    def ask_about_objects(self, answer: Answer, parts: Parts) -> bool:
        """Add what must be known of them; False when there are none."""
        texts = [text for each in self._lost for text in self._about(each, answer)]
        for text in texts:
            parts.add(text)
        return bool(texts)

    def _about(self, lost: Lost, answer: Answer) -> tuple[str, ...]:
        """Objects that still exist; who tells of such objects; those that are new."""
        kind = kube(lost)
        rows = answer.rows.get(self._objects(lost), ()) if kind else ()
        names = sorted({row.labels.get(kind, "") for row in rows})
        if not names or names == [""]:
            return ()
        spaces = sorted({row.labels.get("namespace", "") for row in rows})
        metric = "kube_" + _object(lost)
        within = f'__name__=~"{metric}_.+",namespace=~{_any(spaces)}'
        span = "" if self._moment.age is None else f"[{format_duration(self._moment.age)}]"
        owners = "".join(
            f",{name}=~{quote(literally(lost.asked.labels[name]) + '|')}"
            for name in _OWNERS
            if name in lost.asked.labels
        )

        def told(more: str = "") -> str:
            series = f"{{{within}{more}}}"
            return f"last_over_time({series}{span})" if span else series

        then = f"{{{within}}} @ {self._moment.fed_at:.3f}"
        return (
            f"count by (namespace, {kind}) ({told(f',{kind}=~{_any(names)}')})",
            f"count by (namespace, job, instance) ({told()})",
            f"count by (namespace) ({told(owners)} unless on (namespace, {kind}) {then})",
        )

    # -- what the answers say

    def explain(self, first: Answer, second: Answer | None) -> Mapping[str, Ended]:
        """Return what became of the series of each selector, by `Lost.key`."""
        return {each.key: self._all_of(each, first, second) for each in self._lost}

    def _all_of(self, lost: Lost, first: Answer, second: Answer | None) -> Ended:
        moved = _NOTHING
        for row in lost.rows:
            found = self._one(lost, row, first, second)
            if found.value.is_open:
                return found
            moved |= found.moved
        carried = frozenset(_told_apart_by(lost, moved))
        # Where the successor has the same value, as a StatefulSet's pod its name, it is told by the
        # others; where it has all of them, its series count for this very alert.
        same = frozenset(n for n in carried if first.number(self._still(lost, n)))
        return Ended(EMPTY, moved - same)

    def _one(  # noqa: PLR0911  one return a row of the table
        self, lost: Lost, row: Sample, first: Answer, second: Answer | None
    ) -> Ended:
        target = _target(row)
        name = target[1] or target[0] or "its target"
        number = f"{row.value:.0f} series that fed the alert"
        then, now = _by_target(first, self._up_then), _by_target(first, self._up)
        new = _by_target(first, self._up_new)
        known = target in then or target in now
        if target in new and new[target] == 0:
            return Ended(unknown(f"{name} is down: {number} have no sample since the action"))
        if known and target not in new and target in now:
            return Ended(unknown(f"{name} was not scraped since the action"))
        gone = self._object_gone(lost, target, first, second)
        if gone is not None:
            return Ended(gone, IDENTITY - _EXPORTER | {kube(lost)})
        if not known:
            return Ended(unknown(f"no `up` tells why {number} have ended: {cut(lost.key)}"))
        if target not in new:
            return self._left(lost, target, name, first)
        if self._only_while_ill(lost, target, first) or self._counts_anew(lost, target, first):
            return Ended(EMPTY)
        if not kube(lost) and self._pod_replaced(lost, row, first):
            return Ended(EMPTY, _POD)
        return Ended(unknown(f"{name} is up but does not expose {cut(lost.key)} any more"))

    def _left(self, lost: Lost, target: Target, name: str, first: Answer) -> Ended:
        """The target is not scraped any more: does another one have what it had?"""
        there, before = self._as_many(lost, target, _left_by(lost), first)
        if there >= before:
            return Ended(EMPTY, _left_by(lost))
        if self._accept_gone:
            return Ended(EMPTY)
        return Ended(
            unknown(
                f"{name} has left discovery and nothing took its place "
                f"({there:.0f} of {before:.0f})"
            )
        )

    def _as_many(
        self, lost: Lost, target: Target, names: frozenset[str], first: Answer
    ) -> tuple[float, float]:
        """How many series of the job have new samples, and how many there were before."""
        return (
            _by_job(first, self._fresh_others(lost, names)).get(target[0], 0.0),
            _by_job(first, self._fed_others(lost, names)).get(target[0], 0.0),
        )

    def _pod_replaced(self, lost: Lost, row: Sample, first: Answer) -> bool:
        """Pods of which a living exporter tells: each kind of series is there, of another pod."""
        target = _target(row)
        there, before = self._as_many(lost, target, _POD, first)
        of_pods = _by_target(first, self._of_pods(lost)).get(target, 0.0)
        return of_pods >= row.value and there >= before and not first.number(self._kinds_gone(lost))

    def _only_while_ill(self, lost: Lost, target: Target, first: Answer) -> bool:
        """It was not there while the alert did not fire yet, though its target was."""
        if not self._well_at or target not in _by_target(first, self._up_well):
            return False
        return target not in _by_target(first, self._was_there(lost))

    def _counts_anew(self, lost: Lost, target: Target, first: Answer) -> bool:
        """A counter whose process is new, and which nothing has increased since."""
        place = lost.asked.places[lost.selector.index]
        if not place.counter or target not in _by_target(first, self._started):
            return False
        if not all((first.number(text) or 0.0) > 0 for text in self._divisors(lost)):
            return False
        fresh = self._fresh_others(lost, _left_by(lost))
        others = sum(row.value for row in first.rows.get(fresh, ()))
        return place.sign > 0 or (place.summed and others > 0)

    def _object_gone(
        self,
        lost: Lost,
        target: Target,
        first: Answer,
        second: Answer | None,
    ) -> Value | None:
        """Whether what the series told of does not exist any more; None: that is not the case."""
        kind = kube(lost)
        texts = self._about(lost, first) if kind and second is not None else ()
        if not texts or second is None:
            return None
        objects = [row for row in first.rows[self._objects(lost)] if _target(row) == target]
        exist = {
            (row.labels.get("namespace", ""), row.labels.get(kind, ""))
            for row in second.rows[texts[0]]
        }
        tellers = {
            (row.labels.get("namespace", ""), *_target(row)) for row in second.rows[texts[1]]
        }
        new = {row.labels.get("namespace", "") for row in second.rows[texts[2]]}
        for row in objects:
            space, its = row.labels.get("namespace", ""), row.labels.get(kind, "")
            # Whoever told of it must tell of others: one that is up may have lost its sight.
            if not its or (space, its) in exist or (space, *target) not in tellers:
                return None
            if kind in lost.asked.labels and space not in new and not self._accept_gone:
                return unknown(f"the {_object(lost)} {its} is gone and nothing took its place")
        return EMPTY if objects else None

    def old(
        self, first: Answer, moved: Mapping[str, Ended]
    ) -> Mapping[str, tuple[str, ...]] | None:
        """Return what identified the targets of *moved* series when the alert was bound, by label.

        None: there were too many.
        """
        found: dict[str, set[str]] = {}
        for each in self._lost:
            for name in _told_apart_by(each, moved[each.key].moved):
                rows = first.rows.get(self._old(each, name), ())
                if len(rows) > MOST_LOST:
                    return None
                found.setdefault(name, set()).update(row.labels.get(name, "") for row in rows)
        return {name: tuple(sorted(values - {""})) for name, values in found.items()}


class Ended(msgspec.Struct, frozen=True):
    """What became of the lost series of one selector."""

    value: Value
    """`empty`: it is known why they have ended; else unknown, and why."""
    moved: frozenset[str] = _NOTHING
    """Labels by which what took their place differs from them; none if nothing did."""


def _left_by(lost: Lost) -> frozenset[str]:
    """Return what tells a target that has left from the one that took its place.

    What an exporter tells of is not the exporter: another one tells of the same object.
    """
    return _EXPORTER if kube(lost) else IDENTITY


def identity(lost: Lost, moved: frozenset[str]) -> frozenset[str]:
    """Return the labels of the result that its successor has not, as far as these series say."""
    place = lost.asked.places[lost.selector.index]
    made = {name for name, sources in place.made if sources & moved}
    return frozenset(lost.asked.labels.keys() & (moved | made))


def _told_apart_by(lost: Lost, moved: frozenset[str]) -> tuple[str, ...]:
    """Return the labels of its series that tell the alert's target from its successor."""
    place = lost.asked.places[lost.selector.index]
    carried = {name for name in moved if name in place.flow and name in lost.asked.labels}
    return tuple(sorted(carried | (place.sources & moved)))


def kube(lost: Lost) -> str:
    """Return the label that names the object which the series tell of; empty if it is none."""
    found = _object(lost)
    return _CALLED.get(found, found)


def _object(lost: Lost) -> str:
    found = _KUBE.match(lost.selector.metric)
    return found[1] if found else ""


def _target(row: Sample) -> Target:
    return row.labels.get("job", ""), row.labels.get("instance", "")


def _by_target(answer: Answer, part: str) -> dict[Target, float]:
    return {_target(row): row.value for row in answer.rows.get(part, ())}


def _by_job(answer: Answer, part: str) -> dict[str, float]:
    return {row.labels.get("job", ""): row.value for row in answer.rows.get(part, ())}


def _any(values: Iterable[str]) -> str:
    return quote("|".join(map(literally, values)))
