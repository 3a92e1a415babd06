"""Services under supervisord, through its XML-RPC interface.

Its unix socket or its HTTP port is asked, with the same rights as supervisorctl. Starting and
stopping are only requested, and the state is polled: a call that waits would hold until
supervisord lets go of it, whatever our deadline is.
http://supervisord.org/api.html
"""

from __future__ import annotations

import http.client
import socket
import time
import xmlrpc.client
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from xml.parsers.expat import ExpatError

import msgspec

from receiver.errors import ActionError
from receiver.policy.texts import AnyUrl, FilePath
from receiver.redaction import known
from receiver.services import ServiceState, ServiceStatus

_POLL: Final = 0.05  # seconds
_MAX_ANSWER: Final = 1 << 20  # bytes
_TAIL: Final = 2000  # bytes of its stderr that are shown when it does not start

_BAD_NAME: Final = 10  # supervisor/xmlrpc.py, class Faults
_SPAWN_ERROR: Final = 50
_ALREADY_STARTED: Final = 60
_NOT_RUNNING: Final = 70

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

    def _wait_stopped(self, client: Client, deadline: float) -> None:
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

    def _wait_running(self, client: Client, deadline: float) -> ServiceStatus:
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
    def connected(self, deadline: float) -> Iterator[Client]:
        """Give a client, and translate what goes wrong with it into ActionError."""
        where = f"supervisord at {self.socket or self.url}"
        client = Client(self, deadline)
        try:
            yield client
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == _BAD_NAME:
                raise ActionError(
                    f"{where} has no process {self.process!r}; `supervisorctl status` lists them"
                ) from None
            raise ActionError(
                f"{where} refused for {self.process!r}: {fault.faultString}"
            ) from None
        except xmlrpc.client.ProtocolError as error:
            hint = "; check `username` and `password_file`" if error.errcode == 401 else ""
            raise ActionError(f"{where} answered {error.errcode} {error.errmsg}{hint}") from None
        except TimeoutError:
            raise ActionError(f"{where} did not answer in time") from None
        except OSError as error:
            raise ActionError(f"{where} cannot be reached: {error.strerror or error}") from None
        except _NO_SUPERVISORD as error:
            raise ActionError(
                f"what answers as {where} is none: {type(error).__name__} {error}"
            ) from None
        finally:
            client.close()

    def login(self) -> list[tuple[str, str]]:
        """Return the header of HTTP that carries the user's name and password, if there is one."""
        if self.username is None or self.password_file is None:
            return []
        try:
            password = Path(self.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ActionError(f"password_file {self.password_file!r}: {error}") from None
        login = b64encode(f"{self.username}:{known(password)}".encode()).decode()
        return [("Authorization", f"Basic {login}")]


_NO_SUPERVISORD: Final = (
    ExpatError,
    ValueError,
    http.client.HTTPException,
    msgspec.ValidationError,
    xmlrpc.client.Error,
)
"""What reading an answer raises that supervisord would not give."""


class _Info(msgspec.Struct, frozen=True, kw_only=True):
    """What supervisord knows of a program; getProcessInfo says more."""

    name: str
    group: str
    statename: str
    pid: int
    description: str = ""
    spawnerr: str = ""

    @property
    def full_name(self) -> str:
        return f"{self.group}:{self.name}"

    @property
    def words(self) -> str:
        return f"{self.full_name} {self.statename} ({self.spawnerr or self.description})"


class Client:
    """A connection to supervisord."""

    def __init__(self, manager: Supervisor, deadline: float) -> None:
        self._transport = _Transport(manager, deadline)
        self._proxy = xmlrpc.client.ServerProxy(
            "http://supervisord/RPC2", transport=self._transport
        )

    def call(self, method: str, *arguments: Any, tolerated: int | None = None) -> Any:
        """Return the answer of supervisor.*method*, or None for the *tolerated* fault."""
        try:
            return getattr(self._proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != tolerated:
                raise
            return None

    def stop(self, name: str) -> None:
        """Ask for its end, and do not wait."""
        self.call("stopProcess", name, False, tolerated=_NOT_RUNNING)

    def start(self, name: str) -> None:
        """Ask for its start, and do not wait."""
        try:
            self.call("startProcess", name, False, tolerated=_ALREADY_STARTED)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != _SPAWN_ERROR:
                raise
            # It ended before this call did. That is what BACKOFF is for: it is seen what follows.

    def infos(self, process: str) -> list[_Info]:
        """Return what supervisord knows of the process, or of each of `group:*`."""
        group, _, name = process.partition(":")
        if name != "*":
            return [msgspec.convert(self.call("getProcessInfo", process), _Info)]
        found = msgspec.convert(self.call("getAllProcessInfo"), list[_Info])
        members = [info for info in found if info.group == group]
        if not members:
            raise xmlrpc.client.Fault(_BAD_NAME, f"BAD_NAME: {process}")
        return members

    def close(self) -> None:
        self._transport.close()


class _Transport(xmlrpc.client.Transport):
    """Carries calls to where a manager says, within its deadline."""

    def __init__(self, manager: Supervisor, deadline: float) -> None:
        super().__init__(headers=manager.login())
        self._manager = manager
        self._deadline = deadline

    def make_connection(self, host: Any) -> http.client.HTTPConnection:  # noqa: ARG002  it is made up
        # A call that was let through at the last moment still gets the time for its answer.
        left = max(self._deadline - time.monotonic(), 1.0)
        if self._connection[1] is None:
            self._connection = ("", _connection(self._manager, left))
        connection = self._connection[1]
        assert connection is not None
        connection.timeout = left
        if connection.sock is not None:
            connection.sock.settimeout(left)
        return connection

    def single_request(
        self,
        host: Any,
        handler: str,
        request_body: Any,
        verbose: bool = False,  # noqa: FBT001, FBT002  the base's
    ) -> tuple[Any, ...]:
        """As the base does it, but that the answer is closed.

        A connection that ends with its answer belongs to it, and who keeps the error that came of
        it would keep it open.
        """
        try:
            connection = self.send_request(host, handler, request_body, verbose)
            with connection.getresponse() as response:
                return self.parse_response(response)
        except xmlrpc.client.Fault:
            raise  # was read to its end
        except Exception:
            self.close()
            raise

    def parse_response(self, response: Any) -> tuple[Any, ...]:
        if response.status != http.client.OK:
            raise xmlrpc.client.ProtocolError(
                "supervisord", response.status, response.reason, dict(response.headers)
            )
        parser, unmarshaller = self.getparser()
        size = 0
        while chunk := response.read(65536):
            size += len(chunk)
            if size > _MAX_ANSWER:
                raise xmlrpc.client.ResponseError
            parser.feed(chunk)
        parser.close()
        return unmarshaller.close()


def _connection(manager: Supervisor, timeout: float) -> http.client.HTTPConnection:
    if manager.socket is not None:
        return _UnixConnection(manager.socket, timeout)
    parts = urlsplit(manager.url or "")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=timeout)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _status(infos: list[_Info]) -> ServiceStatus:
    """Return the state of all: that of the worst, with the pid when there is only one."""
    states = {_STATES.get(info.statename, ServiceState.FAILED) for info in infos}
    return ServiceStatus(
        state=next(state for state in _WORST_FIRST if state in states),
        detail=", ".join(info.words for info in infos[:20]),
        pid=infos[0].pid or None if len(infos) == 1 else None,
    )


def _failed(client: Client, info: _Info, problem: str) -> ActionError:
    """Return the error that tells why a program does not run, with the end of its stderr."""
    tail = ""
    with suppress(xmlrpc.client.Error, OSError):  # its log is not kept: the state says enough
        tail, _, _ = client.call("tailProcessStderrLog", info.full_name, 0, _TAIL)
    return ActionError(f"{info.full_name} was started, but {problem}: {info.words}", output=tail)
