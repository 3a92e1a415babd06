"""Other processes that carry work; a journal in a file has none, so there this has no effect."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from receiver.journal.statements import Statements
from receiver.policy.target import Key


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A process that carries work, where there are several."""

    id: str
    host: str
    machine: str = ""
    """Which machine or container: its other processes can see whether this one lives."""
    pid: int = 0
    born: int = 0
    """When the process was started, in ticks since the machine was."""
    names: tuple[str, ...]
    """What it executes steps for; `` for runs that are bound to no host."""
    version: str
    seen: float
    """When it was last heard of, seconds since the epoch by the server's clock."""


class WorkerRows(Statements):
    def wake(self, keys: Iterable[Key], at: float | None = None, *, idle: bool = False) -> set[str]:  # noqa: ARG002
        """Have *keys* considered at *at*, or as soon as can be, when this transaction is durable.

        *idle*: only those that are not to be considered at any time yet. Returns the queues in
        which jobs were put; none where the engine is in this process, and woken by its own `wake`.
        """
        return set()

    def hold(self, target: str, seconds: float) -> None:
        """Keep a target that is being considered from others for so long, heard of or not."""

    def has_worker(self, name: str) -> bool:  # noqa: ARG002
        """Whether a living process executes steps for this host or label."""
        return False

    def workers(self) -> list[Worker]:
        """Return the living processes that carry work."""
        return []
