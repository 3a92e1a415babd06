"""Containers, through the engine's API: Docker's, or Podman's, which speaks the same.

Three of its calls are enough: https://docs.docker.com/reference/api/engine/. Whoever may use its
socket is root on the machine; a TLS address may be given to a proxy that allows these three.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

import msgspec

from receiver.clients.http_exchange import HTTPReply, fetch
from receiver.errors import ActionError
from receiver.policy.http_config import HTTPConfig, TLSConfig, with_ca_file
from receiver.policy.texts import Duration, FilePath, Url
from receiver.services.manager import ServiceState, ServiceStatus, answers

_MAX_ANSWER: Final = 4 * 1024 * 1024  # bytes
_POLL: Final = 0.2  # seconds
_SETTLE: Final = 1.0
"""Seconds that a container without a HEALTHCHECK must run."""
_STATES: Final = {
    "running": ServiceState.RUNNING,
    "created": ServiceState.STOPPED,
    "restarting": ServiceState.STARTING,
    "paused": ServiceState.STOPPED,
    "removing": ServiceState.STOPPED,
    "exited": ServiceState.STOPPED,
    "dead": ServiceState.FAILED,
    # Podman's own, libpod/define/containerstate.go
    "configured": ServiceState.STOPPED,
    "initialized": ServiceState.STARTING,
    "stopping": ServiceState.STOPPED,
    "stopped": ServiceState.STOPPED,
}
_BETWEEN: Final = frozenset({"stopping", "stopped"})
"""Podman's, before it has cleaned up: only then it is `exited`, or its policy starts it again."""


class Docker(HTTPConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    container: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$(?!\n)",
            examples=["shop-web-1"],
            extra={"type": "name or id"},
        ),
    ]
    """Its name or id."""
    socket: FilePath = "/var/run/docker.sock"
    """Of the engine; Podman's is `/run/podman/podman.sock`."""
    url: Annotated[Url, msgspec.Meta(examples=["http://127.0.0.1:2375"])] | None = None
    """Its address instead."""
    ca_file: FilePath | None = None
    """Short for `tls_config.ca_file`."""
    cert_file: Annotated[
        FilePath | None, msgspec.Meta(extra={"instead": "tls_config: {cert_file: …}"})
    ] = None
    """Deprecated, for `tls_config.cert_file`."""
    key_file: Annotated[
        FilePath | None, msgspec.Meta(extra={"instead": "tls_config: {key_file: …}"})
    ] = None
    """Deprecated, for `tls_config.key_file`."""
    stop_timeout: Duration = 10.0
    """What it has to stop before it is killed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("`cert_file` and `key_file` go together")

    @property
    def tls(self) -> TLSConfig:
        found = with_ca_file(self.tls_config, self.ca_file)
        if self.cert_file is None or found.cert_file:
            return found
        return msgspec.structs.replace(found, cert_file=self.cert_file, key_file=self.key_file)

    def status(self, *, timeout: float) -> ServiceStatus:
        return _status(self.container, self._read(timeout=timeout))

    def restart(self, *, timeout: float) -> ServiceStatus:
        deadline = time.monotonic() + timeout
        # The answer comes when it is started again: that may take the whole of its stop time.
        patience = int(min(self.stop_timeout, max(0.0, timeout - 2)))
        while (reply := self._ask("POST", f"restart?t={patience}", timeout)).status != 204:
            # Podman refuses one that somebody is just stopping.
            stopping = self._read(timeout=max(0.1, timeout)).State.Status == "stopping"
            timeout = deadline - time.monotonic()
            if not stopping or timeout <= _POLL:
                raise self._refused(reply)
            time.sleep(_POLL)
        process, since, last = 0, 0.0, "the engine did not say"
        for container in answers(self._read, deadline, every=_POLL):
            found = _status(self.container, container)
            last = found.detail
            if found.state is not ServiceState.RUNNING:
                process = 0
                if not _passes(container.State.Status, found.state):
                    raise ActionError(f"{self.container} was restarted, but {last}")
            elif container.State.healthy:
                return found
            elif container.State.Pid != process:
                # What ends at once runs for a moment, again and again with a restart policy.
                process, since = container.State.Pid, time.monotonic()
            elif time.monotonic() - since >= _SETTLE:
                return found
        raise ActionError(f"{self.container} is not ready in time: {last}")

    def _read(self, *, timeout: float) -> _Container:
        reply = self._ask("GET", "json", timeout)
        if reply.status != 200:
            raise self._refused(reply)
        return self._decoded(reply.body)

    def _ask(self, method: str, what: str, timeout: float) -> HTTPReply:
        if timeout <= 0:
            raise ActionError("no time left to ask the engine")
        base = "http://docker" if self.url is None else self.url.rstrip("/")
        return fetch(
            method,
            f"{base}/containers/{self.container}/{what}",
            timeout=timeout,
            most=_MAX_ANSWER,
            config=self,
            socket_path=self.socket if self.url is None else "",
        )

    def _refused(self, reply: HTTPReply) -> ActionError:
        if reply.status == 404:
            return ActionError(
                f"the engine has no container {self.container!r}; `docker ps --all` lists them"
            )
        said = reply.body.decode("utf-8", "replace")[:300]
        return ActionError(f"the engine answered {reply.status} for {self.container!r}: {said}")

    def _decoded(self, body: bytes) -> _Container:
        try:
            return msgspec.json.decode(body, type=_Container)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ActionError(f"what answers for the engine is none: {error}") from None


class _Health(msgspec.Struct):
    Status: str = "none"
    Log: list[dict[str, Any]] | None = None


class _State(msgspec.Struct):
    Status: str
    Pid: int = 0
    ExitCode: int = 0
    OOMKilled: bool = False
    Error: str = ""
    Health: _Health | None = None

    @property
    def checked(self) -> bool:
        """Whether it has a HEALTHCHECK: without one Docker says nothing, or none, and Podman ''."""
        return self.Health is not None and self.Health.Status not in {"", "none"}

    @property
    def healthy(self) -> bool:
        return self.Health is not None and self.Health.Status == "healthy"


class _Container(msgspec.Struct):
    """What GET /containers/{id}/json says, as far as we read it."""

    State: _State
    RestartCount: int = 0


def _passes(status: str, state: ServiceState) -> bool:
    """Whether a container that does not run is on its way to another state."""
    return state is ServiceState.STARTING or status in _BETWEEN


def _status(name: str, container: _Container) -> ServiceStatus:
    state = container.State
    found = _STATES.get(state.Status, ServiceState.FAILED)
    words = [f"{name} is {state.Status}"]
    if state.OOMKilled:
        words.append("the kernel killed it for its memory")
    if found is not ServiceState.RUNNING and state.ExitCode:
        words.append(f"exit code {state.ExitCode}")
    if state.Error:
        words.append(state.Error)
    if container.RestartCount:
        words.append(f"restarted {container.RestartCount} times by its policy")
    if state.Health is not None and state.checked and found is ServiceState.RUNNING:
        words.append(f"health {state.Health.Status}")
        match state.Health.Status:
            case "starting":
                found = ServiceState.STARTING
            case "unhealthy":
                found = ServiceState.FAILED
                last = (state.Health.Log or [{}])[-1]
                words.append(str(last.get("Output", "")).strip())
            case _:
                pass
    return ServiceStatus(state=found, detail=", ".join(words)[:1000], pid=state.Pid or None)
