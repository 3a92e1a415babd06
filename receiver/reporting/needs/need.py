"""What needs a person? One thing, how bad it is, and what to do about it."""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import Final
from urllib.parse import quote

import msgspec

MAX_WORD: Final = 300
"""Characters of a name that a command repeats."""
WHY: Final = "--reason WHY"
"""In a command, stands for what only a person can fill in."""


class Severity(StrEnum):
    CRITICAL = "critical"
    """Nothing is healed, or not in this process."""
    WARNING = "warning"
    """Healing goes on; a person should know something."""


class NeedReason(StrEnum):
    """The codes of the API and of docs/reference/states.md."""

    JOURNAL = "journal"
    NOT_READY = "not_ready"
    JOURNAL_NOT_WRITABLE = "journal_not_writable"
    UPSTREAM_DOWN = "upstream_down"
    NO_PROMETHEUS = "no_prometheus"
    NO_STRATEGY = "no_strategy"
    OBSERVE_ONLY = "observe_only"
    DRY_RUN = "dry_run"
    DISABLED = "disabled"
    DETECTION_OFF = "detection_off"
    DORMANT = "dormant"
    CONSECUTIVE_FAILURES = "consecutive_failures"
    BREAKER_OPEN = "breaker_open"
    BREAKER_PERMANENT_OPEN = "breaker_permanent_open"
    PAUSED = "paused"
    AWAITING_APPROVAL = "awaiting_approval"
    STORM = "storm"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"
    INEFFECTIVE = "ineffective"
    INCONCLUSIVE = "inconclusive"
    UNKNOWN = "unknown"
    RELAPSED = "relapsed"
    NO_WORKER = "no_worker"
    RELOAD_FAILED = "reload_failed"
    NOTIFICATIONS_REFUSED = "notifications_refused"
    ALERTS_SET_ASIDE = "alerts_set_aside"
    TASKS = "tasks"
    LLM_KEYS = "llm_keys"
    CLOCK = "clock"


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a person should look at."""

    severity: Severity
    reason: NeedReason
    title: str
    """What is wrong, in a sentence."""
    subject: str = ""
    """A breaker, a target, an upstream: set where there may be several of a kind."""
    why: str = ""
    """What is known of the cause; may be quoted from elsewhere."""
    advice: str = ""
    """What to do, in a sentence."""
    command: str = ""
    """The command that helps, or that shows more; WHY stands for what only a person can say."""
    run: int | None = None
    strategy: str | None = None

    @property
    def id(self) -> str:
        """Identifies it for as long as it lasts."""
        return f"{self.reason}:{self.subject}" if self.subject else str(self.reason)

    @property
    def issue(self) -> str:
        """As the operations guide quotes it."""
        return f"{self.severity.upper()}: {self.title}"

    @property
    def links(self) -> dict[str, str]:
        """Paths of pages of this server, by what they show."""
        links = {}
        if self.run is not None:
            links["run"] = f"/runs/{self.run}"
        if self.strategy is not None:
            links["strategy"] = f"/strategies/{quote(self.strategy, safe='')}"
        return links


def word(text: str) -> str:
    """Return it quoted for a shell, or NAME: it may come from a label, and people copy commands."""
    return shlex.quote(text) if text.isprintable() and len(text) <= MAX_WORD else "NAME"
