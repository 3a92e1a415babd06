"""One life of a promheal, from its start until it is killed: the live parts, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from math import floor
from typing import Any

from receiver.actions import Actions
from receiver.clock import VirtualClock
from receiver.config.in_force import Config
from receiver.engine.timers import TimerHeap
from receiver.engine.virtual import VirtualEngine
from receiver.healing.intake import Intake
from receiver.healing.parts import assemble
from receiver.healing.steps import Opening, Steps
from receiver.journal import Journal
from receiver.policy.life import Occurrence
from receiver.policy.role import Next, ProcessRole
from receiver.policy.run import Run, State
from receiver.policy.strategy import Strategies
from receiver.policy.target import Key
from receiver.reporting.metrics import Metrics
from receiver.simulation.actions import SimulatedActions, Stage
from receiver.simulation.skipping import Skipping
from receiver.simulation.upstream import SimulatedUpstream

_NONE = Strategies(())


class _Everybody(ProcessRole, frozen=True):
    """Decides, and executes the steps of every host and label."""

    def carries(self, state: State, runs_on: str) -> bool:  # noqa: ARG002
        return True


class _TimedSteps(Steps):
    """Goes on with an action that takes its time where the process has left it."""

    def __init__(self, in_hand: Callable[[int], bool], **parts: Any) -> None:
        super().__init__(**parts)
        self._in_hand = in_hand

    def forward(self, run: Run, *, resumed: bool, opening: Opening | None = None) -> Occurrence:
        return super().forward(run, resumed=resumed or self._in_hand(run.id), opening=opening)


class ProcessLife:
    """What is lost at a kill -9; the journal stays, and so does the world."""

    def __init__(
        self,
        *,
        journal: Journal,
        clock: VirtualClock,
        heap: TimerHeap,
        config: Callable[[], Config],
        actions: Actions,
        stage: Stage,
        start: float,
        upstream: SimulatedUpstream | None = None,
    ) -> None:
        """*start* is when the first life began: background tasks are at intervals from there.

        *upstream* is given where looks at it that can change nothing are skipped.
        """
        self._journal = journal
        self._clock = clock
        self._heap = heap
        self._config = config
        self._start = start
        self.engine = VirtualEngine(clock, heap, leaves_idle=upstream is not None)
        self._skipping: Skipping | None = None
        if upstream is not None:
            self._skipping = Skipping(
                journal=journal, upstream=upstream, clock=clock, wake=self.engine.wake
            )
        simulated = SimulatedActions(actions, stage)

        def steps(**parts: Any) -> Steps:
            return _TimedSteps(simulated.in_hand, **parts)

        self.reconciler, self.control = assemble(
            journal=journal,
            actions=simulated,
            metrics=Metrics(),
            clock=clock,
            config=config,
            wake=self.engine.wake,
            wake_all=self.engine.wake_all,
            role=_Everybody(),
            make_steps=steps,
        )
        self.intake = Intake(
            journal=journal,
            clock=clock,
            strategies=self._strategies,
            wake=self._wake,
            fetch=lambda: None,
            ask=lambda episode: config().judge(episode).signal,
            lists=lambda alert: config().verifier.lists(alert.labels),
        )
        self._resyncing = False

    def begin(self) -> None:
        """Start as a promheal does: match what fires anew, and take up what is under way."""
        self.intake.matching.run()
        self.engine.start(self._consider)
        self.reconciler.resync()
        self._resync_later()

    def run(self, until: float) -> None:
        """Let time pass; returns early when it was killed."""
        self.engine.run(until)

    def kill(self) -> None:
        self.engine.stop(0)
        self._heap.cancel((self, "resync"))

    def changed(self) -> None:
        """An action has changed what Prometheus will say."""
        if self._skipping is not None:
            self._skipping.changed()

    def _consider(self, key: Key) -> Next:
        again = self.reconciler.consider(key)
        return again if self._skipping is None else self._skipping.next(key, again)

    def _strategies(self) -> Strategies:
        config = self._config()
        return config.strategies if config.settings.flags.auto_detection else _NONE

    def _wake(self, key: Key) -> None:
        self.engine.wake(key)
        self._resync_later()

    def _resync_later(self) -> None:
        """Set the next resync: at intervals from the start, while there is anything to look at."""
        if not self._resyncing:
            every = self._config().settings.engine.resync
            number = floor((self._clock() - self._start) / every) + 1
            self._resyncing = True
            self._heap.set((self, "resync"), self._start + number * every, self._resync)

    def _resync(self) -> None:
        self.intake.settle()
        before = self._clock() - self._config().settings.engine.stale_after
        self._journal.atomically(lambda t: t.give_up(before=before))
        self.reconciler.resync(idle=True)
        self._resyncing = False
        if self._journal.read(lambda t: t.keys()):
            self._resync_later()
