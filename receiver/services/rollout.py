"""What does a Deployment, StatefulSet or DaemonSet say of itself? Pure: read from its object.

The rules are those of `kubectl rollout status`, kubectl/pkg/polymorphichelpers/rollout_status.go,
and of the controllers where they do what nobody waits for: a paused Deployment, `OnDelete`, and a
StatefulSet's `partition`, which keeps the pods with a lower number as they are.
"""

from __future__ import annotations

from typing import Final

import msgspec

from receiver.services.manager import ServiceState, ServiceStatus


class Metadata(msgspec.Struct, rename="camel"):
    generation: int = 0


class RollingUpdate(msgspec.Struct, rename="camel"):
    partition: int = 0


class UpdateStrategy(msgspec.Struct, rename="camel"):
    type: str = "RollingUpdate"
    rolling_update: RollingUpdate | None = None


class Spec(msgspec.Struct, rename="camel"):
    replicas: int = 1
    paused: bool = False
    update_strategy: UpdateStrategy = msgspec.field(default_factory=UpdateStrategy)

    @property
    def on_delete(self) -> bool:
        return self.update_strategy.type == "OnDelete"

    @property
    def kept(self) -> int:
        """How many pods a rollout leaves as they are."""
        rolling = self.update_strategy.rolling_update
        return min(self.replicas, rolling.partition if rolling is not None else 0)


class WorkloadCondition(msgspec.Struct, rename="camel"):
    type: str
    reason: str = ""
    message: str = ""


class WorkloadStatus(msgspec.Struct, rename="camel"):
    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    desired_number_scheduled: int = 0
    updated_number_scheduled: int = 0
    number_available: int = 0
    conditions: list[WorkloadCondition] = []


class Workload(msgspec.Struct, rename="camel"):
    """An object of apps/v1, as far as we read it."""

    metadata: Metadata
    spec: Spec = msgspec.field(default_factory=Spec)
    status: WorkloadStatus = msgspec.field(default_factory=WorkloadStatus)

    @property
    def observed(self) -> bool:
        """Whether its controller has seen it as it is now: until then its numbers are of before."""
        return self.status.observed_generation >= self.metadata.generation


def state_of(resource: str, found: Workload) -> ServiceStatus:
    """Return what `kubectl rollout status` would make of it; *resource* as in the API's paths."""
    stuck = [each for each in found.status.conditions if each.reason == "ProgressDeadlineExceeded"]
    if not found.observed:
        missing = "the change was not yet seen by its controller"
    elif stuck:
        return ServiceStatus(state=ServiceState.FAILED, detail=stuck[0].message[:1000])
    elif none := _none_wanted(resource, found):
        return ServiceStatus(state=ServiceState.STOPPED, detail=none)
    else:
        missing = _MISSING[resource](found)
    if missing:
        paused = "; it is paused" if resource == "deployments" and found.spec.paused else ""
        return ServiceStatus(state=ServiceState.STARTING, detail=missing + paused)
    pods = found.status.number_available if resource == "daemonsets" else found.spec.replicas
    kept = f"; partition keeps {found.spec.kept} as they are" if found.spec.kept else ""
    return ServiceStatus(state=ServiceState.RUNNING, detail=f"{pods} pods are ready{kept}")


def no_restart(resource: str, found: Workload) -> str:
    """Return why a new annotation would bring no new pod, with the remedy; nothing if it would."""
    if resource == "deployments" and found.spec.paused:
        return "it is paused; `kubectl rollout resume` lets it roll out again"
    if resource != "deployments" and found.spec.on_delete:
        return (
            "its updateStrategy is OnDelete: a pod is new only when somebody deletes the old one; "
            "take RollingUpdate, or delete pods by a `command`"
        )
    if found.observed and (none := _none_wanted(resource, found)):
        return f"{none}, so there is no pod to restart"
    if resource == "statefulsets" and found.spec.kept == found.spec.replicas:
        return (
            f"its partition keeps all {found.spec.replicas} pods as they are; set "
            "`updateStrategy.rollingUpdate.partition` lower"
        )
    return ""


def _none_wanted(resource: str, found: Workload) -> str:
    if resource == "daemonsets":
        if found.status.desired_number_scheduled:
            return ""
        return "no node of the cluster is to run it"
    return "" if found.spec.replicas else "it is scaled to 0"


def _deployment_lacks(found: Workload) -> str:
    status, wanted = found.status, found.spec.replicas
    old = max(0, status.replicas - status.updated_replicas)
    available = status.available_replicas
    if status.updated_replicas < wanted or old or available < status.updated_replicas:
        return (
            f"{status.updated_replicas} of {wanted} pods are new, {available} are available, "
            f"{old} old ones remain"
        )
    return ""


def _stateful_set_lacks(found: Workload) -> str:
    status, wanted = found.status, found.spec.replicas
    if status.ready_replicas < wanted:
        return f"{status.ready_replicas} of {wanted} pods are ready"
    rolling = status.update_revision not in {"", status.current_revision}
    # One with a partition keeps two revisions for good.
    if rolling and not found.spec.on_delete:
        due = wanted - found.spec.kept
        if status.updated_replicas < due or not found.spec.kept:
            return f"{status.updated_replicas} of {due} pods are new"
    return ""


def _daemon_set_lacks(found: Workload) -> str:
    status = found.status
    desired = status.desired_number_scheduled
    new, available = status.updated_number_scheduled, status.number_available
    if available < desired or (new < desired and not found.spec.on_delete):
        return f"{new} of {desired} pods are new, {available} are available"
    return ""


_MISSING: Final = {
    "deployments": _deployment_lacks,
    "statefulsets": _stateful_set_lacks,
    "daemonsets": _daemon_set_lacks,
}
