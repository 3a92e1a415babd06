"""What is known when a decision is made, and how a guard answers.

A guard is a function of one `Situation`. It reads no clock, no database and no network: the same
function decides live, explains, is tested with values and is replayed over history.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from receiver.alert import Alert
from receiver.strategy import Strategy


class Reason(StrEnum):
    """Why not? One word each, the same in the journal, as metric label, in logs and in the API."""

    DISABLED = "disabled"
    RESOLVED = "resolved"
    STALE = "stale"
    CONDITION_FALSE = "condition_false"
    CONDITION_UNKNOWN = "condition_unknown"
    BUSY = "busy"
    CONCURRENCY = "concurrency"
    GRACE_PERIOD = "grace_period"
    BUDGET_EXHAUSTED = "budget_exhausted"
    OBSERVE_ONLY = "observe_only"
    DRY_RUN = "dry_run"


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
    """What the operator wants to know besides: which run holds the target, which query failed."""


ALLOW: Final = Verdict(Answer.ALLOW)


def wait(reason: Reason, until: float | None = None, detail: str = "") -> Verdict:
    """Not now: ask again at *until*, or when something changes."""
    return Verdict(Answer.WAIT, reason, until, detail)


def deny(reason: Reason, detail: str = "") -> Verdict:
    """No: nothing is waited for; only news brings it up again."""
    return Verdict(Answer.DENY, reason, None, detail)


class Signal(StrEnum):
    """Does the alert's own expression still return its series? Asked of Prometheus just now."""

    FIRING = "firing"
    CLEARED = "cleared"
    """It does not, and the data behind it is there."""
    UNKNOWN = "unknown"
    """Prometheus is not configured, did not answer, or has no data: the notification stands."""


class Condition(StrEnum):
    """The answer to a strategy's `when`."""

    NONE = "none"
    """The strategy has none."""
    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "unknown"
    """Prometheus did not answer."""


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    now: float
    """Seconds since the epoch, by promheal's clock, like every time here."""
    strategy: Strategy
    target: str
    alert: Alert | None
    """The newest alert that fires for this strategy and target; None when none does."""
    last_seen: float = 0.0
    """When a notification last said that it fires."""
    stale_after: float = 18_000.0
    """Seconds for which a notification is believed; above Alertmanager's repeat interval."""
    signal: Signal = Signal.UNKNOWN
    condition: Condition = Condition.NONE
    upstream_detail: str = ""
    """What Prometheus answered, for the operator."""
    enabled: bool = True
    """The flag `auto_healing`."""
    dry_run: bool = False
    """Started with --dry-run: decide and record, never act."""
    holder: int | None = None
    """The id of another run that holds the target: acting, waiting or verifying."""
    acting: int = 0
    """Other runs that hold a slot."""
    max_concurrent_runs: int = 8
    last_end: float | None = None
    """When the last run on this target ended, by this or another strategy."""
    last_healed: float | None = None
    """When a run on this target was last proven to have healed it."""
    starts: tuple[float, ...] = ()
    """When this strategy began to act on this target, oldest first, as far as the budgets reach."""
