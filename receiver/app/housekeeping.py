"""What is done by the clock: resync, retention, the process monitor, probes of LLM keys."""

from __future__ import annotations

import threading
from functools import partial
from typing import Final

from receiver import snapshots
from receiver.app.backups import Backups
from receiver.app.configuration import CurrentConfig
from receiver.clock import Clock
from receiver.engine.background import Background
from receiver.engine.periodic_task import PeriodicTask
from receiver.healing.intake import Intake
from receiver.healing.reconciler import Reconciler
from receiver.journal import ALL_ALERTS, Journal, Transaction
from receiver.policy.role import ProcessRole
from receiver.reporting.healing_log import HealingLog
from receiver.services.sampling import Sampling

PRUNE_EVERY: Final = 3_600.0  # seconds
PRUNE_ROWS: Final = 1_000
"""Rows deleted in one transaction: a notification never waits long for it."""
SAMPLE_EVERY: Final = 30.0  # seconds


class Housekeeping:
    """Registers the background tasks, and follows the configuration with them."""

    def __init__(
        self,
        *,
        background: Background,
        current: CurrentConfig,
        journal: Journal,
        clock: Clock,
        intake: Intake,
        reconciler: Reconciler,
        healing_log: HealingLog,
        sampling: Sampling,
        backups: Backups,
        leading: threading.Event,
        role: ProcessRole,
    ) -> None:
        """*leading* is set while this process is the leader."""
        self._background = background
        self._current = current
        self._journal = journal
        self._clock = clock
        self._intake = intake
        self._reconciler = reconciler
        self._healing_log = healing_log
        self._leading = leading
        self._role = role
        self._closing = threading.Event()
        for task in (
            PeriodicTask(
                id="resync",
                every=lambda: current.config().settings.engine.resync,
                run=self.resync,
            ),
            PeriodicTask(id="retention", every=lambda: PRUNE_EVERY, run=self.prune),
            PeriodicTask(
                id="process_monitor",
                every=lambda: SAMPLE_EVERY,
                run=sampling.sample,
                wanted=lambda: current.config().settings.flags.process_monitoring,
            ),
            PeriodicTask(id="backup", every=backups.every, run=backups.run, wanted=backups.wanted),
        ):
            background.register(task)

    def start(self) -> None:
        self.note_loads()
        self._background.start()
        self._expect_probes()

    def stop(self, timeout: float) -> bool:
        """Begin nothing new; True when all that ran has ended within *timeout* seconds."""
        self._closing.set()
        return self._background.stop(timeout)

    def refresh(self) -> None:
        """After a reload: run the tasks that are wanted now, at the intervals that hold now."""
        self._expect_probes()
        self._background.refresh()

    def note_loads(self) -> None:
        """Note which configurations were loaded. Each host of workers may have one of its own."""
        if self._role.decides:
            self._current.loads.note(self._journal)

    def resync(self) -> None:
        """Bring up what no event has brought up, and write what is not written yet."""
        self.note_loads()
        self._intake.settle()
        if not self._leading.is_set():
            return
        if not self._intake.matching.due:  # or what a strategy will ask for would be given up
            before = self._clock() - self._current.config().settings.engine.stale_after
            self._journal.atomically(lambda t: t.give_up(before=before), ALL_ALERTS)
        self._reconciler.resync(idle=True)
        self._healing_log.write()

    def prune(self) -> None:
        """Delete what is older than the retention, and the snapshots of runs that are gone."""
        config, now = self._current.config(), self._clock()
        kept = config.settings.journal
        inputs = partial(Transaction.prune_inputs, before=now - kept.inputs, limit=PRUNE_ROWS)
        rest = partial(Transaction.prune, before=now - kept.retention, limit=PRUNE_ROWS)
        for prune in (inputs, rest):
            while self._leading.is_set() and self._journal.atomically(prune):
                if self._closing.is_set():
                    return
        # Each process has the files of the steps that it has executed.
        if config.folder is not None:
            snapshots.prune(config.folder, self._knows)

    def _knows(self, run: int) -> bool:
        return self._journal.read(lambda t: t.run(run)) is not None

    def _expect_probes(self) -> None:
        """Register a task for each LLM provider, and probe each at once.

        Not on host workers: there may be one on each host.
        """
        if not self._role.decides:
            return
        known = {task.id for task in self._background.tasks}
        for name in self._current.config().settings.llm.providers:
            if f"key_probe:{name}" not in known:
                self._background.register(
                    PeriodicTask(
                        id=f"key_probe:{name}",
                        every=lambda: self._current.config().settings.llm.probe,
                        run=partial(self._probe, name),
                        wanted=partial(self._has_provider, name),
                    )
                )
            self._background.run_now(f"key_probe:{name}")

    def _probe(self, provider: str) -> None:
        self._current.keys.probe(provider)

    def _has_provider(self, name: str) -> bool:
        return name in self._current.config().settings.llm.providers
