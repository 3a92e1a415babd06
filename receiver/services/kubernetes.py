"""Deployments, StatefulSets and DaemonSets, through the few REST calls that they need.

A restart is what `kubectl rollout restart` does, a new annotation on the pods' template; it is done
when `kubectl rollout status` would say so. One that could bring no new pod is refused before
anything is written. What promheal's service account must be allowed is get and patch on these, and
patch on their `scale` for scale_workers.
https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec

from receiver.clock import steady_clock
from receiver.errors import ActionError
from receiver.policy.texts import Name
from receiver.services.cluster import Cluster, MissingError
from receiver.services.manager import QUESTION, ServiceState, ServiceStatus, answers
from receiver.services.rollout import Workload, no_restart, state_of

_POLL: Final = 0.5  # seconds
_ANNOTATION: Final = "kubectl.kubernetes.io/restartedAt"
_NAME = Annotated[
    Name,
    msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$(?!\n)", examples=["checkout"]),
]
"""RFC 1123, as Kubernetes wants names."""


class Kubernetes(Cluster, frozen=True, kw_only=True, forbid_unknown_fields=True):
    namespace: _NAME
    """Where the workload is."""
    deployment: _NAME | None = None
    """One of `deployment`, `stateful_set` and `daemon_set`."""
    stateful_set: _NAME | None = None
    """Its name, if it is a StatefulSet."""
    daemon_set: _NAME | None = None
    """Its name, if it is a DaemonSet."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(each is not None for each in self._names.values()) != 1:
            raise ValueError("write one of deployment, stateful_set and daemon_set")

    @property
    def _names(self) -> dict[str, str | None]:
        return {
            "deployments": self.deployment,
            "statefulsets": self.stateful_set,
            "daemonsets": self.daemon_set,
        }

    @property
    def resource(self) -> str:
        """Its kind, as the API's paths have it."""
        return next(kind for kind, name in self._names.items() if name is not None)

    @property
    def name(self) -> str:
        return self._names[self.resource] or ""

    @property
    def path(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/{self.resource}/{self.name}"

    @property
    def words(self) -> str:
        """It, for people."""
        return f"{self.resource}/{self.name} in {self.namespace}"

    def read(self, *, timeout: float) -> Workload:
        return self.ask("GET", self.path, Workload, timeout=timeout)

    def status(self, *, timeout: float) -> ServiceStatus:
        return state_of(self.resource, self.read(timeout=timeout))

    def forbidden(self, wanted: Iterable[tuple[str, str]], *, timeout: float) -> Iterator[str]:
        """Yield each verb and resource of *wanted* that our account's role does not allow."""
        for verb, resource in wanted:
            if not self.may(verb, resource, self.namespace, self.name, timeout=timeout):
                yield (
                    f"promheal's service account may not {verb} {resource} {self.name!r} in "
                    f"{self.namespace}; add it to its role, and to the role's `resourceNames` if "
                    "there are any"
                )

    def probe(self, *, timeout: float) -> Iterator[str]:
        wanted = [(verb, self.resource) for verb in ("get", "patch")]
        forbidden = list(self.forbidden(wanted, timeout=timeout))
        yield from forbidden
        if not forbidden:
            # A role by name allows what is not there; only the object itself tells.
            try:
                reason = no_restart(self.resource, self.read(timeout=timeout))
            except MissingError as error:
                reason = str(error)
            if reason:
                yield f"{self.words} cannot be restarted now: {reason}"

    def restart(self, *, timeout: float) -> ServiceStatus:
        deadline = time.monotonic() + timeout
        if reason := no_restart(self.resource, self.read(timeout=min(QUESTION, timeout))):
            raise ActionError(f"{self.words}: {reason}; nothing was touched")
        now = datetime.fromtimestamp(steady_clock()(), UTC).isoformat(timespec="microseconds")
        patch = {"spec": {"template": {"metadata": {"annotations": {_ANNOTATION: now}}}}}
        left = deadline - time.monotonic()
        self.ask("PATCH", self.path, Workload, timeout=min(QUESTION, left), body=patch)
        late = " in time"
        for found in answers(self.status, deadline, every=_POLL):
            if found.state is ServiceState.RUNNING:
                return found
            if found.state is ServiceState.FAILED:
                late = ""
                break
        raise ActionError(
            f"{self.words} was restarted, but is not rolled out{late}: {found.detail}; "
            f"`kubectl -n {self.namespace} get pods` says more"
        )
