"""What may be touched, and through whom? The inventory of `services.yml` and its managers.

An alert's label chooses an entry here; it never becomes part of a command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Protocol

import msgspec

from receiver.duration import Duration
from receiver.errors import ActionError


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


class Health(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A URL that answers 2xx when the service is ready."""

    url: Annotated[str, msgspec.Meta(pattern="^https?://")]
    timeout: Annotated[Duration, msgspec.Meta(gt=0)] = 2.0
    """For one question; it is asked again until the action's own deadline."""


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the inventory."""

    name: str
    manager: Manager
    health: Health | None = None


class Inventory:
    """The services by name, and the URLs that may be called."""

    def __init__(self, services: Mapping[str, Service], allowed_urls: Sequence[str] = ()) -> None:
        self._services = dict(services)
        self.allowed_urls = tuple(allowed_urls)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._services)

    def get(self, name: str) -> Service:
        """Return the service, or raise ActionError that names those that exist."""
        try:
            return self._services[name]
        except KeyError:
            known = ", ".join(sorted(self._services)[:20]) or "none"
            raise ActionError(
                f"no service {name!r} in services.yml, nothing was touched; known: {known}"
            ) from None
