"""Workers that are the replicas of a Deployment or StatefulSet, by its `scale` subresource.

https://kubernetes.io/docs/reference/kubernetes-api/autoscaling-resources/ (Scale). A
HorizontalPodAutoscaler would set the number again: scale there or here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from receiver.services.kubernetes import Kubernetes, Workload
from receiver.services.workers import MOST, Scaled

_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]


class Replicas(Kubernetes, frozen=True, kw_only=True, forbid_unknown_fields=True):
    min: _Count
    max: _Count

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.daemon_set is not None:
            raise ValueError("a DaemonSet has a pod on every node; it is not scaled")
        if self.min > self.max:
            raise ValueError(f"min is {self.min}, and max only {self.max}")

    def count(self, *, timeout: float) -> int:
        """Return how many are ready, or -1 while old ones still end."""
        found = self.ask("GET", self.path, Workload, timeout=timeout)
        if found.status.observed_generation < found.metadata.generation:
            return -1
        ready = found.status.ready_replicas
        return ready if found.status.replicas == ready else -1

    def wanted(self, *, timeout: float) -> int:
        """Return how many are asked for."""
        return self.ask("GET", f"{self.path}/scale", _Scale, timeout=timeout).spec.replicas

    def scale(self, wanted: int, *, timeout: float) -> int:
        return _Steps(workload=self, min=self.min, max=self.max).scale(wanted, timeout=timeout)

    def probe(self, *, timeout: float) -> Iterator[str]:
        for verb in ("get", "patch"):
            if not self.may(verb, f"{self.resource}/scale", self.namespace, timeout=timeout):
                yield f"promheal's service account may not {verb} {self.resource}/scale"


class _Steps(Scaled, frozen=True, kw_only=True):
    workload: Replicas

    def count(self, *, timeout: float) -> int:
        return self.workload.count(timeout=timeout)

    def step(self, now: int, wanted: int, *, timeout: float) -> None:  # noqa: ARG002
        if self.workload.wanted(timeout=timeout) != wanted:
            body = {"spec": {"replicas": wanted}}
            self.workload.ask(
                "PATCH", f"{self.workload.path}/scale", _Scale, timeout=timeout, body=body
            )


class _ScaleSpec(msgspec.Struct):
    replicas: int = 0


class _Scale(msgspec.Struct):
    spec: _ScaleSpec
