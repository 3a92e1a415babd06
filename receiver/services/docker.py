"""Containers, through the engine's API: Docker's, or Podman's, which speaks the same.

Three of its calls are enough: https://docs.docker.com/reference/api/engine/. Whoever may use its
socket is root on the machine; a TLS address may be given to a proxy that allows these three.
"""

from __future__ import annotations

import ssl
import time
from typing import Annotated, Any, Final

import msgspec

from receiver.duration import Duration
from receiver.errors import ActionError
from receiver.exchange import Reply, fetch
from receiver.services.manager import ServiceState, ServiceStatus

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
}


class Docker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    container: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$(?!\n)")]
    """Its name or id."""
    socket: str = "/var/run/docker.sock"
    """Of the engine; Podman's is /run/podman/podman.sock."""
    url: Annotated[str, msgspec.Meta(pattern="^https?://")] | None = None
    """Or its address, https:// with the three files."""
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    stop_timeout: Duration = 10.0
    """Seconds that it has to stop before it is killed."""

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("`cert_file` and `key_file` go together")

    def status(self, *, timeout: float) -> ServiceStatus:
        reply = self._ask("GET", "json", timeout)
        if reply.status != 200:
            raise self._refused(reply)
        return _status(self.container, self._decoded(reply.body))

    def restart(self, *, timeout: float) -> ServiceStatus:
        deadline = time.monotonic() + timeout
        # The answer comes when it is started again: that may take the whole of its stop time.
        patience = int(min(self.stop_timeout, max(0.0, timeout - 2)))
        reply = self._ask("POST", f"restart?t={patience}", timeout)
        if reply.status != 204:
            raise self._refused(reply)
        since = 0.0
        while True:
            found = self.status(timeout=max(0.1, deadline - time.monotonic()))
            if found.state is ServiceState.RUNNING:
                # What ends at once runs for a moment; a HEALTHCHECK says more than that.
                since = since or time.monotonic()
                if time.monotonic() - since >= _SETTLE or "health" in found.detail:
                    return found
            if found.state in {ServiceState.FAILED, ServiceState.STOPPED}:
                raise ActionError(f"{self.container} was restarted and ended: {found.detail}")
            if time.monotonic() + _POLL >= deadline:
                raise ActionError(f"{self.container} is not ready in time: {found.detail}")
            time.sleep(_POLL)

    def _ask(self, method: str, what: str, timeout: float) -> Reply:
        if timeout <= 0:
            raise ActionError("no time left to ask the engine")
        tls = None
        if self.url is not None and self.url.startswith("https://"):
            try:
                tls = ssl.create_default_context(cafile=self.ca_file)
                if self.cert_file is not None:
                    tls.load_cert_chain(self.cert_file, self.key_file)
            except (OSError, ssl.SSLError) as error:
                raise ActionError(f"the engine's certificates cannot be read: {error}") from None
        base = "http://docker" if self.url is None else self.url.rstrip("/")
        return fetch(
            method,
            f"{base}/containers/{self.container}/{what}",
            timeout=timeout,
            most=_MAX_ANSWER,
            tls=tls,
            socket_path=self.socket if self.url is None else "",
        )

    def _refused(self, reply: Reply) -> ActionError:
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


class _Container(msgspec.Struct):
    """What GET /containers/{id}/json says, as far as we read it."""

    State: _State
    RestartCount: int = 0


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
    if state.Health is not None and found is ServiceState.RUNNING:
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
