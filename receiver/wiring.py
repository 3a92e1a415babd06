"""How do the parts meet? `build(options)` makes a service of them, and nothing else does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from msgspec.structs import asdict

from receiver import connections, snapshots
from receiver.actions import Actions, discover
from receiver.alert import Alert
from receiver.background import Background, Task
from receiver.clock import Clock, anchored_clock, boot, lead_of_wall, steady_clock, uptime
from receiver.config_files import Loaded, load
from receiver.connections import Options
from receiver.control import Control
from receiver.engine.embedded import EmbeddedEngine
from receiver.errors import ConfigError, JournalError
from receiver.gathering import Asked, Config
from receiver.healing import Healing
from receiver.healing_log import HealingLog, would_have
from receiver.intake import Intake
from receiver.journal import Journal, Key, Transaction, open_journal
from receiver.journal.steering import Anchor
from receiver.metrics import Metrics, Present
from receiver.notices import Notices
from receiver.problem import format_problem
from receiver.reconciler import Reconciler
from receiver.run import Run
from receiver.services.sampling import Sampling
from receiver.strategy import Strategies

__all__ = ["Options", "Service", "build"]

log: Final = logging.getLogger("promheal")

DECIDING: Final = 2
"""Threads beyond those that can act, so that deciding and verifying never wait for an action."""
PRUNE_EVERY: Final = 3_600.0  # seconds
PRUNE_ROWS: Final = 1_000
"""Rows deleted in one transaction: a notification never waits long for it."""
TELL: Final = 2.0
"""Seconds that the end waits for a message that is being sent; else the next start sends it."""
SAMPLE_EVERY: Final = 30.0  # seconds
CLOCK_LEAD: Final = 60.0
"""Seconds by which the wall clock may differ from promheal's before it is told."""
NO_STRATEGIES: Final = Strategies(())


class Service:
    """A promheal: accepts, decides, acts, verifies and tells, until it is closed."""

    def __init__(self, options: Options, loaded: Loaded, actions: Actions, journal: Journal,
                 metrics: Metrics, clock: Clock) -> None:  # fmt: skip
        self._options = options
        self._loaded = loaded
        self.keys = connections.keys(loaded, options, clock)
        self._config = connections.config(loaded, options, clock, self.keys)
        self._fetch = connections.fetch(loaded)
        self.actions = actions
        self.journal = journal
        self.metrics = metrics
        self.clock = clock
        self.sampling = Sampling(lambda: self._config.inventory, clock)
        self.engine = EmbeddedEngine(
            threads=lambda: self._config.settings.engine.max_concurrent_runs + DECIDING,
            clock=clock,
            observe_wait=metrics.queue_wait.observe,
        )
        self.intake = Intake(
            journal,
            clock,
            self._detecting,
            self.engine.wake,
            lambda: self._fetch,
            lambda alert: (
                self._config.prover.judge(alert.labels, alert.expression, since=0.0).signal
            ),
        )
        self.healing_log = HealingLog(
            journal,
            lambda: connections.log_file(options, self._config),
            lambda: self._config.settings.healing_log,
        )
        self.notices = Notices(journal, lambda: self._config, url=options.external_url)
        healing = Healing(
            journal,
            actions,
            metrics,
            clock,
            lambda: self._config,
            self.engine.wake,
            self._ended,
        )
        self.reconciler = Reconciler(
            journal,
            healing,
            metrics,
            clock,
            lambda: self._config,
            self.engine.wake,
            self._log_dry_run,
            self.notices.wake,
        )
        self.control = Control(
            journal, healing, clock, lambda: self._config, self.engine.wake, self.reconciler.resync
        )
        self.background = Background(clock, self._tasks())
        self._reloading = threading.Lock()
        self._reload_successful = True
        self._reload_success_at = clock()
        self._closing = threading.Event()
        self.acting = threading.Event()
        metrics.expect(loaded.strategies.names, actions.names)
        metrics.serve(journal, self._present)

    @property
    def config(self) -> Config:
        return self._config

    @property
    def files(self) -> Sequence[Path]:
        return self._loaded.files

    @property
    def folder(self) -> Path:
        """Where the journal is, and the snapshots."""
        return connections.folder(self._options)

    @property
    def reload_successful(self) -> bool:
        return self._reload_successful

    def clock_lead(self) -> float:
        """Return by how many seconds the wall clock is ahead of promheal's."""
        return lead_of_wall(self.clock)

    def start(self) -> None:
        """Match what fires anew, then act as soon as no other process does."""
        self.intake.rematch()
        threading.Thread(target=self._lead, name="lead", daemon=True).start()

    def reload(self) -> Sequence[str]:
        """Take the configuration as the files say now; return the warnings.

        Raises ConfigError when they cannot be used: then nothing has changed.
        """
        with self._reloading:
            try:
                loaded = load(self._options.config_file, self.actions, self._options.environ)
                keys = connections.keys(loaded, self._options, self.clock)
                config = connections.config(loaded, self._options, self.clock, keys)
                fetch = connections.fetch(loaded)
            except ConfigError as error:
                self._reload_successful = False
                log.error("the configuration was not reloaded: %s", error)  # noqa: TRY400
                raise
            self.metrics.expect(loaded.strategies.names, self.actions.names)
            self._loaded, self._config, self._fetch = loaded, config, fetch
            keys.carry(self.keys)
            self.keys = keys
            self._expect_probes()
            self.background.refresh()
            self._reload_successful, self._reload_success_at = True, self.clock()
            self.intake.rematch()
            self.reconciler.resync()
            log.info("configuration reloaded", extra={"hash": loaded.hash[:12]})
            return [format_problem(problem) for problem in loaded.problems]

    def ready(self) -> str:
        """Return why it is not ready, or an empty text."""
        unreadable = self._unreadable()
        if not unreadable and not self.acting.is_set():
            return "another process acts on this journal"
        return unreadable

    def dead(self) -> str:
        """Return what only a new process mends, or an empty text.

        Not what it lives with: a full disk, or another process that acts on the journal.
        """
        if not self.journal.alive:
            return "the journal's thread has ended"
        if not self.engine.alive:
            return "a thread of the engine has ended"
        return self._unreadable()

    def _unreadable(self) -> str:
        try:
            self.journal.read(lambda transaction: transaction.dormancy())
        except JournalError as error:
            return f"the journal cannot be read: {error}"
        return ""

    def close(self, timeout: float = 25.0) -> None:
        """End: what acts may finish within *timeout* seconds, nothing new begins."""
        self._closing.set()
        if not self.background.stop(min(timeout, 5.0)):
            log.warning("ended while background tasks were running")
        if not self.engine.stop(timeout):
            log.warning("ended while actions were running; they are looked at again at the start")
        self.intake.settle()
        self.notices.stop(TELL)
        self.journal.close()

    def _lead(self) -> None:
        told = False
        while not self._closing.is_set():
            if self.journal.acquire():
                self.engine.start(self.reconciler.consider)
                self.background.start()
                self._expect_probes()
                self.reconciler.resync()
                self.healing_log.write()
                self.notices.start()
                self.acting.set()
                return
            if not told:
                log.warning("another process acts on this journal; waiting for it to end")
                told = True
            self._closing.wait(0.2)

    def _resync(self) -> None:
        self.intake.settle()
        before = self.clock() - self._config.settings.engine.stale_after
        self.journal.atomically(lambda t: t.give_up(before=before))
        self.reconciler.resync()
        self.healing_log.write()

    def _ended(self, _: Run) -> None:
        self.notices.wake()
        self.healing_log.write()

    def _log_dry_run(self, key: Key, alert: Alert, asked: Asked) -> None:
        strategy = self._config.strategies.get(key[0])
        actions = 0 if strategy is None else len(strategy.actions)
        self.healing_log.add(
            would_have(key, alert, value=asked.value, actions=actions, now=self.clock())
        )

    def _detecting(self) -> Strategies:
        """Return the strategies that alerts are matched against now."""
        config = self._config
        return config.strategies if config.settings.flags.auto_detection else NO_STRATEGIES

    def _tasks(self) -> list[Task]:
        return [
            Task(
                id="resync",
                every=lambda: self._config.settings.engine.resync,
                run=self._resync,
            ),
            Task(id="retention", every=lambda: PRUNE_EVERY, run=self._prune),
            Task(
                id="process_monitor",
                every=lambda: SAMPLE_EVERY,
                run=self.sampling.sample,
                wanted=lambda: self._config.settings.flags.process_monitoring,
            ),
        ]

    def _expect_probes(self) -> None:
        """Have a task for each provider of language models; each is probed at once."""
        known = {task.id for task in self.background.tasks}
        for name in self._config.settings.llm.providers:
            if f"key_probe:{name}" not in known:
                self.background.register(
                    Task(
                        id=f"key_probe:{name}",
                        every=lambda: self._config.settings.llm.probe,
                        run=partial(self._probe, name),
                        wanted=partial(self._has_provider, name),
                    )
                )
            self.background.run_now(f"key_probe:{name}")

    def _probe(self, provider: str) -> None:
        self.keys.probe(provider)

    def _has_provider(self, name: str) -> bool:
        return name in self._config.settings.llm.providers

    def _prune(self) -> None:
        before = self.clock() - self._config.settings.journal.retention
        while self.journal.atomically(lambda t: t.prune(before=before, limit=PRUNE_ROWS)):
            if self._closing.is_set():
                return
        folder = self._config.folder
        if folder is not None:
            snapshots.prune(folder, lambda run: self.journal.read(lambda t: t.run(run)) is not None)

    def _present(self) -> Present:
        config, lead, beat = self._config, self.clock_lead(), self.intake.last_heartbeat
        return Present(
            strategies=config.strategies,
            engine=config.settings.engine,
            actions=self.actions.names,
            channels=tuple(config.settings.notify.channels),
            flags=asdict(config.settings.flags),
            queue_length=self.engine.length,
            last_consider=self.reconciler.last_consider,
            last_heartbeat=beat and beat + lead,
            journal_writable=self.journal.writable,
            acting=self.acting.is_set(),
            config_hash=config.hash,
            reload_successful=self._reload_successful,
            reload_success_at=self._reload_success_at,
            clock_lead=lead,
            tasks=self.background.tasks,
            keys=self.keys.summary(),
            version=version("promheal"),
            now=self.clock(),
        )


def build(options: Options) -> Service:
    """Make a service that is not yet started.

    Raises ConfigError when the configuration cannot be used, JournalError when the journal cannot.
    """
    actions = discover()
    loaded = load(options.config_file, actions, options.environ)
    for problem in loaded.problems:
        log.warning("%s", format_problem(problem))
    metrics = Metrics()
    journal = open_journal(
        options.storage_url, observe_commit=metrics.journal_commit_duration.observe
    )
    clock = _clock(journal)
    return Service(options, loaded, actions, journal, metrics, clock)


def _clock(journal: Journal) -> Clock:
    """Go on with the clock of the promheal before this one, if the machine has been up since.

    Across a start of the machine there is only the wall clock to go by, but never backwards.
    """
    anchor, newest = journal.read(lambda t: (t.anchor(), t.newest()))
    this = boot()
    if anchor is not None and anchor.boot == this:
        clock = anchored_clock(anchor.boottime, anchor.at)
        if clock() >= newest:
            lead = lead_of_wall(clock)
            if abs(lead) > CLOCK_LEAD:
                log.warning("the wall clock was stepped by %.0f s; promheal goes on with its own "
                            "until the machine starts anew", lead)  # fmt: skip
            return clock
    clock = steady_clock(not_before=newest)
    now, boottime = clock(), uptime()

    def keep(transaction: Transaction) -> None:
        transaction.put_anchor(Anchor(boot=this, boottime=boottime, at=now))

    journal.atomically(keep)
    return clock
