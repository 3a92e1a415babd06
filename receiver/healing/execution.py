"""How is one run carried to its end? Steps, timer, proof, rollback, outcome; from any state.

After a crash the journal says where a run is, and it is taken up here like any other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, repeat
from typing import Any, Final

import msgspec
from msgspec.structs import asdict

from receiver.actions import Actions, Context
from receiver.clock import Clock
from receiver.config.in_force import Config
from receiver.errors import JournalError
from receiver.healing import evidence, outcomes
from receiver.healing.runner import Event, Runner, Suspended
from receiver.journal import Journal, Transaction
from receiver.policy.breaker import BreakerState
from receiver.policy.guards.situation import Reason, Signal
from receiver.policy.looks import Look, Wait, cleared_since, clock_time, end_of, next_look, wait_of
from receiver.policy.role import EVERYWHERE, ProcessRole
from receiver.policy.run import (
    FAILURES,
    Doubt,
    Observation,
    Outcome,
    Phase,
    PlannedStep,
    Run,
    State,
    Step,
    StepState,
)
from receiver.policy.target import Key
from receiver.reporting.metrics import ACTIONS, HEALS, ROLLBACKS, VERIFICATIONS, Metrics, of_run

log: Final = logging.getLogger("promheal.healing")

PASSED_ON: Final = (Reason.CONCURRENCY, Reason.STORM)
"""What a run waits for that another one hands over."""

TO_THE_END: Final = 15.0
"""Seconds after an action's deadline until nothing of it lives, with much to spare."""

_STORE_AGAIN: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts to store what an action did; the last stands for all that follow."""


class Healing:
    def __init__(
        self,
        journal: Journal,
        actions: Actions,
        metrics: Metrics,
        clock: Clock,
        config: Callable[[], Config],
        wake: Callable[[Key], None],
        ended: Callable[[Run], None] = lambda _: None,
        role: ProcessRole = EVERYWHERE,
    ) -> None:
        """*ended* is told of each run that has ended here."""
        self._role = role
        self.ended = ended
        self._journal = journal
        self._runner = Runner(actions, clock)
        self._metrics = metrics
        self._clock = clock
        self._config = config
        self._wake = wake
        # The guard lets no more runs begin than there are slots; runs that come back from a timer
        # or must be undone have been let in before, and wait here.
        self._acting = 0
        self._slot_free = threading.Condition()

    def carry(self, run: Run) -> float | None:
        """Take up a run where the journal says it is; return when to look again, or None."""
        if run.cancel and run.state in {State.WAITING, State.VERIFYING}:
            return self._cancel(run)
        match run.state:
            case State.ACTING:
                return self.forward(run)
            case State.WAITING:
                if run.until is not None and self._clock() < run.until:
                    return run.until
                return self._resume(run)
            case State.VERIFYING:
                return self._verify(run)
            case State.ROLLING_BACK:
                return self._backward(run)
            case State.PENDING | State.FINISHED:
                raise AssertionError(f"run {run.id} is {run.state}: nothing to carry")

    def forward(self, run: Run, *, resumed: bool = False) -> float | None:
        if run.runs_on not in self._role.executes:
            return self._clock()  # for those who do: the engine knows where they are
        assert run.plan is not None
        steps = self._runner.forward(run.plan, _past(run), self._context_for(run), resumed=resumed)
        try:
            with self._slot():
                ended = yield_from(steps, lambda event: self._write_step(run, event))
        except _CancelledError:
            return self._cancel(run)
        if isinstance(ended, Suspended):
            until = ended.until
            self._journal.atomically(
                lambda t: t.change(run, State.WAITING, reason="timer", until=until)
            )
            self.pass_on()
            return until
        if ended.outcome is not None:
            return self._give_up(run, ended.outcome, ended.reason)
        if not ended.acted:
            return self._end(run, Outcome.CANCELLED, "no step applied to this alert")
        now = self._clock()
        deadline = wait_of(run.plan, now).deadline

        def done(transaction: Transaction) -> Run:
            reason = f"its proof takes until {clock_time(deadline, now)} at most"
            transaction.change(run, State.VERIFYING, verify_from=now, until=now, reason=reason)
            fresh = transaction.run(run.id)
            assert fresh is not None
            return fresh

        after = self._journal.atomically(done)
        self.pass_on()
        # Who wanted its end during the last step is heard before it is proven.
        return self._cancel(after) if after.cancel else self._verify(after)

    def _resume(self, run: Run) -> float | None:
        if run.runs_on not in self._role.executes:
            return self._clock()
        run = self._journal.atomically(lambda t: t.change(run, State.ACTING, reason="", until=None))
        return self.forward(run, resumed=True)

    def _cancel(self, run: Run) -> float | None:
        """Someone wants the end of a run that is between two steps, or being verified."""

        def write(transaction: Transaction) -> Run:
            fresh = transaction.run(run.id)
            assert fresh is not None
            for step in fresh.steps:
                if step.state is not StepState.STARTED:
                    continue
                state, error = StepState.FAILED, fresh.cancel  # a timer
                if fresh.state is not State.WAITING:
                    state, error = StepState.UNKNOWN, "promheal ended during this step"
                ended = msgspec.structs.replace(
                    step, state=state, finished_at=self._clock(), error=error
                )
                transaction.put_step(run.id, ended)
            return fresh

        return self._give_up(run, Outcome.CANCELLED, self._journal.atomically(write).cancel)

    def _give_up(self, run: Run, cause: Outcome, reason: str) -> float | None:
        """The run did not work: undo what can be undone, and end it."""
        fresh = self._journal.read(lambda t: t.run(run.id))
        assert fresh is not None
        assert fresh.plan is not None
        if fresh.cancel and cause is Outcome.FAILED:  # the step in hand, that had to end first
            cause, reason = Outcome.CANCELLED, fresh.cancel
        if not fresh.plan.rollback or not self._runner.anything_to_undo(fresh.plan, _past(fresh)):
            return self._end(fresh, cause, reason)
        fresh = self._journal.atomically(
            lambda t: t.change(fresh, State.ROLLING_BACK, cause=cause, reason=reason, until=None)
        )
        return self._backward(fresh)

    def _backward(self, run: Run) -> float | None:
        if run.runs_on not in self._role.executes:
            return self._clock()
        assert run.plan is not None
        steps = self._runner.backward(run.plan, _past(run), self._context_for(run))
        with self._slot():
            whole = yield_from(steps, lambda event: self._write_step(run, event))
        cause = run.cause or Outcome.FAILED
        if not whole:
            outcome = Outcome.ROLLBACK_FAILED
        else:
            outcome = Outcome.ROLLED_BACK if cause is Outcome.FAILED else cause
        undone = "done" if whole else "failed"
        return self._end(run, outcome, run.reason, rollback=undone)

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

    def _write_step(self, run: Run, event: Event) -> None:
        """Commit what is about to be done, or what has been done, before anything else happens."""
        if isinstance(event, Suspended):
            return
        step = event
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
                raise _CancelledError
        else:
            self._store(write)
            self._metrics.action_duration.labels(step.action).observe(
                step.finished_at - step.started_at, exemplar=of_run(run.id)
            )
        log.log(
            logging.WARNING
            if step.state in {StepState.FAILED, StepState.UNKNOWN}
            else logging.INFO,
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
                self._journal.atomically(write)
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

    # -- did it heal?

    def _verify(self, run: Run) -> float | None:
        if not self._role.decides:
            return self._clock()
        plan = run.plan
        assert plan is not None
        assert run.verify_from is not None
        config = self._config()
        wait = wait_of(plan, run.verify_from)
        now = self._clock()
        judgement = evidence.look(
            config.verifier,
            plan,
            acted_at=run.acted_at or run.created_at,
            since=run.verify_from,
        )
        if config.settings.prometheus is None:
            wait = msgspec.structs.replace(wait, deadline=now)  # nobody will ever answer
        look = Look(
            at=now,
            signal=judgement.signal,
            detail=judgement.detail,
            unasked=judgement.unasked,
            lag=judgement.lag,
        )
        cleared = self._cleared(run, look, wait)
        heals = self._runner.tried_to_heal(plan, _past(run))
        end = end_of(look, plan, wait, cleared, heals=heals)
        outcome = end.outcome
        observation = Observation(
            at=now, verdict=look.signal, value=judgement.value, detail=end.seen
        )

        def write(transaction: Transaction) -> Run | None:
            transaction.put_observation(run.id, observation)
            fresh = transaction.run(run.id)
            assert fresh is not None
            if outcome is None or fresh.cancel:  # who cancels it has woken it: it is undone next
                return None
            transaction.count(VERIFICATIONS.name, run.strategy, outcome)
            if outcome is Outcome.INEFFECTIVE:
                return run
            return self.finish(
                transaction,
                run,
                outcome,
                end.reason,
                doubt=end.doubt,
                forgets_at=end.forgets_at,
            )

        after = self._journal.atomically(write)
        if after is None:
            return next_look(now, wait, cleared)
        if outcome is Outcome.INEFFECTIVE:
            return self._give_up(after, outcome, end.reason)
        if outcome is Outcome.HEALED:
            self._metrics.alert_to_clear.labels(run.strategy).observe(
                max(0.0, now - float(plan.alert["starts_at"])), exemplar=of_run(run.id)
            )
        return self.released(after)

    def _cleared(self, run: Run, look: Look, wait: Wait) -> float | None:
        """Since when every look has found it cleared, this one too."""
        if look.signal is not Signal.CLEARED:
            return None
        if not wait.hold:
            return look.at
        before = cleared_since(self._journal.read(lambda t: t.observations(run.id)))
        return look.at if before is None else before

    # -- the end

    def _end(
        self, run: Run, outcome: Outcome, reason: str, *, rollback: str | None = None
    ) -> float | None:
        def write(transaction: Transaction) -> Run:
            if rollback is not None:
                transaction.count(ROLLBACKS.name, run.strategy, rollback)
            return self.finish(transaction, run, outcome, reason)

        return self.released(self._journal.atomically(write))

    def finish(
        self,
        transaction: Transaction,
        run: Run,
        outcome: Outcome,
        reason: str,
        *,
        doubt: Doubt | None = None,
        forgets_at: float | None = None,
    ) -> Run:
        now = self._clock()
        transaction.count(HEALS.name, run.strategy, outcome)
        failure = outcome in FAILURES
        if run.acted_at is not None:
            failure = outcomes.end(transaction, self._config(), run, outcome, now, doubt=doubt)
        if (failure or doubt is Doubt.UNASKED) and self._config().settings.notify.tells:
            transaction.put_untold(run.id, "ended")
        return transaction.finish(run, outcome, reason, now=now, doubt=doubt, forgets_at=forgets_at)

    def released(self, run: Run) -> float | None:
        """A run has ended: tell the log, and let in who waited for its target or its slot."""
        assert run.finished_at is not None
        if run.acted_at is not None:
            self._metrics.heal_duration.labels(run.strategy).observe(
                run.finished_at - run.acted_at, exemplar=of_run(run.id)
            )
        good = run.outcome in {Outcome.HEALED, Outcome.CANCELLED}
        log.log(
            logging.INFO if good else logging.WARNING,
            "run ended: %s",
            run.outcome,
            extra={
                "run": run.id,
                "strategy": run.strategy,
                "target": run.target,
                "outcome": str(run.outcome),
                "reason": run.reason,
            },
        )
        for key in self._journal.read(lambda t: self._told_by(t, run)):
            self._wake(key)
        for reason in PASSED_ON:
            self.pass_on(reason)
        self.ended(run)
        return self._clock()  # it may still fire: look at once, and let the guards decide

    def _told_by(self, transaction: Transaction, run: Run) -> list[Key]:
        """Log what the end of *run* changed, and return whom it concerns."""
        concerned = transaction.pending_on(run.target)
        transitions = transaction.transitions(run=run.id)
        for one in transitions:
            if one.happening.at == run.finished_at and one.state is not BreakerState.CLOSED:
                log.warning("breaker %s", one.state, extra={"breaker": one.breaker, "run": run.id})
        if transitions:  # a trial has ended, or there is nothing to wait for any more
            concerned += transaction.pending_for(Reason.BREAKER_OPEN)
        dormancy = transaction.dormancy()
        if dormancy.since is not None and dormancy.since == run.finished_at:
            log.error("dormant: nothing acts until a person resumes it; %s", dormancy.reason)
        return concerned

    def pass_on(self, reason: Reason = Reason.CONCURRENCY) -> None:
        """Give a place that is free to the run that has waited longest for it."""
        key = self._journal.read(lambda t: t.next_pending(reason))
        if key is not None:
            self._wake(key)


class _CancelledError(Exception):
    """A person wants no further step; the run says who and why."""


def yield_from(steps: Iterator[Any], write: Callable[[Any], None]) -> Any:
    """Drive a runner's generator: write every event down before asking for the next."""
    while True:
        try:
            event = next(steps)
        except StopIteration as stop:
            return stop.value
        write(event)
        if isinstance(event, Suspended):
            return event


def _past(run: Run) -> dict[tuple[Phase, int], Step]:
    return {(step.phase, step.index): step for step in run.steps}
