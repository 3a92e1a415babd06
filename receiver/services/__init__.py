"""What may be touched, and through whom? The inventory of `services.yml` and its managers.

An alert's label chooses an entry here; it never becomes part of a command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Protocol

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


class Workers(Protocol):
    """Who does a service's work, and how many of them there are. Its kinds are in parts.py."""

    @property
    def min(self) -> int:
        """No action goes below it."""

    @property
    def max(self) -> int:
        """No action goes above it."""

    def count(self, *, timeout: float) -> int:
        """Return how many there are. Raises ActionError when that cannot be told in time."""

    def scale(self, count: int, *, timeout: float) -> int:
        """Have *count* of them, and return how many there are when that is reached.

        Raises ActionError, with the number that was reached, when it is not within *timeout*
        seconds. It may be called again.
        """


class Cache(Protocol):
    """What a service keeps and can do without. Its kinds are in parts.py."""

    def clear(self, *, timeout: float) -> dict[str, Any]:
        """Remove what it is configured for; return what went, as JSON. It may be called again.

        Raises ActionError when that did not succeed within *timeout* seconds.
        """


class Queue(Protocol):
    """Where a service's tasks wait. Its kinds are in parts.py."""

    def redistribute(self, *, timeout: float) -> dict[str, Any]:
        """Give back what dead workers hold to those who wait; return what moved, as JSON.

        Nothing is lost and nothing is twice, wherever it is cut; it may be called again. Raises
        ActionError when it did not succeed within *timeout* seconds.
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
