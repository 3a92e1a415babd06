"""What have the tests seen of each strategy: its steps, a heal, a failure, a guard that refused?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from receiver.policy.run import FAILURES, Outcome, Phase, StepState
from receiver.policy.strategy import Strategies, Strategy
from receiver.simulation.world import VirtualWorld
from receiver.testing.seen import acted

_MOST: Final = 10_000

Covered = dict[str, dict[str, dict[str, int]]]
"""By strategy: `guards` that refused, `outcomes` and `steps`, each with a number."""


class StrategyCoverage(msgspec.Struct, frozen=True, kw_only=True):
    strategy: str
    guards: dict[str, int]
    """Decisions by the guard that refused."""
    outcomes: dict[str, int]
    steps: dict[str, int]
    """Executions by `NUMBER ACTION`, numbered from 1."""
    missing: tuple[str, ...]
    """What no test has seen."""
    covered: int
    of: int


def covered(world: VirtualWorld) -> Covered:
    """Return what one test has seen."""
    found: Covered = {}

    def note(strategy: str, what: str, name: str) -> None:
        counts = found.setdefault(strategy, {}).setdefault(what, {})
        counts[name] = counts.get(name, 0) + 1

    for record in world.journal.read(lambda t: t.latest_decisions(limit=_MOST)):
        for answer in record.answers:
            if answer["verdict"] != "allow":
                note(record.strategy, "guards", answer["guard"])
    for run in acted(world):
        if run.outcome is not None:
            note(run.strategy, "outcomes", run.outcome)
        for step in run.steps:
            if step.phase is Phase.RUN and step.state is not StepState.SKIPPED:
                note(run.strategy, "steps", f"{step.index + 1} {step.action}")
    return found


def coverage_of(strategies: Strategies, found: Iterable[Covered]) -> list[StrategyCoverage]:
    """Return what all tests of these strategies have seen."""
    every = list(found)
    return [_of(strategy, [one.get(strategy.name, {}) for one in every]) for strategy in strategies]


def percent(rows: Iterable[StrategyCoverage]) -> float:
    """Return how much of what there is to see was seen."""
    every = list(rows)
    total = sum(one.of for one in every)
    return 100.0 * sum(one.covered for one in every) / total if total else 100.0


def _of(strategy: Strategy, found: list[dict[str, dict[str, int]]]) -> StrategyCoverage:
    guards, outcomes, steps = (
        _sum(one.get(what, {}) for one in found) for what in ("guards", "outcomes", "steps")
    )
    names = [f"{number} {step.action}" for number, step in enumerate(strategy.actions, 1)]
    missing = [f"step {name}" for name in names if name not in steps]
    if not guards:
        missing.append("a guard that refuses")
    heals = any(outcome in outcomes for outcome in (Outcome.HEALED, Outcome.INCONCLUSIVE))
    if not heals:
        missing.append("a heal")
    if not any(outcome in outcomes for outcome in (*FAILURES, Outcome.INCONCLUSIVE)):
        missing.append("a run that does not heal")
    of = len(names) + 3
    return StrategyCoverage(
        strategy=strategy.name,
        guards=guards,
        outcomes=outcomes,
        steps=steps,
        missing=tuple(missing),
        covered=of - len(missing),
        of=of,
    )


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    whole: dict[str, int] = {}
    for one in counts:
        for name, number in one.items():
            whole[name] = whole.get(name, 0) + number
    return dict(sorted(whole.items()))
