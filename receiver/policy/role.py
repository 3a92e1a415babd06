"""Where is a step executed, and where is decided?"""

from __future__ import annotations

import re
from typing import Final

import msgspec

LEASE: Final = 20.0
"""Seconds for which a process that is not heard of keeps what it has in hand."""
UNBOUND: Final = ""
"""Of a run whose steps may be executed wherever is decided."""
NAME: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
LABEL: Final = f"[A-Za-z_][A-Za-z0-9_]{{0,99}}={NAME}"

_NAME: Final = re.compile(NAME)


class ProcessRole(msgspec.Struct, frozen=True):
    """What one process is there for."""

    executes: frozenset[str] = frozenset({UNBOUND})
    """The steps of runs that are bound to one of these hosts or labels; UNBOUND: to none."""
    decides: bool = True
    """It decides and verifies: it can ask Prometheus and Alertmanager."""


EVERYWHERE: Final = ProcessRole()
"""The one process that does it all."""


def host_of(value: str) -> str:
    """Return the host of a label such as `instance`: without its port. Empty when it is no name."""
    host, _, port = value.rpartition(":")
    name = host if host and port.isdecimal() else value
    return name if _NAME.fullmatch(name) else ""
