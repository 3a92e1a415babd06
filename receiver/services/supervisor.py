"""Services under supervisord, through its XML-RPC interface.

Its unix socket or its HTTP port is asked, with the same rights as supervisorctl. Starting and
stopping are only requested, and the state is polled: a call that waits would hold until
supervisord lets go of it, whatever our deadline is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from receiver.clients.http import NoReplyError
from receiver.errors import ActionError
from receiver.policy.http_config import PLAIN, BasicAuth, HTTPConfig
from receiver.policy.texts import AnyUrl, FilePath
from receiver.services import ServiceState, ServiceStatus

if TYPE_CHECKING:  # XML takes half a MiB, and not everybody has a supervisord
    from receiver.services.supervisord import ProcessInfo, SupervisordClient

_POLL: Final = 0.05  # seconds
_TAIL: Final = 2000  # bytes of its stderr that are shown when it does not start

_STATES: Final = {  # http://supervisord.org/subprocess.html#process-states
    "STOPPED": ServiceState.STOPPED,
    "STARTING": ServiceState.STARTING,
    "RUNNING": ServiceState.RUNNING,
    "BACKOFF": ServiceState.STARTING,
    "STOPPING": ServiceState.STOPPED,
    "EXITED": ServiceState.STOPPED,
    "FATAL": ServiceState.FAILED,
    "UNKNOWN": ServiceState.FAILED,
}
DOWN: Final = frozenset({"STOPPED", "EXITED", "FATAL"})
"""Those that stay down until somebody starts them."""
_WORST_FIRST: Final = (
    ServiceState.FAILED,
    ServiceState.STOPPED,
    ServiceState.STARTING,
    ServiceState.RUNNING,
)


class Supervisor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program of a supervisord, or with `group:*` all programs of one of its groups."""

    process: str
    """As supervisorctl shows it: `name`, `group:name`, or `group:*` for all of a group."""
    socket: FilePath | None = None
    """`file` in its `[unix_http_server]`. Either this or `url`."""
    url: AnyUrl | None = None
    """The address of its `[inet_http_server]`."""
    username: str | None = None
    """With `password_file`."""
    password_file: FilePath | None = None
    """A file that holds the password; read at each use."""

    def __post_init__(self) -> None:
        if (self.socket is None) == (self.url is None):
            raise ValueError("write either `socket` or `url`, to say where supervisord listens")
        if (self.username is None) != (self.password_file is None):
            raise ValueError("`username` and `password_file` go together")
        if self.url is not None and not _is_address(self.url):
            raise ValueError(f"{self.url!r} is no address; write for example http://127.0.0.1:9001")

    def status(self, *, timeout: float) -> ServiceStatus:
        with self.connected(time.monotonic() + timeout) as client:
            return _status(client.infos(self.process))

    def restart(self, *, timeout: float) -> ServiceStatus:
        deadline = time.monotonic() + timeout
        with self.connected(deadline) as client:
            names = [info.full_name for info in client.infos(self.process)]
            for name in names:
                client.stop(name)
            self._wait_stopped(client, deadline)
            for name in names:
                client.start(name)
            return self._wait_running(client, deadline)

    def _wait_stopped(self, client: SupervisordClient, deadline: float) -> None:
        while True:
            infos = client.infos(self.process)
            if all(info.statename in DOWN for info in infos):
                return
            if time.monotonic() >= deadline:
                raise ActionError(
                    f"supervisord did not stop {self.process!r} in time, so it was not started "
                    f"again: {_status(infos).detail}; allow more than its stopwaitsecs"
                )
            time.sleep(_POLL)

    def _wait_running(self, client: SupervisordClient, deadline: float) -> ServiceStatus:
        while True:
            infos = client.infos(self.process)
            late = time.monotonic() >= deadline
            for info in infos:
                # After BACKOFF supervisord itself tries again, until FATAL: that may still succeed.
                if info.statename in DOWN:
                    raise _failed(client, info, "does not stay up")
                if late and info.statename != "RUNNING":
                    raise _failed(client, info, "did not run in time")
            if all(info.statename == "RUNNING" for info in infos):
                return _status(infos)
            time.sleep(_POLL)

    @contextmanager
    def connected(self, deadline: float) -> Iterator[SupervisordClient]:
        """Give a client, and translate what goes wrong with it into ActionError."""
        from xmlrpc.client import Fault, ProtocolError  # noqa: PLC0415

        from receiver.services.supervisord import (  # noqa: PLC0415
            BAD_NAME,
            NO_SUPERVISORD,
            SupervisordClient,
        )

        where = f"supervisord at {self.socket or self.url}"
        client = SupervisordClient(
            self.url, self.http_config, socket_path=self.socket or "", deadline=deadline
        )
        try:
            yield client
        except Fault as fault:
            if fault.faultCode == BAD_NAME:
                raise ActionError(
                    f"{where} has no process {self.process!r}; `supervisorctl status` lists them"
                ) from None
            raise ActionError(
                f"{where} refused for {self.process!r}: {fault.faultString}"
            ) from None
        except ProtocolError as error:
            hint = "; check `username` and `password_file`" if error.errcode == 401 else ""
            raise ActionError(f"{where} answered {error.errcode} {error.errmsg}{hint}") from None
        except NoReplyError as error:
            raise ActionError(_without_reply(where, error)) from None
        except NO_SUPERVISORD as error:
            raise ActionError(_no_supervisord(where, error)) from None
        finally:
            client.close()

    @property
    def http_config(self) -> HTTPConfig:
        """Who we are to it."""
        if self.username is None or self.password_file is None:
            return PLAIN
        login = BasicAuth(username=self.username, password_file=self.password_file)
        return HTTPConfig(basic_auth=login)


def _without_reply(where: str, error: NoReplyError) -> str:
    if error.unsent:
        return str(error)
    if error.late:
        return f"{where} did not answer in time"
    if isinstance(error.cause, OSError):
        return f"{where} cannot be reached: {error.words}"
    return _no_supervisord(where, error.cause)


def _no_supervisord(where: str, error: BaseException) -> str:
    return f"what answers as {where} is none: {type(error).__name__} {error}"


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _status(infos: list[ProcessInfo]) -> ServiceStatus:
    """Return the state of all: that of the worst, with the pid when there is only one."""
    states = {_STATES.get(info.statename, ServiceState.FAILED) for info in infos}
    return ServiceStatus(
        state=next(state for state in _WORST_FIRST if state in states),
        detail=", ".join(info.words for info in infos[:20]),
        pid=infos[0].pid or None if len(infos) == 1 else None,
    )


def _failed(client: SupervisordClient, info: ProcessInfo, problem: str) -> ActionError:
    """Return the error that tells why a program does not run, with the end of its stderr."""
    tail = client.stderr(info.full_name, _TAIL)
    return ActionError(f"{info.full_name} was started, but {problem}: {info.words}", output=tail)
