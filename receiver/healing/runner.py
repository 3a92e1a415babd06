"""Steps forward, rollback in reverse; and nothing is done that was not first said.

Both are generators. Before an action is called its step is yielded as *started*, so that the caller
can write it down; the action runs only when the caller asks for the next. A step that was begun
counts as done for the rollback, since half of it may have happened.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Final

import msgspec

from receiver.actions import Action, Actions, Context, Later
from receiver.errors import ActionError, ConfigError
from receiver.policy.run import Outcome, Phase, Plan, PlannedStep, Step, StepState

log: Final = logging.getLogger("promheal.runner")

MAX_ERROR: Final = 4_096
"""Characters of an error that are kept."""

Steps = Mapping[tuple[Phase, int], Step]
"""What is already written down, by phase and position."""


class Suspended(msgspec.Struct, frozen=True):
    """Only time is missing: call again at *until*, with the steps written down so far."""

    until: float


class Ended(msgspec.Struct, frozen=True):
    """How the steps went. `outcome` is None when all succeeded and the proof is still to come."""

    outcome: Outcome | None
    reason: str
    acted: bool
    """Whether any step did something."""


ContextFor = Callable[[PlannedStep, Step], Context]
"""Makes the context of a step that was written down as started, from its plan."""


class Runner:
    def __init__(self, actions: Actions, clock: Callable[[], float]) -> None:
        self._actions = actions
        self._clock = clock

    def forward(
        self, plan: Plan, past: Steps, context_for: ContextFor, *, resumed: bool
    ) -> Generator[Step | Suspended, None, Ended]:
        """Execute what is not done yet.

        *resumed*: the step found started is one that had said `Later`; otherwise it is one during
        which an earlier process died.
        """
        acted = False
        for index, planned in enumerate(plan.steps):
            was = past.get((Phase.RUN, index))
            if was is not None and was.state in {StepState.FAILED, StepState.UNKNOWN}:
                return _stopped(planned, was)  # written down, but not yet what follows from it
            if was is not None and was.state is not StepState.STARTED:
                acted = acted or _may_have_acted(was)
                continue
            if planned.skip:
                yield self._skipped(index, planned)
                continue
            action = self._actions.get(planned.action)
            params = convert(action, planned)
            attempt = 1
            if was is not None and not resumed:
                if not action.idempotent(params):
                    was = self._ended(
                        was, StepState.UNKNOWN, error="promheal ended during this step"
                    )
                    yield was
                    return _stopped(planned, was)
                attempt = was.attempt + 1
            if was is None or attempt > 1:
                was = Step(
                    index=index,
                    phase=Phase.RUN,
                    action=planned.action,
                    state=StepState.STARTED,
                    # A timer that was cut short goes on from where it began.
                    started_at=self._clock() if was is None else was.started_at,
                    attempt=attempt,
                    saved={} if was is None else was.saved,
                )
                yield was
            context = context_for(planned, was)
            try:
                result = action.run(params, context)
            except Exception as error:  # noqa: BLE001  a plug-in's fault must not stop the rollback
                message, output = _explained(error, planned)
                was = self._ended(was, StepState.FAILED, output, error=message)
                yield was
                return _stopped(planned, was)
            if isinstance(result, Later):
                yield Suspended(result.until)
                return Ended(None, "", acted)
            skipped = "skipped" in result
            was = self._ended(was, StepState.SKIPPED if skipped else StepState.DONE, result)
            yield was
            acted = acted or _may_have_acted(was)
        return Ended(None, "", acted)

    def backward(
        self, plan: Plan, past: Steps, context_for: ContextFor
    ) -> Generator[Step, None, bool]:
        """Undo what was begun, last first; True when nothing of it failed."""
        whole = True
        for index, planned, begun in self._undoable(plan, past):
            was = past.get((Phase.ROLLBACK, index))
            if was is not None and was.state is not StepState.STARTED:
                whole = whole and was.state is StepState.DONE
                continue
            action = self._actions.get(planned.action)
            params = convert(action, planned)
            if was is not None and not action.idempotent(params):
                yield self._ended(was, StepState.UNKNOWN, error="promheal ended during this step")
                whole = False
                continue
            was = Step(
                index=index,
                phase=Phase.ROLLBACK,
                action=planned.action,
                state=StepState.STARTED,
                started_at=self._clock(),
                attempt=1 if was is None else was.attempt + 1,
                saved=begun.saved,
            )
            yield was
            known = begun.result if begun.state is StepState.DONE else None
            try:
                result = action.rollback(params, context_for(planned, was), known)
            except Exception as error:  # noqa: BLE001  the others are undone all the same
                message, output = _explained(error, planned)
                yield self._ended(was, StepState.FAILED, output, error=message)
                whole = False
            else:
                yield self._ended(was, StepState.DONE, result)
        return whole

    def tried_to_heal(self, plan: Plan, past: Steps) -> bool:
        """Whether a step did anything that could have healed."""
        return any(
            self._actions.get(planned.action).heals
            for index, planned in enumerate(plan.steps)
            if (was := past.get((Phase.RUN, index))) is not None and _may_have_acted(was)
        )

    def anything_to_undo(self, plan: Plan, past: Steps) -> bool:
        return next(self._undoable(plan, past), None) is not None

    def _undoable(self, plan: Plan, past: Steps) -> Iterator[tuple[int, PlannedStep, Step]]:
        for index, planned in reversed(list(enumerate(plan.steps))):
            begun = past.get((Phase.RUN, index))
            if begun is None or not _may_have_acted(begun):
                continue
            action = self._actions.get(planned.action)
            if action.undoable(convert(action, planned)):
                yield index, planned, begun

    def _skipped(self, index: int, planned: PlannedStep) -> Step:
        now = self._clock()
        return Step(
            index=index,
            phase=Phase.RUN,
            action=planned.action,
            state=StepState.SKIPPED,
            started_at=now,
            finished_at=now,
            result={"skipped": planned.skip},
        )

    def _ended(
        self,
        step: Step,
        state: StepState,
        result: Mapping[str, Any] | None = None,
        *,
        error: str = "",
    ) -> Step:
        return msgspec.structs.replace(
            step, state=state, finished_at=self._clock(), result=dict(result or {}), error=error
        )


def convert(action: Action, planned: PlannedStep) -> Any:
    """Return the typed parameters of a planned step, which the journal keeps as JSON."""
    try:
        return msgspec.convert(planned.params, action.Params)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"a run under way has parameters for {action.name} that this version cannot read: "
            f"{error}"
        ) from None


def _may_have_acted(step: Step) -> bool:
    """Whether it did something, if only half of it: it may have, when we died and began it anew."""
    return step.state is not StepState.SKIPPED or step.attempt > 1


def _stopped(planned: PlannedStep, step: Step) -> Ended:
    """How a run ends whose *step* did not succeed."""
    if step.state is StepState.UNKNOWN:
        return Ended(Outcome.UNKNOWN, f"promheal ended during {planned.action}", acted=True)
    return Ended(Outcome.FAILED, f"{planned.action}: {step.error}", acted=True)


def _explained(error: Exception, planned: PlannedStep) -> tuple[str, dict[str, str]]:
    """Return the error for the operator, and what the process had printed."""
    if isinstance(error, ActionError):
        return str(error)[:MAX_ERROR], {"output": error.output} if error.output else {}
    log.error("action %s raised", planned.action, exc_info=error)
    return f"{type(error).__name__}: {error}"[:MAX_ERROR], {}
