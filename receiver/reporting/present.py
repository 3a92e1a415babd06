"""What is the state now? One value of what this process knows, and one of the journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from receiver.clients.llm import KeySummary
from receiver.engine.periodic_task import TaskState
from receiver.journal import ActivePause, JournalCondition, Stats, Transaction
from receiver.policy.breaker import Breaker
from receiver.policy.dormancy import Dormancy
from receiver.policy.guards.situation import Reason
from receiver.policy.run import Run
from receiver.policy.strategy import Strategies
from receiver.policy.target import Key
from receiver.reporting.reach import Reached
from receiver.settings import EngineSettings

LATELY: Final = 3_600.0
"""Seconds for which a relapse is shown."""
LISTED: Final = 100
"""Runs of one kind that are read, to be listed; in a storm there may be thousands."""


class BackupState(msgspec.Struct, frozen=True, kw_only=True):
    """The newest scheduled backup."""

    folder: str
    at: float
    """When it was made, seconds since the epoch by the wall clock; 0 before the first."""
    size: int
    """Bytes."""
    every: float
    """Seconds after which another one is due."""


class Present(msgspec.Struct, frozen=True, kw_only=True):
    """What this process knows besides the journal."""

    strategies: Strategies
    engine: EngineSettings
    actions: tuple[str, ...]
    channels: tuple[str, ...]
    flags: dict[str, bool]
    dry_run: bool
    pause_file: str
    """The file that pauses everything; empty while there is none."""
    queue_length: int
    unmatched: int
    """Firing alerts that the strategies in force have still to be matched with."""
    last_consider: float
    """Seconds since the epoch; 0 before the first."""
    last_heartbeat: float
    """As `last_consider`, by the wall clock, with which the rules compare it."""
    last_notification: float
    """When one was last accepted, as `last_heartbeat`."""
    refused: Mapping[str, int]
    """Notifications that were refused lately, by the answer's code, and alerts `set_aside`."""
    condition: JournalCondition
    """The journal's."""
    trouble: str
    """Why the journal cannot store, or empty."""
    journal_writable: bool
    unready: str
    """Why it is not ready, or empty."""
    acting: bool
    """Whether this process holds the journal's lock, and so acts."""
    config_hash: str
    reload_successful: bool
    reload_success_at: float
    clock_lead: float
    """Seconds by which the wall clock is ahead of promheal's."""
    upstreams: tuple[Reached, ...]
    """Those that were probed, with the results."""
    proves: bool
    """Whether a Prometheus is configured, which heals are proven by."""
    tasks: tuple[TaskState, ...]
    keys: KeySummary
    backup: BackupState | None
    """None where no backups are wanted."""
    version: str
    now: float


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the journal."""

    snapshot: Stats
    dormancy: Dormancy
    breakers: Mapping[str, Breaker]
    pauses: tuple[ActivePause, ...]
    relapses: Mapping[Key, int]
    """Heals that did not hold, within LATELY."""
    asking: tuple[Run, ...]
    """Runs that wait for approval, oldest first, at most LISTED."""
    unhealed: tuple[Run, ...]
    """The last runs on their targets that acted in vain: the alert still fires. At most LISTED."""
    storms: frozenset[str]
    """Strategies with more affected targets than may be healed at once."""
    now: float


def see(transaction: Transaction, present: Present) -> Seen:
    snapshot, now = transaction.stats(), present.now
    return Seen(
        snapshot=snapshot,
        dormancy=transaction.dormancy(),
        breakers=transaction.breakers(),
        pauses=tuple(transaction.pauses(now=now)),
        relapses=transaction.relapses(since=now - LATELY),
        asking=tuple(transaction.pending_runs(Reason.AWAITING_APPROVAL, limit=LISTED)),
        unhealed=tuple(transaction.unhealed(limit=LISTED)),
        storms=frozenset(
            name
            for name in present.strategies.names
            if _storms(transaction, present, snapshot, name)
        ),
        now=now,
    )


def _storms(transaction: Transaction, present: Present, snapshot: Stats, strategy: str) -> bool:
    most = present.engine.storm.targets
    # Each affected target has an alert, or is held; so few need not be counted.
    if snapshot.firing.get(strategy, 0) + snapshot.in_progress.get(strategy, 0) <= most:
        return False
    since = present.now - present.engine.stale_after
    return transaction.affected(Key(strategy, ""), limit=most, since=since).targets > most
