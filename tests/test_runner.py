from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from receiver.actions import Context
from receiver.healing.runner import Ended, Runner, Suspended
from receiver.policy.run import Outcome, Phase, Plan, PlannedStep, Step, StepState
from tests.factories import NOW, FakeClock, Spy, actions, context


class Journalled:
    """Drives a runner as the caller must: every event is kept before the next is asked for."""

    def __init__(self, *params: dict[str, Any]) -> None:
        self.spy = Spy()
        self.clock = FakeClock()
        self.runner = Runner(actions(self.spy), self.clock)
        self.plan = Plan(
            steps=tuple(PlannedStep(action="spy", params=each, timeout=5.0) for each in params),
            rollback=True,
            verify_within=1.0,
            verify_query=None,
            verify_expect="empty",
            alert={},
        )
        self.steps: dict[tuple[Phase, int], Step] = {}
        self.saved: dict[int, dict[str, Any]] = {}
        self.trace: list[str] = []

    def _context(self, planned: PlannedStep, step: Step) -> Context:
        def save(saved: Mapping[str, Any]) -> None:
            self.saved[step.index] = dict(saved)

        return context(
            step=step.index,
            timeout=planned.timeout,
            started_at=step.started_at,
            now=self.clock(),
            save=save,
            saved=step.saved,
        )

    def _keep(self, event: Step | Suspended) -> None:
        if isinstance(event, Step):
            saved = self.saved.get(event.index, {}) if event.phase is Phase.RUN else {}
            self.steps[event.phase, event.index] = msgspec.structs.replace(event, saved=saved)
            self.trace.append(f"{event.phase} {event.index} {event.state}")

    def forward(self, *, resumed: bool = False, die_after: int = -1) -> Ended | Suspended | None:
        steps = self.runner.forward(self.plan, dict(self.steps), self._context, resumed=resumed)
        while die_after != len(self.trace):
            try:
                event = next(steps)
            except StopIteration as stop:
                ended: Ended = stop.value
                return ended
            self._keep(event)
            if isinstance(event, Suspended):
                return event
        return None

    def backward(self) -> bool:
        steps = self.runner.backward(self.plan, dict(self.steps), self._context)
        while True:
            try:
                self._keep(next(steps))
            except StopIteration as stop:
                whole: bool = stop.value
                return whole


def test_a_step_is_said_before_it_is_done() -> None:
    run = Journalled({})
    run.spy.before = lambda: run.trace.append("done")

    assert run.forward() == Ended(None, "", acted=True)

    assert run.trace == ["run 0 started", "done", "run 0 done"]
    assert run.steps[Phase.RUN, 0].result == {"said": "one"}


def test_the_first_failure_ends_the_run() -> None:
    run = Journalled({"name": "a"}, {"name": "b", "fails": True}, {"name": "c"})

    ended = run.forward()

    assert ended == Ended(Outcome.FAILED, "spy: it failed", acted=True)
    assert run.spy.calls == ["run a", "run b"]
    assert run.steps[Phase.RUN, 1].result == {"output": "what it said"}


def test_a_fault_of_an_action_is_a_failure_and_not_an_end_of_us() -> None:
    run = Journalled({})

    def fault() -> None:
        raise ZeroDivisionError("of course")

    run.spy.before = fault

    assert run.forward() == Ended(Outcome.FAILED, "spy: ZeroDivisionError: of course", acted=True)


def test_rollback_undoes_what_was_begun_last_first() -> None:
    run = Journalled({"name": "a"}, {"name": "b", "undo": "none"}, {"name": "c", "fails": True})
    run.forward()
    run.spy.calls.clear()

    assert run.backward()

    assert run.spy.calls == ["undo c", "undo a"]
    assert run.steps[Phase.ROLLBACK, 0].result == {"of": {"said": "a"}}
    assert run.steps[Phase.ROLLBACK, 2].result == {"of": None}, "what failed has no result"


def test_an_undoing_that_fails_does_not_stop_the_others() -> None:
    run = Journalled({"name": "a"}, {"name": "b", "undo": "fails"})
    run.forward()

    assert not run.backward()

    assert run.spy.calls[-2:] == ["undo b", "undo a"]


def test_a_step_that_may_not_be_repeated_is_not_after_a_crash() -> None:
    run = Journalled({"name": "a"}, {"name": "b"})
    run.forward(die_after=3)  # a done, b started

    ended = run.forward()

    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.UNKNOWN
    assert run.spy.calls == ["run a"], "b's action was never seen to run, and is not run now"
    assert run.steps[Phase.RUN, 1].state is StepState.UNKNOWN
    assert run.backward()
    assert run.spy.calls == ["run a", "undo b", "undo a"], "half of b may have happened"


def test_a_repeatable_step_is_repeated_after_a_crash() -> None:
    run = Journalled({"name": "a", "repeatable": True}, {"name": "b"})
    run.forward(die_after=1)

    assert run.forward() == Ended(None, "", acted=True)

    assert run.spy.calls == ["run a", "run b"]
    assert run.steps[Phase.RUN, 0].attempt == 2


def test_what_a_step_has_saved_is_there_when_it_is_repeated_and_when_it_is_undone() -> None:
    run = Journalled({"repeatable": True, "saves": "before"})
    run.forward()
    ended = run.steps[Phase.RUN, 0]
    died = msgspec.structs.replace(ended, state=StepState.STARTED, finished_at=None)
    run.steps[Phase.RUN, 0] = died  # as when it ran, and its end was not written down

    run.forward()
    assert run.spy.found == [{}, {"was": "before"}]

    assert run.backward()
    assert run.spy.found[-1] == {"was": "before"}


def test_what_is_done_is_not_done_again() -> None:
    run = Journalled({"name": "a"}, {"name": "b"})
    run.forward(die_after=2)

    run.forward()

    assert run.spy.calls == ["run a", "run b"]


def test_an_undoing_that_may_not_be_repeated_is_not_after_a_crash() -> None:
    run = Journalled({"name": "a"}, {"name": "b"})
    run.forward()
    begun = Step(
        index=1, phase=Phase.ROLLBACK, action="spy", state=StepState.STARTED, started_at=NOW
    )
    run.steps[Phase.ROLLBACK, 1] = begun
    run.spy.calls.clear()

    assert not run.backward(), "a person must look"

    assert run.spy.calls == ["undo a"]
    assert run.steps[Phase.ROLLBACK, 1].state is StepState.UNKNOWN


def test_a_timer_gives_the_thread_back_and_is_taken_up_where_it_was() -> None:
    run = Journalled({"name": "a"}, {"name": "b", "later": 60.0, "repeatable": True})

    assert run.forward() == Suspended(NOW + 60)
    run.clock.now += 61
    assert run.forward(resumed=True) == Ended(None, "", acted=True)

    assert run.spy.calls == ["run a", "run b"]
    assert run.trace[2:] == ["run 1 started", "run 1 done"], "started once"


def test_skipped_steps_do_nothing_and_are_not_undone() -> None:
    run = Journalled({"name": "a"})
    steps = (msgspec.structs.replace(run.plan.steps[0], skip="if: severity"),)
    run.plan = msgspec.structs.replace(run.plan, steps=steps)

    assert run.forward() == Ended(None, "", acted=False)

    assert run.steps[Phase.RUN, 0].state is StepState.SKIPPED
    assert not run.runner.anything_to_undo(run.plan, run.steps)
    assert run.spy.calls == []


@pytest.mark.parametrize("die_after", range(1, 6))
def test_whenever_it_dies_nothing_that_may_not_be_is_started_twice(die_after: int) -> None:
    run = Journalled({"name": "a"}, {"name": "b"}, {"name": "c"})
    run.forward(die_after=die_after)

    ended = run.forward()

    assert isinstance(ended, Ended)
    started = [line for line in run.trace if line.endswith("started")]
    assert len(started) == len(set(started))
    assert len(run.spy.calls) == len(set(run.spy.calls))


def test_a_step_that_was_begun_anew_and_found_nothing_to_do_may_have_done_it_before() -> None:
    run = Journalled({"name": "a", "repeatable": True, "skips": True})
    run.forward(die_after=1)

    assert run.forward() == Ended(None, "", acted=True)

    assert run.steps[Phase.RUN, 0].state is StepState.SKIPPED
    assert run.backward()
    assert run.spy.calls == ["run a", "undo a"]
