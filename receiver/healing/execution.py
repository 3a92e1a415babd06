"""Carries one run to its end, from whatever state the journal says it is in.

A turn does the work of one state, which brings an event; what follows from it is the table's to say
(`receiver.policy.life`), and is committed before the next turn. So a run that a crash has left is
taken up like any other.
"""

from __future__ import annotations

from typing import Final

import msgspec

from receiver.clock import Clock
from receiver.healing.aftermath import Aftermath
from receiver.healing.proof import Verification
from receiver.healing.steps import Opening, Steps
from receiver.journal import EVERYTHING, OWN, Extent, Journal, Transaction
from receiver.policy.life import TABLE, Effect, LifeEvent, Occurrence, Transition, heard, transition
from receiver.policy.role import DUTIES, UNBOUND, At, Duty, HandOver, Next, ProcessRole
from receiver.policy.run import Plan, Run, State, StepState
from receiver.reporting.metrics import ROLLBACKS, VERIFICATIONS

_CANCELLED_BETWEEN: Final = frozenset({State.WAITING, State.VERIFYING})
"""States in which a wish for the end is heard at once; steps hear of it before they begin."""

_Committed = tuple[LifeEvent, Transition, Run]


class Healing:
    def __init__(
        self,
        *,
        journal: Journal,
        steps: Steps,
        proof: Verification,
        aftermath: Aftermath,
        clock: Clock,
        role: ProcessRole,
    ) -> None:
        self._journal = journal
        self._steps = steps
        self._proof = proof
        self._aftermath = aftermath
        self._clock = clock
        self._role = role

    def opening(self, plan: Plan) -> Opening | None:
        """Return what writes the first step of *plan* down with its run, where it can be."""
        here = self._role.carries(State.ACTING, plan.runs_on)
        return self._steps.opening(plan) if here else None

    def carry(self, run: Run, opening: Opening | None = None) -> Next:
        """Do what can be done for *run* now; return when to look again.

        *opening*: that of the transaction that has just let it begin.
        """
        event: LifeEvent | None = None
        while run.state is not State.FINISHED:
            if run.state is State.WAITING and not run.cancel and not self._due(run):
                assert run.until is not None
                return At(run.until)
            if not self._role.carries(run.state, run.runs_on):
                return HandOver(run.runs_on if DUTIES[run.state] is Duty.EXECUTE else UNBOUND)
            occurrence = self._turn(run, resumed=event is LifeEvent.DUE, opening=opening)
            opening = None
            event, change, run = self._commit(run, occurrence)
            if Effect.FREE_SLOT in change.effects:
                self._aftermath.pass_on()
            if event in {LifeEvent.SUSPENDED, LifeEvent.UNDECIDED}:
                assert occurrence.until is not None
                return At(occurrence.until)
        self._aftermath.released(run)
        return At(self._clock())  # it may still fire: look at once, and let the guards decide

    def _turn(self, run: Run, *, resumed: bool, opening: Opening | None) -> Occurrence:
        """Do the work of the state that *run* is in. *resumed*: a timer has just ended."""
        if run.cancel and run.state in _CANCELLED_BETWEEN:
            return Occurrence(event=LifeEvent.CANCELLED)
        match run.state:
            case State.ACTING:
                return self._steps.forward(run, resumed=resumed, opening=opening)
            case State.WAITING:
                return Occurrence(event=LifeEvent.DUE)
            case State.VERIFYING:
                return self._proof.look(run, heals=self._steps.heals(run))
            case State.ROLLING_BACK:
                return self._steps.backward(run)
            case State.PENDING | State.FINISHED:
                raise AssertionError(f"run {run.id} is {run.state}: nothing to carry")

    def _commit(self, run: Run, occurrence: Occurrence) -> _Committed:
        """Write down what follows from *occurrence*, and what a person may have wished meanwhile.

        Returns the event that was heard, its transition, and the run as it is now. The end of a
        run changes what is counted over several targets; all else is its own.
        """

        def write(transaction: Transaction, extent: Extent) -> _Committed | None:
            current = transaction.run(run.id)
            assert current is not None
            event, change = self._heard(current, occurrence)
            if extent is not EVERYTHING and change.state is State.FINISHED:
                return None
            said = occurrence
            if event is LifeEvent.CANCELLED:
                said = Occurrence(event=event, reason=current.cancel)
            if occurrence.observation is not None:
                transaction.observe(current, occurrence.observation)
            for effect in change.effects:
                self._write_effect(transaction, effect, current, event, change)
            return event, change, self._write(transaction, current, said, change)

        _, change = self._heard(run, occurrence)
        extent = EVERYTHING if change.state is State.FINISHED else OWN
        committed = self._journal.atomically(lambda t: write(t, extent), extent)
        if committed is None:  # for a person has cancelled it meanwhile
            committed = self._journal.atomically(lambda t: write(t, EVERYTHING))
        assert committed is not None
        return committed

    def _heard(self, run: Run, occurrence: Occurrence) -> tuple[LifeEvent, Transition]:
        event = heard(run.state, occurrence.event, cancel=run.cancel != "")
        undoable = TABLE[run.state, event].undoes and self._steps.undoable(run)
        return event, transition(run.state, event, undoable=undoable, cause=run.cause)

    def _write(
        self, transaction: Transaction, run: Run, said: Occurrence, change: Transition
    ) -> Run:
        match change.state:
            case run.state:
                return run
            case State.FINISHED:
                return self._aftermath.finish(
                    transaction,
                    run,
                    change.end,
                    said.reason,
                    doubt=said.doubt,
                    forgets_at=said.forgets_at,
                )
            case State.ROLLING_BACK:
                return transaction.change(
                    run, change.state, cause=change.outcome, reason=said.reason, until=None
                )
            case _:
                return transaction.change(
                    run,
                    change.state,
                    reason=said.reason,
                    until=said.until,
                    verify_from=said.verify_from,
                )

    def _write_effect(
        self,
        transaction: Transaction,
        effect: Effect,
        run: Run,
        event: LifeEvent,
        change: Transition,
    ) -> None:
        """Write down those effects that belong to the transition's own transaction."""
        match effect:
            case Effect.CLOSE_STEPS:
                self._close_steps(transaction, run)
            case Effect.COUNT_PROOF:
                transaction.count(VERIFICATIONS.name, run.strategy, change.end)
            case Effect.COUNT_ROLLBACK:
                result = "done" if event is LifeEvent.UNDONE else "failed"
                transaction.count(ROLLBACKS.name, run.strategy, result)
            case Effect.BEGIN_STEP:
                pass  # it is decided on elsewhere (receiver.healing.settling)
            case Effect.FREE_SLOT | Effect.RELEASE:
                pass  # once it is committed

    def _close_steps(self, transaction: Transaction, run: Run) -> None:
        state, error = StepState.UNKNOWN, "promheal ended during this step"
        if run.state is State.WAITING:
            state, error = StepState.FAILED, run.cancel  # a timer is cut short
        for step in run.steps:
            if step.state is StepState.STARTED:
                ended = msgspec.structs.replace(
                    step, state=state, finished_at=self._clock(), error=error
                )
                transaction.put_step(run.id, ended)

    def _due(self, run: Run) -> bool:
        return run.until is None or self._clock() >= run.until
