"""What became of series that fed the alert and have no sample since the action?

A target that is down looks like health, and so does one that no longer exposes a series. A replaced
pod, a deleted object, a counter that has counted nothing since a restart, and a series that exists
only while something is wrong do not come back, and need not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from receiver.policy.promql import Sample
from receiver.policy.proof.lost import (
    EXPORTER,
    IDENTITY,
    PODS,
    Lost,
    Target,
    identity,
    kube,
    left_by,
    object_of,
    target_of,
    told_apart_by,
)
from receiver.policy.proof.lost_questions import Questions
from receiver.policy.proof.parts import PartAnswers
from receiver.policy.proof.question import MOST_LOST
from receiver.policy.proof.value import EMPTY, Value, cut, unknown


class Ending(msgspec.Struct, frozen=True):
    """What became of the lost series of one selector."""

    value: Value
    """`empty`: it is known why they have ended; else unknown, and why."""
    moved: frozenset[str] = frozenset()
    """Labels by which what took their place differs from them; none if nothing did."""


class Explanation:
    """What the answers say of all that have ended."""

    def __init__(self, asked: Questions, first: PartAnswers, second: PartAnswers | None) -> None:
        self._asked = asked
        self._first = first
        self._second = second
        self.fates: Final = {each.key: self._all_of(each) for each in asked.lost}
        """What became of the series of each selector, by `Lost.key`."""

    def _all_of(self, lost: Lost) -> Ending:
        moved: frozenset[str] = frozenset()
        for row in lost.rows:
            found = self._one(lost, row)
            if found.value.is_open:
                return found
            moved |= found.moved
        carried = frozenset(told_apart_by(lost, moved))
        # Where the successor has the same value, as a StatefulSet's pod its name, it is recognised
        # by the others; where it has all of them, its series count for this very alert.
        same = frozenset(n for n in carried if self._first.number(self._asked.still(lost, n)))
        return Ending(EMPTY, moved - same)

    def _one(  # noqa: PLR0911  one return a row of the table
        self, lost: Lost, row: Sample
    ) -> Ending:
        target = target_of(row)
        name = target[1] or target[0] or "its target"
        number = f"{row.value:.0f} series that fed the alert"
        then, now = self._by_target(self._asked.up_then), self._by_target(self._asked.up)
        new = self._by_target(self._asked.up_new)
        known = target in then or target in now
        if target in new and new[target] == 0:
            return Ending(unknown(f"{name} is down: {number} have no sample since the action"))
        if known and target not in new and target in now:
            return Ending(unknown(f"{name} was not scraped since the action"))
        gone = self._object_gone(lost, target)
        if gone is not None:
            return Ending(gone, IDENTITY - EXPORTER | {kube(lost)})
        if not known:
            return Ending(unknown(f"no `up` tells why {number} have ended: {cut(lost.key)}"))
        if target not in new:
            return self._left(lost, target, name)
        if self._only_while_ill(lost, target) or self._counts_anew(lost, target):
            return Ending(EMPTY)
        if not kube(lost) and self._pod_replaced(lost, row):
            return Ending(EMPTY, PODS)
        return Ending(unknown(f"{name} is up but does not expose {cut(lost.key)} any more"))

    def _left(self, lost: Lost, target: Target, name: str) -> Ending:
        """The target is not scraped any more: does another one have what it had?"""
        there, before = self._as_many(lost, target, left_by(lost))
        if there >= before:
            return Ending(EMPTY, left_by(lost))
        if self._asked.accept_gone:
            return Ending(EMPTY)
        return Ending(
            unknown(
                f"{name} has left discovery and nothing took its place "
                f"({there:.0f} of {before:.0f})"
            )
        )

    def _as_many(self, lost: Lost, target: Target, names: frozenset[str]) -> tuple[float, float]:
        """How many series of the job have new samples, and how many there were before."""
        return (
            self._by_job(self._asked.fresh_others(lost, names)).get(target[0], 0.0),
            self._by_job(self._asked.fed_others(lost, names)).get(target[0], 0.0),
        )

    def _pod_replaced(self, lost: Lost, row: Sample) -> bool:
        """Pods of which a living exporter tells: each kind of series is there, of another pod."""
        target = target_of(row)
        there, before = self._as_many(lost, target, PODS)
        of_pods = self._by_target(self._asked.of_pods(lost)).get(target, 0.0)
        if of_pods < row.value or there < before:
            return False
        return not self._first.number(self._asked.kinds_gone(lost))

    def _only_while_ill(self, lost: Lost, target: Target) -> bool:
        """It was not there while the alert did not fire yet, though its target was."""
        if not self._asked.well_at or target not in self._by_target(self._asked.up_well):
            return False
        return target not in self._by_target(self._asked.was_there(lost))

    def _counts_anew(self, lost: Lost, target: Target) -> bool:
        """A counter whose process is new, and which nothing has increased since."""
        place = lost.asked.places[lost.selector.index]
        if not place.counter or target not in self._by_target(self._asked.started):
            return False
        if not all((self._first.number(text) or 0.0) > 0 for text in self._asked.divisors(lost)):
            return False
        fresh = self._asked.fresh_others(lost, left_by(lost))
        others = sum(row.value for row in self._first.rows.get(fresh, ()))
        return place.sign > 0 or (place.summed and others > 0)

    def _object_gone(self, lost: Lost, target: Target) -> Value | None:
        """Whether what the series told of does not exist any more; None: that is not the case."""
        kind = kube(lost)
        texts = self._asked.about(lost, self._first) if kind and self._second is not None else ()
        if not texts or self._second is None:
            return None
        told = self._first.rows[self._asked.objects(lost)]
        objects = [row for row in told if target_of(row) == target]
        still, told_of, anew = (self._second.rows[text] for text in texts)
        exist = {(row.labels.get("namespace", ""), row.labels.get(kind, "")) for row in still}
        tellers = {(row.labels.get("namespace", ""), *target_of(row)) for row in told_of}
        new = {row.labels.get("namespace", "") for row in anew}
        for row in objects:
            space, its = row.labels.get("namespace", ""), row.labels.get(kind, "")
            # Its exporter must still expose other objects: one that is up may have lost its view.
            if not its or (space, its) in exist or (space, *target) not in tellers:
                return None
            if kind in lost.asked.labels and space not in new and not self._asked.accept_gone:
                return unknown(f"the {object_of(lost)} {its} is gone and nothing took its place")
        return EMPTY if objects else None

    def names(self) -> frozenset[str]:
        """Return the labels of the alert's series that its successor has not."""
        return frozenset().union(
            *(identity(each, self.fates[each.key].moved) for each in self._asked.lost)
        )

    def old(self) -> Mapping[str, tuple[str, ...]] | None:
        """Return what identified the targets of what moved, when the alert was bound, by label.

        None: there were too many.
        """
        found: dict[str, set[str]] = {}
        for each in self._asked.lost:
            for name in told_apart_by(each, self.fates[each.key].moved):
                rows = self._first.rows.get(self._asked.old(each, name), ())
                if len(rows) > MOST_LOST:
                    return None
                found.setdefault(name, set()).update(row.labels.get(name, "") for row in rows)
        return {name: tuple(sorted(values - {""})) for name, values in found.items()}

    def _by_target(self, part: str) -> dict[Target, float]:
        return {target_of(row): row.value for row in self._first.rows.get(part, ())}

    def _by_job(self, part: str) -> dict[str, float]:
        return {row.labels.get("job", ""): row.value for row in self._first.rows.get(part, ())}
