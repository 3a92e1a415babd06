"""What is known when a decision is made, and how a guard answers.

A guard is a function of one `Situation`. It reads no clock, no database and no network: the same
function decides live, explains, is tested with values and is replayed over history.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from receiver.policy.alert import Alert
from receiver.policy.breaker import Breaker
from receiver.policy.dormancy import Dormancy
from receiver.policy.run import Outcome
from receiver.policy.signal import UpstreamState
from receiver.policy.strategy import Strategy


class Reason(StrEnum):
    """Why not? The same word in the journal, in metrics, in logs and in the API."""

    DISABLED = "disabled"
    PAUSED = "paused"
    REJECTED = "rejected"
    DORMANT = "dormant"
    MAINTENANCE = "maintenance"
    SILENCED = "silenced"
    SILENCE_UNKNOWN = "silence_unknown"
    RESOLVED = "resolved"
    STALE = "stale"
    CONDITION_FALSE = "condition_false"
    CONDITION_UNKNOWN = "condition_unknown"
    RULE_UNKNOWN = "rule_unknown"
    MONITORING_SUSPECT = "monitoring_suspect"
    BUSY = "busy"
    NO_WORKER = "no_worker"
    CONCURRENCY = "concurrency"
    GRACE_PERIOD = "grace_period"
    BUDGET_EXHAUSTED = "budget_exhausted"
    BACKOFF = "backoff"
    STORM = "storm"
    BLAST_RADIUS = "blast_radius"
    BREAKER_OPEN = "breaker_open"
    BREAKER_PERMANENT_OPEN = "breaker_permanent_open"
    OBSERVE_ONLY = "observe_only"
    DRY_RUN = "dry_run"
    AWAITING_APPROVAL = "awaiting_approval"
    APPROVAL_EXPIRED = "approval_expired"


class Answer(StrEnum):
    ALLOW = "allow"
    WAIT = "wait"
    DENY = "deny"


class Verdict(msgspec.Struct, frozen=True):
    """A guard's answer. `until` is when to ask again, seconds since the epoch, if time decides."""

    answer: Answer
    reason: Reason | None = None
    until: float | None = None
    detail: str = ""
    """For the operator: which run holds the target, which query failed."""


ALLOW: Final = Verdict(Answer.ALLOW)


RETRY: Final = 10.0
"""Seconds until the next look at what does not announce changes: upstream, workers, a file."""


def wait(reason: Reason, until: float | None = None, detail: str = "") -> Verdict:
    """Not now: ask again at *until*, or when something changes."""
    return Verdict(Answer.WAIT, reason, until, detail)


def deny(reason: Reason, detail: str = "") -> Verdict:
    """No. Nothing is waited for: only news, a reload or the resync brings it up again."""
    return Verdict(Answer.DENY, reason, None, detail)


class Hold(msgspec.Struct, frozen=True):
    """Something that is in force for a time: a pause, a maintenance window."""

    detail: str
    """Whose it is and why, for the operator."""
    until: float | None = None
    """When it ends by itself; None: when somebody ends it."""


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator wants just now."""

    enabled: bool
    """The flag `auto_healing`."""
    preventive: bool
    """The flag `preventive_healing`."""
    dry_run: bool
    """Started with --dry-run: decide and record, never act."""
    pause: Hold | None
    """Of all pauses for this strategy and target, the one that lasts longest."""
    rejected: str
    """Who said no to what fires now, and why; empty if nobody did."""
    maintenance: Hold | None


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What `engine` in promheal.yml allows."""

    stale_after: float
    """Seconds for which a notification is believed; above Alertmanager's repeat interval."""
    approval_for: float
    """Seconds for which a run waits for its approval, and for which that holds."""
    max_concurrent_runs: int
    storm_targets: int
    """More affected targets than this are a storm, in which so many may be treated at once."""
    backoff: float
    """Seconds after the last failure for which nothing begins."""


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """The run that asks, and what it would do."""

    run: int
    """0 before there is one."""
    asked_at: float | None
    """When a person was asked to approve it."""
    approved_at: float | None
    fault: str
    """Why it would fail before its first step, in words for the operator: a value that does not
    match its pattern, for example."""
    absent: str
    """The host or label that the steps are bound to, if it has no living worker; else empty."""


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What was done before, on this target and by this strategy."""

    last_end: float | None
    """When the last run on this target ended, by this or another strategy."""
    last_healed: float | None
    """When a run on this target was last proven to have healed it."""
    last_outcome: Outcome | None
    """How the last run that acted on this target ended."""
    forgets_at: float | None
    """Until when data from before this strategy's last action here may keep the alert firing."""
    restored_at: float | None
    """When the journal was restored from a backup: what was done shortly before is not known."""
    starts: tuple[float, ...]
    """When this strategy began to act on this target, oldest first, as far as the budgets reach."""
    latest_starts: tuple[float, ...]
    """When this strategy last began on each other target, oldest first, as far as `limits`."""


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """What else goes on: other runs, other targets, and how the engine has fared."""

    holder: int | None
    """The id of another run that holds the target: acting, waiting or verifying."""
    holder_reason: str
    """What that run waits for, and until when."""
    acting: int
    """Other runs that hold a slot."""
    affected: int
    """Targets that fire for this strategy; none is counted beyond the limit and one more."""
    treated: int
    """Others of these that are being healed, or were in vain."""
    breakers: tuple[tuple[str, Breaker], ...]
    """By name: the main one, the strategy's, the target's."""
    dormancy: Dormancy


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision rests on.

    No field has a default: a fact that nobody feeds would be a guard that never answers.
    """

    now: float
    """Seconds since the epoch, by promheal's clock, like every time here."""
    strategy: Strategy
    target: str
    alert: Alert | None
    """Of those that fire for this strategy and target, the one that is decided on; None when none
    does."""
    last_seen: float
    """When a notification last said that it fires."""
    left_out: str
    """Which other alerts of the target do not ask for it, and why; and how many were not asked."""
    upstream: UpstreamState
    wishes: Wishes
    bounds: Bounds
    asking: Asking
    past: Past
    around: Around
