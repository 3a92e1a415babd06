"""What must be asked to explain why series have ended?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from receiver.policy.duration import format_duration
from receiver.policy.promql import label_name, literally, quote
from receiver.policy.proof.lost import (
    IDENTITY,
    PODS,
    Lost,
    identity,
    kube,
    left_by,
    object_of,
    target_of,
    told_apart_by,
)
from receiver.policy.proof.parts import PartAnswers, Parts
from receiver.policy.proof.question import MOST_LOST, Timing, ended, total
from receiver.policy.proof.restricted import shown_offset

_OWNERS: Final = ("created_by_name", "daemonset", "deployment", "owner_name", "statefulset")
"""Labels that name whose an object is."""
_POD_NAMES: Final = ("container_id", "pod", "pod_name")


class Questions:
    """The parts to ask, and what the operator accepts."""

    def __init__(
        self, lost: Iterable[Lost], timing: Timing, well_at: float, *, accept_gone: bool
    ) -> None:
        """*well_at*: when the alert did not fire yet, seconds since the epoch; 0: not known.

        *accept_gone*: what is gone for good need not have a successor.
        """
        self.accept_gone = accept_gone
        self.lost = tuple(lost)
        self._timing = timing
        self.well_at = well_at
        self._targets = sorted({target_of(row) for each in self.lost for row in each.rows})

    # -- the first question

    def ask(self, parts: Parts) -> None:
        for text in (self.up_new, self.up, self.up_then, self.started):
            parts.add(text)
        if self.well_at:
            parts.add(self.up_well)
        for each in self.lost:
            for text in self._asked_of(each):
                parts.add(text)

    def _asked_of(self, lost: Lost) -> Iterator[str]:
        if self.well_at:
            yield self.was_there(lost)
        for names in (left_by(lost), PODS):
            yield self.fresh_others(lost, names)
            yield self.fed_others(lost, names)
        yield self.of_pods(lost)
        yield self.kinds_gone(lost)
        yield from self.divisors(lost)
        if kube(lost):
            yield self.objects(lost)
        for name in told_apart_by(lost, IDENTITY | {kube(lost)}):
            yield self.old(lost, name)
            yield self.still(lost, name)

    @property
    def _selected(self) -> str:
        jobs = sorted({job for job, _ in self._targets})
        instances = sorted({instance for _, instance in self._targets})
        return f"job=~{_any(jobs)},instance=~{_any(instances)}"

    @property
    def up(self) -> str:
        return f"up{{{self._selected}}}"

    @property
    def up_new(self) -> str:
        if self._timing.age is None:
            return f"{self.up} + 0"
        return f"{self.up} and (time() - timestamp({self.up}) < {self._timing.age:.3f})"

    @property
    def up_then(self) -> str:
        return f"{self.up} @ {self._timing.fed_at:.3f}"

    @property
    def up_well(self) -> str:
        return f"{self.up} @ {self.well_at:.3f} == 1"

    @property
    def started(self) -> str:
        series = f"process_start_time_seconds{{{self._selected}}}"
        return f"{series} > {self._timing.fed_at:.3f}"

    def was_there(self, lost: Lost) -> str:
        series = lost.asked.series(lost.selector, at=f"{self.well_at:.3f}")
        gone = ended(lost.asked, lost.selector, self._timing)
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
        if self._timing.age is None:
            return series
        age = self._timing.age_of(lost.asked.places[lost.selector.index])
        return f"(time() - timestamp({series}) < {age:.3f})"

    def fresh_others(self, lost: Lost, names: frozenset[str]) -> str:
        return f"count by (job) ({self._new_others(lost, names)})"

    def fed_others(self, lost: Lost, names: frozenset[str]) -> str:
        return f"count by (job) ({self._others(lost, names, self._fed_at)})"

    @property
    def _fed_at(self) -> str:
        return f"{self._timing.fed_at:.3f}"

    def of_pods(self, lost: Lost) -> str:
        """How many of the lost series are of a pod or container, by what they were scraped from."""
        nothing: frozenset[str] = frozenset()
        new = self._new_others(lost, nothing)
        then = (self._others(lost, nothing, self._fed_at, f'{name}!=""') for name in _POD_NAMES)
        gone = " or ".join(f"({series} unless {new})" for series in then)
        return f"count by (job, instance) ({gone})"

    def kinds_gone(self, lost: Lost) -> str:
        """How many kinds of series have no sample any more, whichever pod they were of."""
        names = ", ".join(sorted(PODS))
        then, now = self._others(lost, PODS, self._fed_at), self._new_others(lost, PODS)
        return f"count(count without ({names}) ({then}) unless count without ({names}) ({now}))"

    def divisors(self, lost: Lost) -> tuple[str, ...]:
        place = lost.asked.places[lost.selector.index]
        if not place.counter:
            return ()
        return tuple(total(lost.asked, node, under) for node, under in place.divisors)

    def objects(self, lost: Lost) -> str:
        gone = ended(lost.asked, lost.selector, self._timing)
        return f"topk({MOST_LOST + 1}, count by (namespace, {kube(lost)}, job, instance) {gone})"

    def still(self, lost: Lost, name: str) -> str:
        """How many new series of others have the value of *name* that the alert's series had."""
        value = lost.asked.labels.get(name)
        if value is None:  # the expression has made another label of it
            return "vector(0)"
        names = IDENTITY | {kube(lost)}
        return f"count({self._new_others(lost, names, f'{label_name(name)}={quote(value)}')})"

    def old(self, lost: Lost, name: str) -> str:
        place = lost.asked.places[lost.selector.index]
        names = identity(lost, IDENTITY | {kube(lost)})
        labels = {n: value for n, value in lost.asked.labels.items() if n not in names}
        series = lost.selector.plain(place.matchers(labels))
        at = f" @ {self._fed_at}{shown_offset(place.offset)}"
        return f"topk({MOST_LOST + 1}, count by ({label_name(name)}) ({series}{at}))"

    # -- the second question, about objects of Kubernetes

    def ask_about_objects(self, answer: PartAnswers, parts: Parts) -> bool:
        """Add what must be known of them; False when there are none."""
        texts = [text for each in self.lost for text in self.about(each, answer)]
        for text in texts:
            parts.add(text)
        return bool(texts)

    def about(self, lost: Lost, answer: PartAnswers) -> tuple[str, ...]:
        """Objects that still exist; who tells of such objects; those that are new."""
        kind = kube(lost)
        rows = answer.rows.get(self.objects(lost), ()) if kind else ()
        names = sorted({row.labels.get(kind, "") for row in rows})
        if not names or names == [""]:
            return ()
        spaces = sorted({row.labels.get("namespace", "") for row in rows})
        metric = "kube_" + object_of(lost)
        within = f'__name__=~"{metric}_.+",namespace=~{_any(spaces)}'
        span = "" if self._timing.age is None else f"[{format_duration(self._timing.age)}]"
        owners = "".join(
            f",{name}=~{quote(literally(lost.asked.labels[name]) + '|')}"
            for name in _OWNERS
            if name in lost.asked.labels
        )

        def told(more: str = "") -> str:
            series = f"{{{within}{more}}}"
            return f"last_over_time({series}{span})" if span else series

        then = f"{{{within}}} @ {self._timing.fed_at:.3f}"
        return (
            f"count by (namespace, {kind}) ({told(f',{kind}=~{_any(names)}')})",
            f"count by (namespace, job, instance) ({told()})",
            f"count by (namespace) ({told(owners)} unless on (namespace, {kind}) {then})",
        )


def _any(values: Iterable[str]) -> str:
    return quote("|".join(map(literally, values)))
