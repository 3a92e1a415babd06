"""The steps of a run, executed or undone: each is committed as started before its action runs.

The first one where it can be is committed with the run itself (`Opening`), for a commit less stands
between an alert and the action.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping
from itertools import chain, repeat
from typing import Any, Final, TypeVar

from msgspec.structs import asdict, replace

from receiver.actions import Actions, Context
from receiver.clock import Clock
from receiver.config.in_force import Config
from receiver.errors import JournalError
from receiver.healing.runner import Ended, Runner, Suspended
from receiver.healing.slots import Slot, Slots
from receiver.journal import OWN, Journal, Transaction
from receiver.policy.life import LifeEvent, Occurrence
from receiver.policy.looks import clock_time, wait_of
from receiver.policy.run import Outcome, Phase, Plan, PlannedStep, Run, Step, StepState
from receiver.reporting.metrics import ACTIONS, Metrics, of_run

log: Final = logging.getLogger("promheal.healing")

TO_THE_END: Final = 15.0
"""Seconds after an action's deadline until nothing of it lives, with much to spare."""

_STORE_AGAIN: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts to store what an action did; the last stands for all that follow."""

T = TypeVar("T")

_Forward = Generator[Step | Suspended, None, Ended]


class Opening:
    """The slot of a run that is being decided on, and its first step once that is written down."""

    def __init__(self, slot: Slot, start: Callable[[Run], _Forward]) -> None:
        self.slot = slot
        self._start = start
        self.begun: tuple[Step, _Forward] | None = None
        """The first step, and what goes on with it. Only a transaction that is committed counts."""

    def begin(self, transaction: Transaction, run: Run) -> Run:
        """Write the first step of *run* down as started; return the run with it.

        Called again when the group of the transaction is undone and run once more.
        """
        steps = self._start(run)
        step = next(steps)
        assert isinstance(step, Step)
        _put(transaction, run, step)
        self.begun = step, steps
        return replace(run, steps=(step,))


class Steps:
    def __init__(
        self,
        *,
        journal: Journal,
        actions: Actions,
        metrics: Metrics,
        clock: Clock,
        config: Callable[[], Config],
    ) -> None:
        self._journal = journal
        self._runner = Runner(actions, clock)
        self._metrics = metrics
        self._clock = clock
        self._config = config
        # The guard lets no more runs begin than there are slots; runs that come back from a timer
        # or must be undone have been let in before, and wait here.
        self._slots = Slots(lambda: config().settings.engine.max_concurrent_runs)

    def opening(self, plan: Plan) -> Opening | None:
        """Take a slot for the first step of *plan*, to be written down with the run.

        None where it is skipped, or would have to wait. The slot is to be given back.
        """
        if not plan.steps or plan.steps[0].skip:
            return None
        slot = self._slots.try_take()
        return None if slot is None else Opening(slot, self._start)

    def forward(self, run: Run, *, resumed: bool, opening: Opening | None = None) -> Occurrence:
        """Execute what is not done yet.

        *resumed*: the step found started had asked for time. *opening*: the first step was written
        down with *run*, just now.
        """
        assert run.plan is not None
        if opening is not None:
            assert opening.begun is not None
            step, steps = opening.begun
            self._tell(run, step)
            ended = self._drive(run, steps)
            opening.slot.give_back()
        else:
            steps = self._start(run, resumed=resumed)
            with self._slots.taken():
                ended = self._drive(run, steps)
        if ended is None:
            return Occurrence(event=LifeEvent.CANCELLED)
        if isinstance(ended, Suspended):
            return Occurrence(event=LifeEvent.SUSPENDED, reason="timer", until=ended.until)
        if ended.outcome is Outcome.UNKNOWN:
            return Occurrence(event=LifeEvent.LOST, reason=ended.reason)
        if ended.outcome is not None:
            return Occurrence(event=LifeEvent.FAILED, reason=ended.reason)
        if not ended.acted:
            return Occurrence(event=LifeEvent.INAPPLICABLE, reason="no step applied to this alert")
        now = self._clock()
        deadline = wait_of(run.plan, now).deadline
        reason = f"its proof takes until {clock_time(deadline, now)} at most"
        return Occurrence(event=LifeEvent.COMPLETED, reason=reason, until=now, verify_from=now)

    def backward(self, run: Run) -> Occurrence:
        """Undo what was begun and is not undone yet."""
        assert run.plan is not None
        steps = self._runner.backward(run.plan, _past(run), self._context_for(run))
        with self._slots.taken():
            whole = self._drive(run, steps)
        return Occurrence(
            event=LifeEvent.UNDONE if whole else LifeEvent.UNDO_FAILED, reason=run.reason
        )

    def undoable(self, run: Run) -> bool:
        """Return whether anything was begun that can be undone, and is to be."""
        plan = run.plan
        return (
            plan is not None and plan.rollback and self._runner.anything_to_undo(plan, _past(run))
        )

    def heals(self, run: Run) -> bool:
        """Return whether a step did something that could have healed."""
        assert run.plan is not None
        return self._runner.tried_to_heal(run.plan, _past(run))

    def _start(self, run: Run, *, resumed: bool = False) -> _Forward:
        assert run.plan is not None
        return self._runner.forward(run.plan, _past(run), self._context_for(run), resumed=resumed)

    def _drive(self, run: Run, steps: Generator[Step | Suspended, None, T]) -> T | Suspended | None:
        """Write down every step before the next is asked for; None when the run is cancelled."""
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            if isinstance(step, Suspended):
                return step
            if not self._write(run, step):
                return None

    def _write(self, run: Run, step: Step) -> bool:
        """Commit what is about to be done, or what has been done; False when it must not begin."""

        def write(transaction: Transaction) -> bool:
            if step.state is StepState.STARTED and step.phase is Phase.RUN:
                now = transaction.run(run.id)
                assert now is not None
                if now.cancel:
                    return False
            _put(transaction, run, step)
            if step.finished_at is not None:
                transaction.count(ACTIONS.name, step.action, step.state)
            return True

        if step.finished_at is None:
            if not self._journal.atomically(write, OWN):
                return False
        else:
            self._store(write)
            self._metrics.action_duration.labels(step.action).observe(
                step.finished_at - step.started_at, exemplar=of_run(run.id)
            )
        self._tell(run, step)
        return True

    def _tell(self, run: Run, step: Step) -> None:
        bad = step.state in {StepState.FAILED, StepState.UNKNOWN}
        log.log(
            logging.WARNING if bad else logging.INFO,
            "step %s",
            step.state,
            extra={
                "run": run.id,
                "strategy": run.strategy,
                "target": run.target,
                "phase": str(step.phase),
                "step": step.index,
                "action": step.action,
                "attempt": step.attempt,
                "error": step.error,
            },
        )

    def _store(self, write: Callable[[Transaction], object]) -> None:
        """Write down what has been done already; a full disk may make that wait, not forget it."""
        for delay in chain(_STORE_AGAIN, repeat(_STORE_AGAIN[-1])):
            try:
                self._journal.atomically(write, OWN)
            except JournalError as error:
                log.error("a finished step is not stored yet: %s", error)  # noqa: TRY400
                time.sleep(delay)
            else:
                return

    def _context_for(self, run: Run) -> Callable[[PlannedStep, Step], Context]:
        config = self._config()
        plan = run.plan
        assert plan is not None

        def context(planned: PlannedStep, step: Step) -> Context:
            def save(saved: Mapping[str, Any]) -> None:
                self._journal.atomically(lambda t: t.save_step(run.id, step.index, saved), OWN)

            def decisions() -> list[dict[str, Any]]:
                return [asdict(one) for one in self._journal.read(lambda t: t.decisions(run.id))]

            return Context(
                run_id=run.id,
                step=step.index,
                strategy=run.strategy,
                target=run.target,
                alert=plan.alert,
                value=plan.value,
                target_labels=plan.target_labels,
                timeout=planned.timeout,
                started_at=step.started_at,
                now=self._clock(),
                inventory=config.inventory,
                save=save,
                saved=step.saved,
                prometheus=config.prometheus,
                alertmanager=config.alertmanager,
                channels=config.channels,
                keys=config.keys,
                decisions=decisions,
                folder=config.folder,
            )

        return context


def _put(transaction: Transaction, run: Run, step: Step) -> None:
    """Write *step* down, and keep the target from others for as long as it may take."""
    assert run.plan is not None
    longest = run.plan.steps[step.index].timeout + TO_THE_END
    transaction.put_step(run.id, step)
    transaction.hold(run.target, 0.0 if step.finished_at is not None else longest)


def _past(run: Run) -> dict[tuple[Phase, int], Step]:
    return {(step.phase, step.index): step for step in run.steps}
