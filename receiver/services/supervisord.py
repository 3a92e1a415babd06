"""The XML-RPC interface of supervisord, as far as it is called: http://supervisord.org/api.html."""

from __future__ import annotations

import time
import xmlrpc.client
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final
from xml.parsers.expat import ExpatError

import msgspec

from receiver.clients.http import HTTPClient
from receiver.policy.http_config import HTTPConfig

_MAX_ANSWER: Final = 1 << 20  # bytes

BAD_NAME: Final = 10  # supervisor/xmlrpc.py, class Faults
_SPAWN_ERROR: Final = 50
_ALREADY_STARTED: Final = 60
_NOT_RUNNING: Final = 70

NO_SUPERVISORD: Final = (
    ExpatError,
    ValueError,
    msgspec.ValidationError,
    xmlrpc.client.Error,
)
"""What reading an answer raises that supervisord would not give."""


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True):
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


class SupervisordClient:
    """A connection to supervisord."""

    def __init__(
        self, url: str | None, config: HTTPConfig, *, socket_path: str, deadline: float
    ) -> None:
        client = HTTPClient(config, keep_alive=True, socket_path=socket_path)
        self._transport = _Transport(url or "http://supervisord", client, deadline)
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

    def stderr(self, name: str, most: int) -> str:
        """Return the last *most* bytes of its stderr; nothing where its log is not kept."""
        with suppress(xmlrpc.client.Error, OSError):
            tail, _, _ = self.call("tailProcessStderrLog", name, 0, most)
            return str(tail)
        return ""

    def infos(self, process: str) -> list[ProcessInfo]:
        """Return what supervisord knows of the process, or of each of `group:*`."""
        group, _, name = process.partition(":")
        if name != "*":
            return [msgspec.convert(self.call("getProcessInfo", process), ProcessInfo)]
        found = msgspec.convert(self.call("getAllProcessInfo"), list[ProcessInfo])
        members = [info for info in found if info.group == group]
        if not members:
            raise xmlrpc.client.Fault(BAD_NAME, f"BAD_NAME: {process}")
        return members

    def close(self) -> None:
        self._transport.close()


class _Transport(xmlrpc.client.Transport):
    """Carries calls over HTTP, within a deadline."""

    def __init__(self, url: str, client: HTTPClient, deadline: float) -> None:
        super().__init__()
        self._url = url.rstrip("/")
        self._client = client
        self._deadline = deadline

    def request(
        self,
        host: Any,  # noqa: ARG002  it is made up
        handler: str,
        request_body: Any,
        verbose: bool = False,  # noqa: ARG002, FBT001, FBT002  the base's
    ) -> tuple[Any, ...]:
        reply = self._client.request(
            "POST",
            self._url + handler,
            # A call that was let through at the last moment still gets the time for its answer.
            timeout=max(self._deadline - time.monotonic(), 1.0),
            most=_MAX_ANSWER,
            headers={"Content-Type": "text/xml"},
            data=request_body,
        )
        if reply.status != HTTPStatus.OK:
            raise xmlrpc.client.ProtocolError("supervisord", reply.status, reply.reason, {})
        if reply.cut:
            raise xmlrpc.client.ResponseError
        parser, unmarshaller = self.getparser()
        parser.feed(reply.body)
        parser.close()
        return unmarshaller.close()

    def close(self) -> None:
        self._client.close()
