"""Are the runs those that are expected?"""

from __future__ import annotations

from receiver.policy.run import Phase, Run
from receiver.simulation.world import VirtualWorld
from receiver.testing.difference import Difference
from receiver.testing.expected import ExpectedRun, RunTest
from receiver.testing.seen import acted, close, latest, shown_time, text


def compare_runs(world: VirtualWorld, check: RunTest) -> Difference | None:
    found = acted(world, check.strategy)
    left = list(found)
    missing = 0
    for position, expected in enumerate(check.exp_runs):
        if check.some:
            match = next((run for run in left if _matches(world, expected, run)), None)
            if match is None:
                missing += 1
            else:
                left.remove(match)
        elif position >= len(found) or not _matches(world, expected, found[position]):
            missing += 1
    if not missing and (check.some or len(found) == len(check.exp_runs)):
        return None
    return Difference(
        expected=tuple(_shown_expectation(run) for run in check.exp_runs) or ("no runs",),
        got=tuple(shown_run(world, run) for run in found) or ("no runs",),
        why=latest(world, {run.strategy for run in check.exp_runs} or None),
    )


def _matches(world: VirtualWorld, expected: ExpectedRun, run: Run) -> bool:
    steps, undone = _steps(run)
    finished = None if run.finished_at is None else run.finished_at - world.start
    assert run.acted_at is not None
    times = (
        (expected.started, run.acted_at - world.start),
        (expected.finished, finished),
    )
    plain = (
        (expected.strategy, run.strategy),
        (expected.target, run.target),
        (expected.outcome, run.outcome),
        (expected.state, run.state),
        (None if expected.steps is None else list(expected.steps), steps),
        (None if expected.undone is None else list(expected.undone), undone),
    )
    return all(want is None or want == got for want, got in plain) and all(
        want is None or (got is not None and close(want, got)) for want, got in times
    )


def _steps(run: Run) -> tuple[list[dict[str, str]], list[str]]:
    steps = [{one.action: one.state} for one in run.steps if one.phase is Phase.RUN]
    undone = [one for one in run.steps if one.phase is Phase.ROLLBACK]
    return steps, [one.action for one in sorted(undone, key=lambda one: -one.index)]  # type: ignore[return-value]


def shown_run(world: VirtualWorld, run: Run) -> str:
    steps, undone = _steps(run)
    words = [
        f"{run.strategy} on {run.target}",
        f"started {shown_time(world, run.acted_at)}",
        f"finished {shown_time(world, run.finished_at)}" if run.finished_at else str(run.state),
        str(run.outcome) if run.outcome else "",
        "steps " + ", ".join(f"{name} {state}" for one in steps for name, state in one.items()),
        "undone " + ", ".join(undone) if undone else "",
        f"({run.reason})" if run.reason else "",
    ]
    return ", ".join(filter(None, words))


def _shown_expectation(run: ExpectedRun) -> str:
    words = [
        run.strategy + (f" on {run.target}" if run.target else ""),
        "" if run.started is None else f"started {text(run.started)}",
        "" if run.finished is None else f"finished {text(run.finished)}",
        str(run.outcome or ""),
        str(run.state or ""),
    ]
    if run.steps is not None:
        steps = (f"{name} {state}" for one in run.steps for name, state in one.items())
        words.append("steps " + ", ".join(steps))
    if run.undone is not None:
        words.append("undone " + (", ".join(run.undone) or "nothing"))
    return ", ".join(filter(None, words))
