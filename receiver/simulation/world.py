"""The whole of it: a world by a script, and a promheal in it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

from receiver.actions import Actions, Context
from receiver.clock import VirtualClock
from receiver.config.files import LoadedConfig
from receiver.config.in_force import Config
from receiver.engine.timers import TimerHeap
from receiver.journal.memory import MemoryJournal
from receiver.policy.alert import Notification
from receiver.simulation.actions import ActionCall, Killed, Stage
from receiver.simulation.course import AlertCourse
from receiver.simulation.notifier import Group
from receiver.simulation.process import ProcessLife
from receiver.simulation.script import Script, ScriptedAlert
from receiver.simulation.upstream import SimulatedUpstream

log: Final = logging.getLogger("promheal.simulation")


class VirtualWorld:
    """Stands at *start*, seconds since the epoch; `run` lets time pass."""

    def __init__(
        self,
        loaded: LoadedConfig,
        script: Script,
        *,
        actions: Actions,
        start: float,
        skips: bool = False,
    ) -> None:
        """*actions* are the real ones, which are simulated.

        *skips*: what can change nothing is left out, for long times: see skipping.py, and of a
        resync what has a time anyhow. Then decisions are repeated less often.
        """
        self._skips = skips
        self.start = start
        self.loaded = loaded
        self.clock = VirtualClock(start)
        self._heap = TimerHeap()
        self.hosts_away: set[str] = set()
        """Hosts and labels without a living worker."""
        self.journal = MemoryJournal(has_worker=lambda name: name not in self.hosts_away)
        self.upstream = SimulatedUpstream(script, loaded.settings, self.clock, start)
        self.stage = Stage(script.actions, self.clock, self._done)
        self.actions = actions
        self._config = Config(
            settings=loaded.settings,
            strategies=loaded.strategies,
            inventory=loaded.inventory,
            verifier=self.upstream,
            hash=loaded.hash,
            silenced=self.upstream.silenced,
        )
        self._groups = [
            Group(
                alert, course,
                upstream=self.upstream, clock=self.clock, start=start,
                at=self._at, send=self._deliver,
            )
            for alert, course in self.upstream.alerts.values()
        ]  # fmt: skip
        self._healed: Counter[tuple[str, int]] = Counter()  # executions by action and alert
        self._healable: dict[str, list[tuple[int, ScriptedAlert, AlertCourse]]] = {}
        for number, (alert, course) in enumerate(self.upstream.alerts.values()):
            for action in dict.fromkeys(one.action for one in alert.heals):
                self._healable.setdefault(action, []).append((number, alert, course))
        self.lives = 0
        self.process = self._live()
        for group in self._groups:
            group.evaluate()
        self.process.begin()

    def call(self, at: float, what: Callable[[], None]) -> None:
        """Have *what* done at *at*, before promheal does what is due then."""
        self._at((self, object()), at, what)

    def run(self, until: float) -> None:
        """Let time pass until *until*, with all that is due by then."""
        while self.clock.now < until or self.process.engine.length:
            try:
                self.process.run(until)
            except Killed:
                self.restart()

    def restart(self) -> None:
        """Kill -9, and the next life begins."""
        log.info("killed, and started again")
        self.process.kill()
        self.process = self._live()
        self.process.begin()

    def alertmanager(self, *, down: bool) -> None:
        """Let Alertmanager go, or come back: then it notifies of what it could not."""
        self.upstream.alertmanager_down = down
        if not down:
            for group in self._groups:
                group.flush()

    def _live(self) -> ProcessLife:
        self.lives += 1
        return ProcessLife(
            journal=self.journal,
            clock=self.clock,
            heap=self._heap,
            config=lambda: self._config,
            actions=self.actions,
            stage=self.stage,
            start=self.start,
            upstream=self.upstream if self._skips else None,
        )

    def _at(self, name: object, at: float, ring: Callable[[], None]) -> None:
        self._heap.set(name, at, ring)

    def _deliver(self, notification: Notification) -> None:
        for alert in notification.alerts:
            log.info("notified", extra={"status": str(alert.status), "labels": alert.labels})
        self.process.intake.admit(notification)

    def _done(self, call: ActionCall, context: Context) -> None:
        """An action has succeeded: end the alerts of its target that it heals."""
        labels = context.target_labels.items()
        for number, alert, course in self._healable.get(call.action, ()):
            if not labels <= alert.labels.items():
                continue
            times = self._healed[call.action, number] = self._healed[call.action, number] + 1
            for one in alert.heals:
                if one.action == call.action and one.nth in {None, times}:
                    course.heal(self.clock() - self.start + one.after, one.lasts)
            self._groups[number].changed()
            self.process.changed()
