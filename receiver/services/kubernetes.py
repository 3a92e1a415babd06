"""Deployments, StatefulSets and DaemonSets, through the few REST calls that they need.

A restart is what `kubectl rollout restart` does, a new annotation on the pods' template; it is done
when `kubectl rollout status` would say so. What promheal's service account must be allowed is get
and patch on these, and on their `scale` for scale_workers.
https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec

from receiver.clock import steady_clock
from receiver.errors import ActionError
from receiver.exchange import fetch
from receiver.services.manager import ServiceState, ServiceStatus

_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod finds its account's token and the cluster's certificate authority."""
_MAX_ANSWER: Final = 4 * 1024 * 1024  # bytes
_POLL: Final = 0.5  # seconds
_ANNOTATION: Final = "kubectl.kubernetes.io/restartedAt"
_NAME = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$(?!\n)")]
"""RFC 1123, as Kubernetes wants names."""

_T = TypeVar("_T")


class Cluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the API server is, and who we are to it. The defaults are those of a pod."""

    api: Annotated[str, msgspec.Meta(pattern="^https?://")] = "https://kubernetes.default.svc"
    token_file: str = f"{_ACCOUNT}/token"
    """Read at each call: tokens are rotated in place."""
    ca_file: str = f"{_ACCOUNT}/ca.crt"

    def ask(
        self, method: str, path: str, kind: type[_T], *, timeout: float,
        body: dict[str, Any] | None = None,
    ) -> _T:  # fmt: skip
        """Return the object that the server answers with. Raises ActionError."""
        if timeout <= 0:
            raise ActionError("no time left to ask the API server")
        content = "strategic-merge-patch" if method == "PATCH" else ""
        reply = fetch(
            method,
            self.api.rstrip("/") + path,
            timeout=timeout,
            body=None if body is None else msgspec.json.encode(body),
            headers={
                "Authorization": f"Bearer {self._token()}",
                "Accept": "application/json",
                **(
                    {}
                    if body is None
                    else {
                        "Content-Type": f"application/{content}+json"
                        if content
                        else "application/json"
                    }
                ),
            },
            most=_MAX_ANSWER,
            tls=self._tls(),
        )
        if not 200 <= reply.status < 300:
            raise ActionError(_refusal(method, path, reply.status, reply.body))
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ActionError(f"{path}: the answer is not Kubernetes': {error}") from None

    def may(self, verb: str, resource: str, namespace: str, *, timeout: float) -> bool:
        """Whether our account may do that: a SelfSubjectAccessReview, which everybody may ask."""
        name, _, subresource = resource.partition("/")
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {
                "resourceAttributes": {
                    "namespace": namespace,
                    "verb": verb,
                    "group": "apps",
                    "resource": name,
                    "subresource": subresource,
                }
            },
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return self.ask("POST", path, _Review, timeout=timeout, body=review).status.allowed

    def _token(self) -> str:
        try:
            token = Path(self.token_file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ActionError(
                f"the token of promheal's service account cannot be read: {error}; outside a pod, "
                "write `token_file`"
            ) from None
        if not token or not token.isprintable():
            raise ActionError(f"{self.token_file} holds no token")
        return token

    def _tls(self) -> ssl.SSLContext | None:
        if not self.api.startswith("https://"):
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ActionError(
                f"the cluster's certificate authority {self.ca_file} cannot be read: {error}"
            ) from None


class Kubernetes(Cluster, frozen=True, kw_only=True, forbid_unknown_fields=True):
    namespace: _NAME
    deployment: _NAME | None = None
    stateful_set: _NAME | None = None
    daemon_set: _NAME | None = None

    def __post_init__(self) -> None:
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
    def path(self) -> str:
        name = self._names[self.resource]
        return f"/apis/apps/v1/namespaces/{self.namespace}/{self.resource}/{name}"

    def status(self, *, timeout: float) -> ServiceStatus:
        return _status(self.resource, self.ask("GET", self.path, Workload, timeout=timeout))

    def probe(self, *, timeout: float) -> Iterator[str]:
        for verb in ("get", "patch"):
            if not self.may(verb, self.resource, self.namespace, timeout=timeout):
                yield (
                    f"promheal's service account may not {verb} {self.resource} in "
                    f"{self.namespace}; add it to its role"
                )

    def restart(self, *, timeout: float) -> ServiceStatus:
        deadline = time.monotonic() + timeout
        now = datetime.fromtimestamp(steady_clock()(), UTC).isoformat(timespec="microseconds")
        patch = {"spec": {"template": {"metadata": {"annotations": {_ANNOTATION: now}}}}}
        self.ask("PATCH", self.path, Workload, timeout=timeout, body=patch)
        while True:
            found = self.status(timeout=max(0.1, deadline - time.monotonic()))
            if found.state is ServiceState.RUNNING:
                return found
            if found.state is ServiceState.FAILED or time.monotonic() + _POLL >= deadline:
                late = "" if found.state is ServiceState.FAILED else " in time"
                raise ActionError(
                    f"{self.path.rpartition('v1/')[2]} was restarted, but is not rolled out{late}: "
                    f"{found.detail}; `kubectl -n {self.namespace} get pods` says more"
                )
            time.sleep(_POLL)


class Metadata(msgspec.Struct, rename="camel"):
    generation: int = 0


class Spec(msgspec.Struct, rename="camel"):
    replicas: int = 1


class Condition(msgspec.Struct, rename="camel"):
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
    conditions: list[Condition] = []


class Workload(msgspec.Struct, rename="camel"):
    """A Deployment, StatefulSet or DaemonSet of apps/v1, as far as we read it."""

    metadata: Metadata
    spec: Spec = msgspec.field(default_factory=Spec)
    status: WorkloadStatus = msgspec.field(default_factory=WorkloadStatus)


class _Allowed(msgspec.Struct):
    allowed: bool


class _Review(msgspec.Struct):
    status: _Allowed


class _Refusal(msgspec.Struct):
    message: str = ""


def _status(resource: str, found: Workload) -> ServiceStatus:
    """Return what `kubectl rollout status` would make of it."""
    status = found.status
    stuck = [each for each in status.conditions if each.reason == "ProgressDeadlineExceeded"]
    if status.observed_generation < found.metadata.generation:
        missing = "the change was not yet seen by its controller"
    elif stuck:
        return ServiceStatus(state=ServiceState.FAILED, detail=stuck[0].message[:1000])
    elif resource != "daemonsets" and found.spec.replicas == 0:
        return ServiceStatus(state=ServiceState.STOPPED, detail="it is scaled to 0")
    else:
        missing = _MISSING[resource](status, found.spec.replicas)
    if missing:
        return ServiceStatus(state=ServiceState.STARTING, detail=missing)
    pods = status.number_available if resource == "daemonsets" else found.spec.replicas
    return ServiceStatus(state=ServiceState.RUNNING, detail=f"{pods} pods are ready")


def _deployment_lacks(status: WorkloadStatus, wanted: int) -> str:
    old = max(0, status.replicas - status.updated_replicas)
    available = status.available_replicas
    if status.updated_replicas < wanted or old or available < status.updated_replicas:
        return (
            f"{status.updated_replicas} of {wanted} pods are new, {available} are available, "
            f"{old} old ones remain"
        )
    return ""


def _stateful_set_lacks(status: WorkloadStatus, wanted: int) -> str:
    if status.ready_replicas < wanted:
        return f"{status.ready_replicas} of {wanted} pods are ready"
    if status.update_revision not in {"", status.current_revision}:
        return f"{status.updated_replicas} of {wanted} pods are new"
    return ""


def _daemon_set_lacks(status: WorkloadStatus, _wanted: int) -> str:
    desired = status.desired_number_scheduled
    new, available = status.updated_number_scheduled, status.number_available
    if new < desired or available < desired:
        return f"{new} of {desired} pods are new, {available} are available"
    return ""


_MISSING: Final = {
    "deployments": _deployment_lacks,
    "statefulsets": _stateful_set_lacks,
    "daemonsets": _daemon_set_lacks,
}


def _refusal(method: str, path: str, status: int, body: bytes) -> str:
    try:
        said = msgspec.json.decode(body, type=_Refusal).message[:300]
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = body[:300].decode("utf-8", "replace")
    match status:
        case 401:
            return f"the API server does not know our token: {said}"
        case 403:
            return f"promheal's service account may not {method.lower()} {path}: {said}"
        case 404:
            return f"the cluster has no {path}, nothing was touched: {said}"
        case _:
            return f"{method} {path} answered {status}: {said}"
