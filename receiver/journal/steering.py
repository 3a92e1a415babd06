"""What stops us, and who steers? The part of the journal's port that guards and operators use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

import msgspec

from receiver.policy.breaker import Breaker, BreakerState, Happening
from receiver.policy.dormancy import Dormancy
from receiver.policy.scope import stored_scope
from receiver.policy.target import Key


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Someone wants nothing to begin, everywhere or in one place."""

    id: int
    scope: str
    """`all`, `strategy:NAME` or `target:MATCHERS`, as `receiver.policy.scope` reads it."""
    reason: str
    by: str
    since: float
    until: float | None
    """When it ends by itself; None: when someone resumes."""

    def covers(self, key: Key) -> bool:
        return stored_scope(self.scope).covers(*key)


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """One change by an operator."""

    id: int
    at: float
    by: str
    action: str
    object: str
    """What was changed: a scope, a breaker's name, `run 7`, a task."""
    reason: str
    detail: str
    """What came of it."""


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """Something that changed a breaker, and what it became."""

    breaker: str
    happening: Happening
    state: BreakerState


class Illness(msgspec.Struct, frozen=True):
    """How many targets of one strategy are ill, counted no further than needed."""

    ill: int
    treated: int
    """Of these, others than the asking one that are being healed, or were in vain."""


class Untold(msgspec.Struct, frozen=True):
    """Something about a run that people may have to be told."""

    id: int
    run: int
    what: Literal["asked", "ended"]
    """It waits for a person's approval, or it has an outcome."""


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """What promheal's clock showed at one moment of the machine's uptime."""

    boot: str
    """Which boot: the kernel's boot id."""
    boottime: float
    """Seconds of CLOCK_BOOTTIME."""
    at: float
    """Seconds since the epoch, by promheal's clock."""


class Steering(ABC):
    """Reads and writes of a transaction, as all in receiver.journal."""

    # -- what stops us

    @abstractmethod
    def breaker(self, name: str) -> Breaker: ...

    @abstractmethod
    def breakers(self) -> Mapping[str, Breaker]:
        """Return those that have something to remember, by name."""

    @abstractmethod
    def happen(self, name: str, happening: Happening) -> BreakerState | None:
        """Tell a breaker what happened; return its state if that changed, and None if not."""

    @abstractmethod
    def transitions(
        self, *, run: int | None = None, breaker: str | None = None
    ) -> list[Transition]:
        """Everything that changed this breaker, or that this run changed, in order."""

    @abstractmethod
    def dormancy(self) -> Dormancy: ...

    @abstractmethod
    def put_dormancy(self, dormancy: Dormancy) -> None: ...

    # -- how far it may spread

    @abstractmethod
    def illness(self, key: Key, *, limit: int, since: float) -> Illness:
        """How many targets are ill for a strategy; *limit* and one more are enough to know.

        Treated in vain are those that were acted on after *since* and fire all the same.
        """

    @abstractmethod
    def latest_starts(self, key: Key, *, since: float) -> list[float]:
        """When the strategy last began on each other target, oldest first, after *since*."""

    @abstractmethod
    def pending_for(self, reason: str) -> list[Key]: ...

    # -- people

    @abstractmethod
    def pauses(self, *, now: float) -> list[Pause]:
        """Those that are in force, the oldest first."""

    @abstractmethod
    def put_pause(
        self, scope: str, *, reason: str, by: str, now: float, until: float | None
    ) -> Pause: ...

    @abstractmethod
    def lift_pauses(self, scope: str, *, now: float) -> list[Pause]:
        """End the pauses of a scope, and return those that were in force."""

    @abstractmethod
    def put_veto(self, key: Key, *, by: str, reason: str, now: float) -> None:
        """Note a person's no to everything that fires for *key* now."""

    @abstractmethod
    def put_audit(
        self, action: str, object_: str, *, by: str, reason: str, now: float, detail: str = ""
    ) -> None: ...

    @abstractmethod
    def audits(self, *, limit: int, before: int | None = None) -> list[Audit]:
        """Newest first."""

    # -- what must outlive a restart besides

    @abstractmethod
    def unlogged(self, *, limit: int) -> list[int]:
        """Runs that have ended and stand not in the healing log yet, in the order of their end."""

    @abstractmethod
    def logged(self, runs: list[int]) -> None: ...

    @abstractmethod
    def put_untold(self, run: int, what: Literal["asked", "ended"]) -> None: ...

    @abstractmethod
    def untold(self, *, limit: int) -> list[Untold]:
        """Oldest first."""

    @abstractmethod
    def told(self, ids: list[int]) -> None: ...

    @abstractmethod
    def acted_runs(
        self, *, after: tuple[float, int], limit: int, strategy: str | None = None
    ) -> list[tuple[float, int]]:
        """Runs that acted and have ended, as (end, id) in that order, from behind *after*."""

    @abstractmethod
    def strategies(self) -> list[str]:
        """The names of all that have runs here, in order."""

    @abstractmethod
    def anchor(self) -> Anchor | None: ...

    @abstractmethod
    def put_anchor(self, anchor: Anchor) -> None: ...
