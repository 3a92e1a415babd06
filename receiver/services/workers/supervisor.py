"""Workers that are the programs of a supervisord group (`numprocs`): so many of them run."""

from __future__ import annotations

import time

from receiver.services.supervisor import Client, Supervisor
from receiver.services.workers import Scaled

_UP = frozenset({"STARTING", "RUNNING", "BACKOFF"})


class SupervisorGroup(Scaled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    group: str
    """As supervisorctl shows it, before the colon."""
    socket: str | None = None
    url: str | None = None
    username: str | None = None
    password_file: str | None = None

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

    def count(self, *, timeout: float) -> int:
        with self._supervisor.connected(time.monotonic() + timeout) as client:
            infos = client.infos(f"{self.group}:*")
        # One that is in BACKOFF does not work, and one that stops may still.
        return sum(info.statename in {"RUNNING", "STOPPING"} for info in infos)

    def step(self, now: int, wanted: int, *, timeout: float) -> None:  # noqa: ARG002
        with self._supervisor.connected(time.monotonic() + timeout) as client:
            self._towards(client, wanted)

    def _towards(self, client: Client, wanted: int) -> None:
        infos = sorted(client.infos(f"{self.group}:*"), key=lambda info: info.name)
        up = [info for info in infos if info.statename in _UP]
        down = [
            info for info in infos if info.statename not in _UP and info.statename != "STOPPING"
        ]
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
