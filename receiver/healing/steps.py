"""The steps of a run, executed or undone: each is committed as started before its action runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, repeat
from typing import Any, Final, TypeVar

from msgspec.structs import asdict

from receiver.actions import Actions, Context
from receiver.clock import Clock
from receiver.config.in_force import Config
from receiver.errors import JournalError
from receiver.healing.runner import Runner, Suspended
from receiver.journal import Journal, Transaction
from receiver.policy.life import LifeEvent, Occurrence
from receiver.policy.looks import clock_time, wait_of
from receiver.policy.run import Outcome, Phase, PlannedStep, Run, Step, StepState
from receiver.reporting.metrics import ACTIONS, Metrics, of_run

log: Final = logging.getLogger("promheal.healing")

TO_THE_END: Final = 15.0
"""Seconds after an action's deadline until nothing of it lives, with much to spare."""

_STORE_AGAIN: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts to store what an action did; the last stands for all that follow."""

T = TypeVar("T")


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
        self._acting = 0
        self._slot_free = threading.Condition()

    def forward(self, run: Run, *, resumed: bool) -> Occurrence:
        """Execute what is not done yet. *resumed*: the step found started had asked for time."""
        assert run.plan is not None
        steps = self._runner.forward(run.plan, _past(run), self._context_for(run), resumed=resumed)
        with self._slot():
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
        with self._slot():
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
        assert run.plan is not None
        longest = run.plan.steps[step.index].timeout + TO_THE_END

        def write(transaction: Transaction) -> bool:
            if step.state is StepState.STARTED and step.phase is Phase.RUN:
                now = transaction.run(run.id)
                assert now is not None
                if now.cancel:
                    return False
            transaction.put_step(run.id, step)
            transaction.hold(run.target, 0.0 if step.finished_at is not None else longest)
            if step.finished_at is not None:
                transaction.count(ACTIONS.name, step.action, step.state)
            return True

        if step.finished_at is None:
            if not self._journal.atomically(write):
                return False
        else:
            self._store(write)
            self._metrics.action_duration.labels(step.action).observe(
                step.finished_at - step.started_at, exemplar=of_run(run.id)
            )
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
        return True

    def _store(self, write: Callable[[Transaction], object]) -> None:
        """Write down what has been done already; a full disk may make that wait, not forget it."""
        for delay in chain(_STORE_AGAIN, repeat(_STORE_AGAIN[-1])):
            try:
                self._journal.atomically(write)
            except JournalError as error:
                log.error("a finished step is not stored yet: %s", error)  # noqa: TRY400
                time.sleep(delay)
            else:
                return

    @contextmanager
    def _slot(self) -> Iterator[None]:
        def free() -> bool:
            return self._acting < self._config().settings.engine.max_concurrent_runs

        with self._slot_free:
            self._slot_free.wait_for(free)
            self._acting += 1
        try:
            yield
        finally:
            with self._slot_free:
                self._acting -= 1
                self._slot_free.notify()

    def _context_for(self, run: Run) -> Callable[[PlannedStep, Step], Context]:
        config = self._config()
        plan = run.plan
        assert plan is not None

        def context(planned: PlannedStep, step: Step) -> Context:
            def save(saved: Mapping[str, Any]) -> None:
                self._journal.atomically(lambda t: t.save_step(run.id, step.index, saved))

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


def _past(run: Run) -> dict[tuple[Phase, int], Step]:
    return {(step.phase, step.index): step for step in run.steps}
