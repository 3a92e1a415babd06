"""Which process does what to a run, and when is it looked at again?"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

import msgspec

from receiver.policy.run import State

LEASE: Final = 20.0
"""Seconds for which a process that is not heard of keeps what it has in hand."""
UNBOUND: Final = ""
"""Of a run whose steps may be executed wherever is decided."""
NAME: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
LABEL: Final = f"[A-Za-z_][A-Za-z0-9_]{{0,99}}={NAME}"

_NAME: Final = re.compile(NAME)


class Duty(StrEnum):
    DECIDE = "decide"
    """Ask Prometheus and Alertmanager: to decide, or to verify."""
    EXECUTE = "execute"
    """Call the actions of steps, where the run is bound to."""


DUTIES: Final[dict[State, Duty | None]] = {
    State.PENDING: Duty.DECIDE,
    State.ACTING: Duty.EXECUTE,
    State.WAITING: Duty.EXECUTE,
    State.VERIFYING: Duty.DECIDE,
    State.ROLLING_BACK: Duty.EXECUTE,
    State.FINISHED: None,
}
"""What a run needs in each state; SQL routes by the same (`routes` in queries_postgres.sql)."""


class ProcessRole(msgspec.Struct, frozen=True):
    """What one process is there for."""

    executes: frozenset[str] = frozenset({UNBOUND})
    """The steps of runs that are bound to one of these hosts or labels; UNBOUND: to none."""
    decides: bool = True
    """It decides and verifies: it can ask Prometheus and Alertmanager."""

    def carries(self, state: State, runs_on: str) -> bool:
        """Return whether it carries a run that is in *state* and bound to *runs_on*."""
        match DUTIES[state]:
            case Duty.DECIDE:
                return self.decides
            case Duty.EXECUTE:
                return runs_on in self.executes
            case None:
                return True


EVERYWHERE: Final = ProcessRole()
"""The one process that does it all."""


class At(msgspec.Struct, frozen=True):
    """Look again at *time*, seconds since the epoch, or as soon as can be when that is over."""

    time: float


class HandOver(msgspec.Struct, frozen=True):
    """Another process must look: one of those that decide, or of those for *runs_on*."""

    runs_on: str = UNBOUND


class Rest(msgspec.Struct, frozen=True):
    """Only an event brings it up again."""


Next = At | HandOver | Rest
"""What follows when one strategy on one target was considered."""


def host_of(value: str) -> str:
    """Return the host of a label such as `instance`: without its port. Empty when it is no name."""
    host, _, port = value.rpartition(":")
    name = host if host and port.isdecimal() else value
    return name if _NAME.fullmatch(name) else ""
