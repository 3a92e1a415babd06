"""One execution of a strategy on a target: its states, its steps and how it ended."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec


class State(StrEnum):
    PENDING = "pending"
    """Wanted, but a guard said wait. Holds neither target nor slot."""
    ACTING = "acting"
    """A step is being executed. Holds its target and a slot."""
    WAITING = "waiting"
    """Between steps, on a durable timer. Holds its target, but no thread and no slot."""
    VERIFYING = "verifying"
    """All steps are done; Prometheus is asked. Holds its target, but no thread and no slot."""
    ROLLING_BACK = "rolling_back"
    """Steps are being undone, in reverse. Holds its target and a slot."""
    FINISHED = "finished"
    """Has an outcome; never changes again."""


class Outcome(StrEnum):
    HEALED = "healed"
    """Prometheus says so, and the data behind it is there."""
    INEFFECTIVE = "ineffective"
    """Every step succeeded and the alert still fires."""
    INCONCLUSIVE = "inconclusive"
    """Every step succeeded and nothing is proven: Prometheus or the data is missing, or no step
    was one that heals."""
    FAILED = "failed"
    """A step failed, and nothing was undone: there was nothing to undo, or `on_failure: keep`."""
    ROLLED_BACK = "rolled_back"
    """A step failed, and what had been done was undone."""
    ROLLBACK_FAILED = "rollback_failed"
    """Undoing failed: a person must look."""
    CANCELLED = "cancelled"
    """Not needed any more, or an operator said so."""
    UNKNOWN = "unknown"
    """We died during a step that may not be repeated; what it did is not known."""


class Doubt(StrEnum):
    """Why is a run inconclusive?"""

    UNKNOWN = "unknown"
    """Prometheus was asked, and the data does not say."""
    OLD_DATA = "old_data"
    """It still fires, and what was measured before the action may be why."""
    UNASKED = "unasked"
    """Prometheus could not be asked: that says nothing of the action."""
    NO_HEAL = "no_heal"
    """No step was one that heals: there is nothing to prove."""


DOUBTFUL: Final = frozenset({Doubt.UNKNOWN, Doubt.OLD_DATA})
"""What counts when it happens again and again on one target."""


class Phase(StrEnum):
    RUN = "run"
    ROLLBACK = "rollback"


class StepState(StrEnum):
    STARTED = "started"
    """Committed before the action was called. Found after a crash, it may or may not have run."""
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Its `if` did not hold, or there was nothing to undo."""
    UNKNOWN = "unknown"
    """Found started by a later process."""


FAILURES: Final = frozenset(
    {
        Outcome.FAILED,
        Outcome.ROLLED_BACK,
        Outcome.ROLLBACK_FAILED,
        Outcome.INEFFECTIVE,
        Outcome.UNKNOWN,
    }
)
"""What counts against a strategy; `inconclusive` and `cancelled` count neither way."""


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step as it will be executed: rendered, so that a reload cannot change a run under way."""

    action: str
    params: dict[str, Any]
    timeout: float
    """Seconds after which the action is ended."""
    skip: str = ""
    """Why it is not executed for this alert; empty when it is."""


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """Another alert that asked for the same act: it, too, must have cleared."""

    fingerprint: str
    labels: dict[str, str]
    binding: dict[str, Any] | None
    """As the plan's."""
    verify_query: str | None = None
    """The strategy's own query, for this alert."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run needs to be carried to its end, whatever the configuration says by then."""

    steps: tuple[PlannedStep, ...]
    rollback: bool
    """Undo what was done when a step fails or the heal proves ineffective."""
    verify_within: float
    """Seconds after the last step within which the proof must come."""
    verify_query: str | None
    """PromQL instead of the alert's own expression."""
    verify_expect: str
    """`empty`: the query returns nothing when healthy. `present`: it returns something."""
    binding: dict[str, Any] | None = None
    """The series that the alert's expression returned: a `proof.binding.Binding` as JSON. None: it
    could not be told."""
    verify_gone: str = "succeeded"
    """`succeeded`: what is gone must have a successor. `accept`: it need not."""
    verify_settle: float = 0.0
    """Seconds from which on nothing old counts until it is called ineffective."""
    verify_at_most: float = 0.0
    """Seconds that the proof takes at most because of what the expression remembers."""
    verify_hold: float = 0.0
    """Seconds for which every look must find it cleared."""
    decay: float | None = 0.0
    """Seconds that what is asked looks back; None: for ever, or it is not known."""
    decay_problem: str = ""
    """Why that is not known."""
    scrape: float = 0.0
    """Seconds between two samples of what it rests on."""
    alert_decay: float | None = 0.0
    """As `decay`, of the alert's own expression."""
    alert: dict[str, Any]
    """The alert that asked for it: fingerprint, labels, annotations, starts_at, expression."""
    also: tuple[Asker, ...] = ()
    """The others that asked for it, as far as the proof looks at them."""
    unproven: int = 0
    """Further alerts of the target that were not asked, and are not looked at."""
    target_labels: dict[str, str] = {}
    """The labels that name the target; an operator's own query is about these, and not about the
    alert's others: a probe has another job and instance."""
    value: float | None = None
    """The expression's value when it was decided, or None."""
    runs_on: str = ""
    """The host or label of the worker that executes its steps; empty for wherever is decided."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of an action, or of its undoing."""

    index: int
    """Position in the plan, from 0."""
    phase: Phase
    action: str
    state: StepState
    started_at: float
    """Seconds since the epoch, by promheal's clock."""
    finished_at: float | None = None
    attempt: int = 1
    """2 after a crash in the middle of an idempotent action."""
    result: dict[str, Any] = {}
    """What the action returned: what its rollback needs, and what an operator wants to read."""
    error: str = ""
    saved: dict[str, Any] = {}
    """What the action wrote down before it touched anything, for its rollback."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a strategy on a target."""

    id: int
    strategy: str
    target: str
    """`service="checkout"`: the labels that the strategy names, in matcher form."""
    state: State
    outcome: Outcome | None = None
    cause: Outcome | None = None
    """While it rolls back: the outcome that it is on its way to."""
    reason: str = ""
    """Why it waits (a guard's reason), or why it ended as it did, in words."""
    until: float | None = None
    """When it will be looked at again, seconds since the epoch; None when an event decides."""
    episode: int
    created_at: float
    notified_at: float
    """When the notification that led to it had arrived."""
    acted_at: float | None = None
    """When its first step was started."""
    verify_from: float | None = None
    """When the last step had finished: only newer samples prove anything."""
    finished_at: float | None = None
    doubt: Doubt | None = None
    """Why it is inconclusive."""
    forgets_at: float | None = None
    """Until when its alert may fire because of what was measured before it acted."""
    relapsed_at: float | None = None
    """When it fired again so soon that the heal had not held."""
    config_hash: str = ""
    asked_at: float | None = None
    """When a person was asked to approve it."""
    approved_at: float | None = None
    cancel: str = ""
    """Who wants it cancelled, and why; it is, before its next step."""
    runs_on: str = ""
    """As in its plan."""
    plan: Plan | None = None
    """Set when a guard has let it pass."""
    steps: tuple[Step, ...] = ()


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One look at Prometheus while verifying."""

    at: float
    verdict: str
    """`cleared`, `firing` or `unknown`."""
    value: float | None
    detail: str
