"""Workers that are the replicas of a Deployment or StatefulSet, by its `scale` subresource.

https://kubernetes.io/docs/reference/kubernetes-api/autoscaling-resources/ (Scale). A
HorizontalPodAutoscaler would set the number again: scale there or here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from receiver.errors import ActionError
from receiver.services.kubernetes import Kubernetes
from receiver.services.manager import QUESTION
from receiver.services.rollout import Workload
from receiver.services.workers import MOST, Counted, Scaled

_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]


class Replicas(Kubernetes, frozen=True, kw_only=True, forbid_unknown_fields=True):
    min: _Count
    """No action goes below it."""
    max: _Count
    """No action goes above it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.daemon_set is not None:
            raise ValueError("a DaemonSet has a pod on every node; it is not scaled")
        if self.min > self.max:
            raise ValueError(f"min is {self.min}, and max only {self.max}")

    def count(self, *, timeout: float) -> Counted:
        """Return what is asked for, and how much of it is ready.

        Raises ActionError for one that is scaled to 0 while `min` is more: that is how people and
        tools switch it off, and a HorizontalPodAutoscaler leaves it so as well.
        """
        found = self.read(timeout=min(QUESTION, timeout))
        if self.min and not found.spec.replicas:
            raise ActionError(
                f"{self.words} is scaled to 0, so somebody has switched it off; `kubectl scale` "
                "it to 1 or more and promheal may scale it again; nothing was touched"
            )
        return _counted(self.resource, found)

    def scale(self, wanted: int, *, lacking: int = 0, timeout: float) -> Counted:
        steps = _Steps(workload=self, min=self.min, max=self.max)
        return steps.scale(wanted, lacking=lacking, timeout=timeout)

    def probe(self, *, timeout: float) -> Iterator[str]:
        wanted = [("get", self.resource), ("patch", f"{self.resource}/scale")]
        forbidden = list(self.forbidden(wanted, timeout=timeout))
        yield from forbidden
        if not forbidden:
            try:
                self.count(timeout=timeout)
            except ActionError as error:
                yield str(error)


class _Steps(Scaled, frozen=True, kw_only=True):
    workload: Replicas

    def look(self, *, timeout: float) -> Counted:
        return _counted(self.workload.resource, self.workload.read(timeout=timeout))

    def step(self, wanted: int, *, timeout: float) -> None:
        body = {"spec": {"replicas": wanted}}
        self.workload.ask(
            "PATCH", f"{self.workload.path}/scale", _Scale, timeout=timeout, body=body
        )


def _counted(resource: str, found: Workload) -> Counted:
    """Return who is wanted by the spec; by the status only who is ready."""
    wanted, status = found.spec.replicas, found.status
    # While a Deployment rolls out it has more pods than it wants, and nobody has scaled it.
    rolls_out = resource == "deployments" and status.updated_replicas < status.replicas
    leaving = 0 if rolls_out else max(0, status.replicas - wanted)
    return Counted(
        wanted=wanted,
        ready=min(wanted, status.ready_replicas),
        leaving=leaving,
        stale=not found.observed,
    )


class _Scale(msgspec.Struct):
    """The answer; what it says is read from the workload."""
