"""Who starts and stops a service, and what does it say? The port; managers.py has the kinds."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec


class ServiceState(StrEnum):
    RUNNING = "running"
    STARTING = "starting"
    STOPPED = "stopped"
    FAILED = "failed"


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    state: ServiceState
    detail: str = ""
    """What the manager said, for the operator."""
    pid: int | None = None


class Manager(Protocol):
    """Who starts and stops a service. One implementation a file of this package."""

    def status(self, *, timeout: float) -> ServiceStatus:
        """Ask. Raises ActionError when the manager cannot be asked within *timeout* seconds."""

    def restart(self, *, timeout: float) -> ServiceStatus:
        """Stop and start, and return when the manager says that it runs.

        Raises ActionError, with the reason, when that is not so within *timeout* seconds.
        """
