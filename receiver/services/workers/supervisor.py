"""Workers that are the programs of a supervisord group (`numprocs`): so many of them run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from receiver.policy.texts import AnyUrl, FilePath
from receiver.services.supervisor import DOWN, Supervisor
from receiver.services.workers import Counted, Scaled

if TYPE_CHECKING:  # see there
    from receiver.services.supervisord import SupervisordClient

_WANTED: Final = frozenset({"STARTING", "RUNNING", "BACKOFF"})
"""Those that supervisord keeps up, or tries to."""


class SupervisorGroup(Scaled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    group: str
    """The group, as supervisorctl shows it before the colon."""
    socket: FilePath | None = None
    """`file` in its `[unix_http_server]`. Either this or `url`."""
    url: AnyUrl | None = None
    """The address of its `[inet_http_server]`."""
    username: str | None = None
    """With `password_file`."""
    password_file: FilePath | None = None
    """A file that holds the password; read at each use."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._supervisor  # noqa: B018  it checks where supervisord is

    @property
    def _supervisor(self) -> Supervisor:
        return Supervisor(
            process=f"{self.group}:*",
            socket=self.socket,
            url=self.url,
            username=self.username,
            password_file=self.password_file,
        )

    def look(self, *, timeout: float) -> Counted:
        with self._supervisor.connected(time.monotonic() + timeout) as client:
            states = [info.statename for info in client.infos(f"{self.group}:*")]
        # One that stops may still work. One that is FATAL nobody tries to start any more.
        return Counted(
            wanted=sum(state in _WANTED for state in states),
            ready=states.count("RUNNING"),
            leaving=states.count("STOPPING"),
        )

    def step(self, wanted: int, *, timeout: float) -> None:
        with self._supervisor.connected(time.monotonic() + timeout) as client:
            self._towards(client, wanted)

    def _towards(self, client: SupervisordClient, wanted: int) -> None:
        infos = sorted(client.infos(f"{self.group}:*"), key=lambda info: info.name)
        # Those that work come first, so that they are stopped last.
        up = sorted(
            (info for info in infos if info.statename in _WANTED),
            key=lambda info: info.statename != "RUNNING",
        )
        down = [info for info in infos if info.statename in DOWN]
        for info in up[wanted:]:
            client.stop(info.full_name)
        for info in down[: max(0, wanted - len(up))]:
            client.start(info.full_name)

    def probe(self, *, timeout: float) -> list[str]:
        with self._supervisor.connected(time.monotonic() + timeout) as client:
            there = len(client.infos(f"{self.group}:*"))
        if there < self.max:
            return [f"the group has only {there} programs, and max is {self.max}: raise numprocs"]
        return []
