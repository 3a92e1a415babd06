"""The life of a run as one table: by state and event, the next state and its effects.

Nothing else decides what follows what. The carrier reports an event, asks the table, writes the row
and does the effects; `receiver.healing.execution` is that carrier.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from receiver.policy.run import Doubt, Observation, Outcome, State


class LifeEvent(StrEnum):
    """What can happen to a run."""

    ALLOWED = "allowed"
    """Every guard lets it act."""
    POSTPONED = "postponed"
    """A guard says wait."""
    DENIED = "denied"
    """A guard says no, or its strategy is gone."""
    UNPLANNABLE = "unplannable"
    """It may act, and its steps cannot be rendered."""
    SUSPENDED = "suspended"
    """A step asks to be called again later."""
    DUE = "due"
    """The time of a suspended step has come."""
    COMPLETED = "completed"
    """Every step is done."""
    INAPPLICABLE = "inapplicable"
    """Every step was skipped."""
    FAILED = "failed"
    """A step failed."""
    LOST = "lost"
    """A step that must not be repeated was found started after a crash."""
    CANCELLED = "cancelled"
    """A person wants its end."""
    UNDECIDED = "undecided"
    """Prometheus was asked, and has not decided yet."""
    HEALED = "healed"
    INCONCLUSIVE = "inconclusive"
    INEFFECTIVE = "ineffective"
    UNDONE = "undone"
    """All that could be undone was."""
    UNDO_FAILED = "undo_failed"


class Effect(StrEnum):
    """What a transition does besides changing the state."""

    BEGIN_STEP = "begin_step"
    """The first step is written down as started in the same transaction, where it is executed here
    and a slot was taken for it before."""
    CLOSE_STEPS = "close_steps"
    """A step that was left started gets its end, in the same transaction."""
    COUNT_PROOF = "count_proof"
    COUNT_ROLLBACK = "count_rollback"
    FREE_SLOT = "free_slot"
    """Once committed, the run that has waited longest for a slot is woken."""
    RELEASE = "release"
    """The run ends: breakers, dormancy and messages in the same transaction; once committed, the
    log, and everybody who waited for its target or its slot."""


class Transition(msgspec.Struct, frozen=True):
    """What an event leads to in one state."""

    state: State
    outcome: Outcome | None = None
    """How the run ends; in `rolling_back`, how it will end unless undoing fails."""
    effects: tuple[Effect, ...] = ()
    undoes: bool = False
    """What was begun is undone first, where there is anything to undo."""
    yields: bool = False
    """If a person asked for its end meanwhile, it is cancelled instead."""

    @property
    def end(self) -> Outcome:
        """How the run ends, of a transition that ends it."""
        assert self.outcome is not None
        return self.outcome


def _ends(
    outcome: Outcome, *effects: Effect, undoes: bool = False, yields: bool = False
) -> Transition:
    return Transition(State.FINISHED, outcome, (*effects, Effect.RELEASE), undoes, yields)


_P, _A, _W = State.PENDING, State.ACTING, State.WAITING
_V, _R = State.VERIFYING, State.ROLLING_BACK

_CANCELLED: Final = _ends(Outcome.CANCELLED, Effect.CLOSE_STEPS, undoes=True)
_PROVES: Final = Effect.COUNT_PROOF
_FREES: Final = (Effect.FREE_SLOT,)

TABLE: Final[dict[tuple[State, LifeEvent], Transition]] = {
    (_P, LifeEvent.ALLOWED): Transition(_A, effects=(Effect.BEGIN_STEP,)),
    (_P, LifeEvent.POSTPONED): Transition(_P),
    (_P, LifeEvent.DENIED): _ends(Outcome.CANCELLED),
    (_P, LifeEvent.CANCELLED): _ends(Outcome.CANCELLED),
    (_A, LifeEvent.UNPLANNABLE): _ends(Outcome.FAILED),
    (_A, LifeEvent.SUSPENDED): Transition(_W, effects=_FREES),
    (_A, LifeEvent.COMPLETED): Transition(_V, effects=_FREES),
    (_A, LifeEvent.INAPPLICABLE): _ends(Outcome.CANCELLED),
    (_A, LifeEvent.FAILED): _ends(Outcome.FAILED, undoes=True, yields=True),
    (_A, LifeEvent.LOST): _ends(Outcome.UNKNOWN, undoes=True),
    (_A, LifeEvent.CANCELLED): _CANCELLED,
    (_W, LifeEvent.DUE): Transition(_A),
    (_W, LifeEvent.CANCELLED): _CANCELLED,
    (_V, LifeEvent.UNDECIDED): Transition(_V, yields=True),
    (_V, LifeEvent.HEALED): _ends(Outcome.HEALED, _PROVES, yields=True),
    (_V, LifeEvent.INCONCLUSIVE): _ends(Outcome.INCONCLUSIVE, _PROVES, yields=True),
    (_V, LifeEvent.INEFFECTIVE): _ends(Outcome.INEFFECTIVE, _PROVES, undoes=True, yields=True),
    (_V, LifeEvent.CANCELLED): _CANCELLED,
    (_R, LifeEvent.UNDONE): _ends(Outcome.ROLLED_BACK, Effect.COUNT_ROLLBACK),
    (_R, LifeEvent.UNDO_FAILED): _ends(Outcome.ROLLBACK_FAILED, Effect.COUNT_ROLLBACK),
}
"""What is not here cannot happen."""

CANCELLABLE: Final = frozenset(state for state, event in TABLE if event is LifeEvent.CANCELLED)
"""The states in which a person may ask for the end."""


class Occurrence(msgspec.Struct, frozen=True, kw_only=True):
    """An event with what is written down of it."""

    event: LifeEvent
    reason: str = ""
    until: float | None = None
    """When to look at the run again, seconds since the epoch."""
    verify_from: float | None = None
    """As the run's, of `completed`."""
    observation: Observation | None = None
    """What Prometheus has shown, in `verifying`."""
    doubt: Doubt | None = None
    forgets_at: float | None = None


def heard(state: State, event: LifeEvent, *, cancel: bool) -> LifeEvent:
    """Return *event*, or `cancelled` where a person's wish for the end comes first.

    Raises ValueError where *event* cannot happen.
    """
    return LifeEvent.CANCELLED if _row(state, event).yields and cancel else event


def transition(
    state: State, event: LifeEvent, *, undoable: bool = False, cause: Outcome | None = None
) -> Transition:
    """Return what *event* leads to. Raises ValueError where it cannot happen.

    *undoable*: something was begun that can be undone, and the strategy wants that. *cause*: how a
    run ends that is being rolled back, once that is done; a failed step is then `rolled_back`.
    """
    found = _row(state, event)
    if undoable and found.undoes:
        kept = tuple(one for one in found.effects if one is not Effect.RELEASE)
        return Transition(State.ROLLING_BACK, found.outcome, kept)
    if event is LifeEvent.UNDONE and cause not in {Outcome.FAILED, None}:
        return msgspec.structs.replace(found, outcome=cause)
    return found


def _row(state: State, event: LifeEvent) -> Transition:
    found = TABLE.get((state, event))
    if found is None:
        raise ValueError(f"a run that is {state} cannot be {event}")
    return found


def _followers(state: State) -> frozenset[State]:
    rows = [row for (before, _), row in TABLE.items() if before is state]
    undo = {State.ROLLING_BACK for row in rows if row.undoes}
    return frozenset({row.state for row in rows} | undo)


FOLLOWERS: Final = {state: _followers(state) for state in State}
"""By state, those that may follow."""
