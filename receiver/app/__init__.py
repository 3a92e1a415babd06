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

from receiver import bootstrap, snapshots
from receiver.actions import Actions, discover
from receiver.bootstrap import Options
from receiver.clock import (
    Clock,
    LateClock,
    anchored_clock,
    boot,
    lead_of_wall,
    steady_clock,
    uptime,
)
from receiver.config.files import Loaded, load
from receiver.config.in_force import Config
from receiver.engine import Engine
from receiver.engine.background import Background, Task
from receiver.engine.embedded import EmbeddedEngine
from receiver.errors import ConfigError, JournalError
from receiver.healing.asked import Asked
from receiver.healing.intake import Intake
from receiver.healing.parts import assemble
from receiver.journal import Anchor, Journal, Transaction, open_journal
from receiver.policy.alert import Alert
from receiver.policy.guards.situation import Reason
from receiver.policy.run import Run
from receiver.policy.strategy import Strategies
from receiver.policy.target import Key
from receiver.reporting.healing_log import HealingLog, would_have
from receiver.reporting.lookout import Lookout
from receiver.reporting.metrics import Metrics
from receiver.reporting.needs import CLOCK_LEAD, Need, needs
from receiver.reporting.notices import Notices
from receiver.reporting.present import Present, Seen, see
from receiver.reporting.reach import UPSTREAMS, Probed, Reach
from receiver.reporting.scrape import Scrape
from receiver.services.sampling import Sampling
from receiver.yaml.diagnostics import format_problem

__all__ = ["Options", "Service", "build"]

log: Final = logging.getLogger("promheal")

DECIDING: Final = 2
"""Threads beyond those that can act, so that deciding and verifying never wait for an action."""
PRUNE_EVERY: Final = 3_600.0  # seconds
PRUNE_ROWS: Final = 1_000
"""Rows deleted in one transaction: a notification never waits long for it."""
TELL: Final = 2.0
"""Seconds that the end waits for a message that is being sent; else the next start sends it."""
READ_AGAIN: Final = 1.0
"""Seconds until it is tried again to read a journal that could not be read at the start."""
LOOK_AGAIN: Final = 5.0
"""Seconds after which it is asked again who keeps house, should nothing else bring it up."""
SAMPLE_EVERY: Final = 30.0  # seconds
_LATER: Final = "what fires is matched by the new strategies when the journal can store: %s"
NO_STRATEGIES: Final = Strategies(())


class Service:
    """A promheal: accepts, decides, acts, verifies and tells, until it is closed."""

    def __init__(self, options: Options, loaded: Loaded, actions: Actions, journal: Journal,
                 metrics: Metrics, clock: LateClock) -> None:  # fmt: skip
        self._options = options
        self._loaded = loaded
        self.keys = bootstrap.keys(loaded, options, clock)
        self._config = bootstrap.config(loaded, options, clock, self.keys)
        self._fetch = bootstrap.fetch(loaded)
        self.actions = actions
        self.journal = journal
        self.metrics = metrics
        self.clock: Clock = clock
        self._late_clock = clock
        self._unread = ""
        """Why what fires was not read from the journal yet; nothing acts before."""
        self.sampling = Sampling(lambda: self._config.inventory, clock)
        self.reach = Reach(self._upstreams, clock)
        self.engine = self._engine()
        self.intake = Intake(
            journal,
            clock,
            self._detecting,
            # Where it is shared, what is stored is put before the engine in the same transaction.
            _leave if journal.shared else self.engine.wake,
            lambda: self._fetch,
            lambda episode: self._config.judge(episode).signal,
            lambda sender: sender in self._config.trusted,
            lambda alert: self._config.verifier.lists(alert.labels),
        )
        self.healing_log = HealingLog(
            journal,
            lambda: bootstrap.log_file(options, self._config),
            lambda: self._config.settings.healing_log,
        )
        self.notices = Notices(journal, lambda: self._config, url=options.external_url)
        self.reconciler, self.control = assemble(
            journal=journal,
            actions=actions,
            metrics=metrics,
            clock=clock,
            config=lambda: self._config,
            wake=self.engine.wake,
            wake_all=self.engine.wake_all,
            role=options.role,
            ended=self._ended,
            would_have=self._log_dry_run,
            asked=self._tell,
        )
        self.background = Background(clock, self._tasks())
        self.lookout = Lookout(self.reach.look, self._needs)
        self._reloading = threading.Lock()
        self._reload_successful = True
        self._reload_success_at = clock()
        self._closing = threading.Event()
        self.acting = threading.Event()
        self.leading = threading.Event()
        """Set in the one process that keeps house: resync, retention, messages, the healing log."""
        metrics.expect(loaded.strategies.names, actions.names)
        # What the journal tells is told by those who decide; there may be a worker on each host.
        metrics.registry.register(
            Scrape(
                journal, self.present, self.intake.rejections.uncounted, whole=options.role.decides
            )
        )

    def _engine(self) -> Engine:
        options, metrics = self._options, self.metrics

        def threads() -> int:
            return options.threads or self._config.settings.engine.max_concurrent_runs

        if not self.journal.shared:
            return EmbeddedEngine(
                threads=lambda: threads() + DECIDING,
                clock=self.clock,
                observe_wait=metrics.queue_wait.observe,
            )
        from receiver.engine.postgres import PostgresEngine  # noqa: PLC0415  what is not installed
        from receiver.journal.postgres import PostgresJournal  # noqa: PLC0415

        assert isinstance(self.journal, PostgresJournal)
        return PostgresEngine(
            self.journal,
            options.role,
            threads=lambda: threads() + (DECIDING if options.role.decides else 0),
            clock=self.clock,
            observe_wait=metrics.queue_wait.observe,
        )

    @property
    def config(self) -> Config:
        return self._config

    @property
    def files(self) -> Sequence[Path]:
        return self._loaded.files

    @property
    def folder(self) -> Path:
        """Where the journal is, and the snapshots."""
        return bootstrap.folder(self._options)

    def clock_lead(self) -> float:
        """Return by how many seconds the wall clock is ahead of promheal's."""
        return lead_of_wall(self.clock)

    def start(self) -> None:
        """Match what fires anew, then act as soon as no other process does.

        A file that cannot be used now is waited for, beside what is served.
        """
        if self.journal.shared:
            if self._options.role.decides:
                self.intake.rematch()
            self._begin()
            if not self._options.role.decides:
                return
        else:
            self._read()
        threading.Thread(target=self._lead, name="lead", daemon=True).start()

    def reload(self) -> Sequence[str]:
        """Take the configuration as the files say now; return the warnings.

        Raises ConfigError when they cannot be used: then nothing has changed.
        """
        with self._reloading:
            try:
                return self._reload()
            finally:
                self.lookout.wake()

    def _reload(self) -> Sequence[str]:
        try:
            loaded = load(self._options.config_file, self.actions, self._options.environ)
            keys = bootstrap.keys(loaded, self._options, self.clock)
            config = bootstrap.config(loaded, self._options, self.clock, keys)
            fetch = bootstrap.fetch(loaded)
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
        warnings = [format_problem(problem) for problem in loaded.problems]
        try:
            self.intake.rematch()
            self.reconciler.resync()
        except JournalError as error:
            log.warning(_LATER, error)
            warnings.append(_LATER % error)
        log.info("configuration reloaded", extra={"hash": loaded.hash[:12]})
        return warnings

    def ready(self) -> str:
        """Return why it is not ready, or an empty text."""
        condition = self.journal.condition
        if not condition.sound:
            return str(condition)
        unreadable = self._unreadable() or self._unread
        if not unreadable and not self.acting.is_set() and self._options.works:
            return "another process acts on this journal"
        return unreadable or self.engine.trouble

    def dead(self) -> str:
        """Return what only a new process mends, or an empty text.

        Not what it lives with: a full disk, another process that acts on the journal, a journal
        that a person must see to, or a server that is away.
        """
        if not self.journal.alive:
            return "the journal's thread has ended"
        if not self.engine.alive:
            return "a thread of the engine has ended"
        if self.journal.shared or not self.journal.condition.sound:
            return ""
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
        self.lookout.stop(TELL)
        self.journal.close()

    def _lead(self) -> None:
        """Take the lead as soon as nobody has it, and where it can be lost, again and again."""
        told = False
        while not self._closing.is_set():
            if self._unread and not self._read():
                self._closing.wait(READ_AGAIN)
                continue
            if self.journal.acquire():
                if not self.leading.is_set():
                    self._take_lead()
                if not self.journal.shared:
                    return
                if self.journal.news(LOOK_AGAIN):
                    self._tell()
                continue
            self.leading.clear()
            if not told and not self.journal.shared and self.journal.condition.sound:
                log.warning("another process acts on this journal; waiting for it to end")
                self.lookout.start()
                told = True
            self._closing.wait(LOOK_AGAIN if self.journal.shared else 0.2)

    def _read(self) -> bool:
        """Go on with the journal's clock, and match what fires in it anew, if it can be used."""
        try:
            if not self._late_clock.known:
                self._late_clock.go_on_with(_clock(self.journal))
            if self._options.role.decides:
                self.intake.rematch()
        except JournalError as error:
            if str(error) != self._unread:
                log.error("nothing acts: %s", error)  # noqa: TRY400
            self._unread = str(error)
        else:
            self._unread = ""
        return not self._unread

    def _begin(self) -> None:
        if self._options.works:
            self.engine.start(self.reconciler.consider)
            self.acting.set()
            if self.journal.shared:  # what waits for a worker may have waited for this one
                waiting = self.journal.read(lambda t: t.pending_for(Reason.NO_WORKER))
                self.engine.wake_all(waiting)
        self.background.start()
        if self._options.role.decides:
            self.lookout.start()
        self._expect_probes()

    def _take_lead(self) -> None:
        if not self.journal.shared:
            self._begin()
        self.leading.set()
        try:
            self.reconciler.resync()
            self.notices.start()
        except JournalError as error:
            log.warning("the resync comes later: %s", error)
        self._tell()

    def _tell(self) -> None:
        """Write and send what is not written and sent yet, whichever process it comes from."""
        if self.leading.is_set():
            self.notices.wake()
            self.healing_log.write()

    def _resync(self) -> None:
        self.intake.settle()
        if not self.leading.is_set():
            return
        before = self.clock() - self._config.settings.engine.stale_after
        self.journal.atomically(lambda t: t.give_up(before=before))
        self.reconciler.resync(idle=True)
        self.healing_log.write()

    def _ended(self, _: Run) -> None:
        self._tell()

    def _log_dry_run(self, key: Key, alert: Alert, asked: Asked) -> None:
        strategy = self._config.strategies.get(key.strategy)
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

    def _upstreams(self) -> Sequence[tuple[str, Probed]]:
        config = self._config
        both = zip(UPSTREAMS, (config.prometheus, config.alertmanager), strict=True)
        return [(name, one) for name, one in both if one is not None]

    def _needs(self) -> Sequence[Need]:
        present = self.present()
        return needs(present, self.look(present))

    def look(self, present: Present) -> Seen:
        """Read what the journal knows now. Raises JournalError."""
        return self.journal.read(lambda transaction: see(transaction, present))

    def _expect_probes(self) -> None:
        """Have a task for each provider of language models; each is probed at once.

        Not by who only executes steps: there may be one on each host.
        """
        if not self._options.role.decides:
            return
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
        while self.leading.is_set() and self.journal.atomically(
            lambda t: t.prune(before=before, limit=PRUNE_ROWS)
        ):
            if self._closing.is_set():
                return
        # Each process has the files of the steps that it has executed.
        folder = self._config.folder
        if folder is not None:
            snapshots.prune(folder, lambda run: self.journal.read(lambda t: t.run(run)) is not None)

    def present(self) -> Present:
        """Return what this process knows now."""
        config, lead = self._config, self.clock_lead()
        beat, told = self.intake.last_heartbeat, self.intake.last_notification
        return Present(
            strategies=config.strategies,
            engine=config.settings.engine,
            actions=self.actions.names,
            channels=tuple(config.settings.notify.channels),
            flags=asdict(config.settings.flags),
            dry_run=config.dry_run,
            pause_file=_existing(config.pause_file),
            queue_length=self.engine.length,
            last_consider=self.reconciler.last_consider,
            last_heartbeat=beat and beat + lead,
            last_notification=told and told + lead,
            refused=self.intake.refused.counts(),
            condition=self.journal.condition,
            trouble=self.journal.trouble,
            journal_writable=self.journal.writable and self.journal.condition.stores,
            unready=self.ready(),
            acting=self.acting.is_set() and self._options.role.decides,
            config_hash=config.hash,
            reload_successful=self._reload_successful,
            reload_success_at=self._reload_success_at,
            clock_lead=lead,
            upstreams=self.reach.found,
            proves=config.prometheus is not None,
            tasks=self.background.tasks,
            keys=self.keys.summary(),
            version=version("promheal"),
            now=self.clock(),
        )


def _existing(path: Path | None) -> str:
    return str(path) if path is not None and path.exists() else ""


def _leave(_: Key) -> None:
    """Wake nobody."""


def build(options: Options, *, patient: bool = False) -> Service:
    """Make a service that is not yet started.

    Raises ConfigError when the configuration cannot be used, JournalError when the journal cannot;
    but *patient*, it waits for a journal in a file that cannot be used now.
    """
    actions = discover()
    loaded = load(options.config_file, actions, options.environ)
    for problem in loaded.problems:
        log.warning("%s", format_problem(problem))
    metrics = Metrics()
    journal = open_journal(
        options.storage_url,
        observe_commit=metrics.journal_commit_duration.observe,
        patient=patient,
    )
    clock = LateClock()
    try:
        clock.go_on_with(_clock(journal))
    except JournalError:
        if not patient:
            raise
    return Service(options, loaded, actions, journal, metrics, clock)


def _clock(journal: Journal) -> Clock:
    """Go on with the clock of the promheal before this one, if the machine has been up since.

    Across a start of the machine there is only the wall clock to go by, but never backwards.
    """
    anchor, newest = journal.read(lambda t: (t.anchor(), t.newest()))
    this = boot()
    if journal.shared:  # all go by the server's
        return anchored_clock(uptime(), max(journal.now(), newest))
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
