"""One test: a world that passes from one expectation to the next."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import Final

import msgspec

from receiver.actions import Actions
from receiver.errors import RefusedError
from receiver.simulation.course import course_of
from receiver.simulation.script import (
    Heals,
    Notifying,
    Script,
    ScriptedAction,
    ScriptedAlert,
    ScriptedQuery,
)
from receiver.simulation.world import VirtualWorld
from receiver.testing.coverage import Covered, covered
from receiver.testing.difference import Difference
from receiver.testing.events import happen
from receiver.testing.expectations import Check, compare
from receiver.testing.file import ActionInput, AlertInput, StrategyTest, WorldEvent
from receiver.testing.invariants import broken
from receiver.testing.reader import CHECKS, Place, Placed, Suite
from receiver.testing.seen import text
from receiver.testing.trace import Trace

_EVENT: Final = "events"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    """The key of the test file."""
    line: int
    column: int
    eval_time: str
    """Empty of what is never to happen."""
    expected: tuple[str, ...]
    got: tuple[str, ...]
    why: tuple[str, ...]


class CaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one test."""

    file: str
    name: str
    line: int
    failures: tuple[Failure, ...]
    covered: Covered
    trace: tuple[str, ...] = ()


def run_case(suite: Suite, placed: Placed, actions: Actions, *, traced: bool = False) -> CaseResult:
    """Run one test of *suite*. *actions* are the real ones, which are simulated."""
    test = placed.test
    with Trace(keep=traced) as trace:
        world = _world(suite, test, actions)
        trace.of(world)
        case = _Case(world, suite, placed)
        case.run()
    return CaseResult(
        file=suite.path,
        name=test.name or f"line {placed.at.line}",
        line=placed.at.line,
        failures=tuple(case.failures),
        covered=covered(world),
        trace=trace.lines,
    )


class _Case:
    def __init__(self, world: VirtualWorld, suite: Suite, placed: Placed) -> None:
        self._world = world
        self._suite = suite
        self._placed = placed
        self.failures: list[Failure] = []

    def run(self) -> None:
        world, test = self._world, self._placed.test
        for position, event in enumerate(test.events):
            at = world.start + event.at
            world.call(at, partial(self._happen, event, self._placed.places[_EVENT, position]))
        checks: list[tuple[float, Place, str, Check]] = [
            (check.eval_time, self._placed.places[key, position], key, check)
            for key in CHECKS
            for position, check in enumerate(getattr(test, key))
        ]
        checks.sort(key=lambda one: (one[0], one[1].line, one[1].column))
        for eval_time, place, key, check in checks:
            world.run(world.start + eval_time)
            self._note(key, place, compare(world, check), text(eval_time))
        world.run(world.start + _end(self._suite, test))
        for position, never in enumerate(self._suite.file.never):
            self._note("never", self._suite.never[position], broken(world, never))
        for position, never in enumerate(test.never):
            self._note("never", self._placed.places["never", position], broken(world, never))
        for query in world.upstream.unwritten:
            self._note(
                "queries",
                self._placed.at,
                Difference(
                    expected=("an answer to each query that the strategies ask",),
                    got=(f"none to {query}",),
                    why=("write `queries:` with it, as it stands here",),
                ),
            )

    def _happen(self, event: WorldEvent, place: Place) -> None:
        try:
            happen(self._world, event)
        except RefusedError as error:
            name, _ = event.chosen
            difference = Difference(expected=(f"{name} is accepted",), got=(str(error),))
            self._note(_EVENT, place, difference, text(event.at))

    def _note(
        self, kind: str, place: Place, difference: Difference | None, eval_time: str = ""
    ) -> None:
        if difference is not None:
            self.failures.append(
                Failure(
                    kind=kind,
                    line=place.line,
                    column=place.column,
                    eval_time=eval_time,
                    expected=difference.expected,
                    got=difference.got,
                    why=difference.why,
                )
            )


def _world(suite: Suite, test: StrategyTest, actions: Actions) -> VirtualWorld:
    interval = test.interval or suite.file.evaluation_interval
    script = Script(
        interval=interval,
        alerts=tuple(_alert(alert, interval) for alert in test.alerts),
        queries=tuple(
            ScriptedQuery(query=one.query, course=course_of(one.values, interval))
            for one in test.queries
        ),
        actions=tuple(map(_action, test.actions)),
    )
    return VirtualWorld(suite.loaded, script, actions=actions, start=suite.file.start_timestamp)


def _alert(alert: AlertInput, interval: float) -> ScriptedAlert:
    healed = alert.healed_by
    heals: tuple[Heals, ...] = ()
    if healed is not None:
        lasts = inf if healed.lasts is None else healed.lasts
        heals = (Heals(action=healed.action, after=healed.delay, nth=healed.nth, lasts=lasts),)
    return ScriptedAlert(
        labels=alert.labels,
        annotations=alert.annotations,
        expr=alert.expr,
        course=course_of(alert.firing, interval),
        heals=heals,
        notifying=msgspec.convert(msgspec.to_builtins(alert.notify), Notifying),
    )


def _action(action: ActionInput) -> ScriptedAction:
    return msgspec.convert(msgspec.to_builtins(action), ScriptedAction)


def _end(suite: Suite, test: StrategyTest) -> float:
    """Return when a test ends: with its last series, event or expectation. Seconds."""
    interval = test.interval or suite.file.evaluation_interval
    return max(  # type: ignore[no-any-return]
        [
            0.0,
            *(alert.firing.length * interval for alert in test.alerts),
            *(event.at for event in test.events),
            *(check.eval_time for key in CHECKS for check in getattr(test, key)),
        ]
    )
