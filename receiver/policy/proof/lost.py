"""Series that fed the alert and have ended: whose were they, and what tells its successor?"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from receiver.policy.promql import Sample
from receiver.policy.proof.restricted import Restricted
from receiver.policy.proof.tree import Selector

IDENTITY: Final = frozenset({"container_id", "id", "instance", "pod", "pod_ip", "pod_name", "uid"})
"""Labels by which a target differs from the one that takes its place."""

EXPORTER: Final = frozenset({"instance"})
"""Of these, the label that an exporter gives to what it tells of others."""
PODS: Final = IDENTITY - EXPORTER
_KUBE: Final = re.compile(r"kube_([a-z]+)_")
_CALLED: Final = {"hpa": "horizontalpodautoscaler", "job": "job_name"}
"""How kube-state-metrics calls the label of an object, where it is not the object's kind."""

Target = tuple[str, str]
"""`job` and `instance`."""


class Lost(msgspec.Struct, frozen=True):
    """Series of a selector that fed the alert and have no sample since the action."""

    asked: Restricted
    selector: Selector
    rows: tuple[Sample, ...]
    """How many, by `job` and `instance`."""

    @property
    def key(self) -> str:
        return self.asked.series(self.selector)


def left_by(lost: Lost) -> frozenset[str]:
    """Return what tells a target that has left from the one that took its place.

    What an exporter tells of is not the exporter: another one tells of the same object.
    """
    return EXPORTER if kube(lost) else IDENTITY


def identity(lost: Lost, moved: frozenset[str]) -> frozenset[str]:
    """Return the labels of the result that its successor has not, as far as these series say."""
    place = lost.asked.places[lost.selector.index]
    made = {name for name, sources in place.made if sources & moved}
    return frozenset(lost.asked.labels.keys() & (moved | made))


def told_apart_by(lost: Lost, moved: frozenset[str]) -> tuple[str, ...]:
    """Return the labels of its series that tell the alert's target from its successor."""
    place = lost.asked.places[lost.selector.index]
    carried = {name for name in moved if name in place.flow and name in lost.asked.labels}
    return tuple(sorted(carried | (place.sources & moved)))


def kube(lost: Lost) -> str:
    """Return the label that names the object which the series tell of; empty if it is none."""
    found = object_of(lost)
    return _CALLED.get(found, found)


def object_of(lost: Lost) -> str:
    found = _KUBE.match(lost.selector.metric)
    return found[1] if found else ""


def target_of(row: Sample) -> Target:
    return row.labels.get("job", ""), row.labels.get("instance", "")
