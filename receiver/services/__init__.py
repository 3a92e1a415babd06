"""What may be acted on, and how? The inventory of `services.yml` and its managers.

An alert's label chooses an entry here; it never becomes part of a command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Protocol, runtime_checkable

import msgspec

from receiver.errors import ActionError
from receiver.policy.role import LABEL, NAME, UNBOUND, host_of
from receiver.policy.texts import Duration, FilePath, Url
from receiver.services.manager import Manager as Manager
from receiver.services.manager import ServiceState as ServiceState
from receiver.services.manager import ServiceStatus as ServiceStatus
from receiver.services.settings_file import SettingsFile
from receiver.services.workers import Counted


@runtime_checkable
class SupportsProbe(Protocol):
    """A manager or another part of a service that can be checked before it is needed."""

    def probe(self, *, timeout: float) -> Iterable[str]:
        """Yield what keeps it from working, each with its remedy. Nothing is changed.

        Raises ActionError when that cannot be found out within *timeout* seconds.
        """


class Workers(Protocol):
    """The workers of a service, which can be counted and scaled; kinds in workers/kinds.py."""

    @property
    def min(self) -> int:
        """No action goes below it."""

    @property
    def max(self) -> int:
        """No action goes above it."""

    def count(self, *, timeout: float) -> Counted:
        """Return how many are wanted, and how many of these work.

        Raises ActionError when that cannot be told in time.
        """

    def scale(self, wanted: int, *, lacking: int = 0, timeout: float) -> Counted:
        """Have *wanted* of them, and return what is there when that is reached.

        *lacking* of them may not work, as they did not before. Raises ActionError, with what is
        there, when it is not reached within *timeout* seconds. It may be called again.
        """


class Cache(Protocol):
    """A cache of a service; kinds in caches.py."""

    def clear(self, *, timeout: float) -> dict[str, Any]:
        """Remove what it is configured for; return what went, as JSON. It may be called again.

        Raises ActionError when that did not succeed within *timeout* seconds.
        """


class Queue(Protocol):
    """A queue of a service's tasks; kinds in queues.py."""

    def redistribute(self, *, timeout: float) -> dict[str, Any]:
        """Give back what dead workers hold to those who wait; return what moved, as JSON.

        No task is lost or doubled, wherever it is interrupted; it may be called again. Raises
        ActionError when it did not succeed within *timeout* seconds.
        """


class Health(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A URL that answers 2xx when the service is ready."""

    url: Annotated[Url, msgspec.Meta(examples=["http://127.0.0.1:8080/health"])]
    """Answers 2xx when the service is ready. With `health`, a restart is done only then."""
    timeout: Annotated[Duration, msgspec.Meta(gt=0)] = 2.0
    """For one question; it is asked again until the step's own timeout."""


class Llm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The providers of language models that a service can use."""

    providers: Annotated[
        tuple[str, ...],
        msgspec.Meta(min_length=2, extra={"type": "list of two texts or more"}),
    ]
    """As the service calls them, in the order in which [`fallback_llm`](actions/fallback_llm.md)
    turns to them."""


class HostLabel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A label of the alert that names the host, such as `instance`; a port at its end is cut."""

    label: Annotated[str, msgspec.Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$", examples=["instance"])]


RunsOn = Annotated[str, msgspec.Meta(pattern=f"^({NAME}|{LABEL})$", examples=["web-1"])]
"""A host, or a label of its worker: `web-1`, `zone=a`."""
LogPath = Annotated[FilePath, msgspec.Meta(pattern="^/", examples=["/var/log/shop.log"])]


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the inventory."""

    name: str
    manager: Annotated[
        Manager, msgspec.Meta(extra={"type": "one [manager](configuration.md#managers)"})
    ]
    """Who starts and stops it."""
    health: Health | None = None
    workers: (
        Annotated[Workers, msgspec.Meta(extra={"type": "[workers](configuration.md#workers)"})]
        | None
    ) = None
    """Who do its work, and how many there may be."""
    settings: SettingsFile | None = None
    llm: Llm | None = None
    cache: (
        Annotated[Cache, msgspec.Meta(extra={"type": "one [cache](configuration.md#caches)"})]
        | None
    ) = None
    """What [`clear_cache`](actions/clear_cache.md) removes."""
    queue: (
        Annotated[Queue, msgspec.Meta(extra={"type": "one [queue](configuration.md#queues)"})]
        | None
    ) = None
    """Whose tasks [`redistribute_tasks`](actions/redistribute_tasks.md) gives back."""
    logs: LogPath | None = None
    """The whole path of its log, of which [`snapshot`](actions/snapshot.md) keeps the end."""
    runs_on: RunsOn | HostLabel | None = None
    """[Where it is touched](configuration.md#where-it-is-touched): a host, a label of its worker,
    or `{label: NAME}`."""

    def place(self, labels: Mapping[str, str]) -> str:
        """Return whose worker touches it for an alert with *labels*.

        Raises ActionError when the alert's label names no host.
        """
        if not isinstance(self.runs_on, HostLabel):
            return self.runs_on or UNBOUND
        host = host_of(labels.get(self.runs_on.label, ""))
        if not host:
            raise ActionError(
                f"{self.name} runs on the host that the alert's label {self.runs_on.label!r} "
                "names, and it names none"
            )
        return host


class Inventory:
    """The services by name, the URLs that may be called, and the channels' names."""

    def __init__(
        self,
        services: Mapping[str, Service],
        allowed_urls: Sequence[str] = (),
        channels: Sequence[str] = (),
    ) -> None:
        self._services = dict(services)
        self.allowed_urls = tuple(allowed_urls)
        self.channels = tuple(channels)

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
