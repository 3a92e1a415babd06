"""How do the parts meet? `build(options)` makes a service of them, and nothing else does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from receiver.actions import Actions, discover
from receiver.alert import Alert, Notification
from receiver.alertmanager import Alertmanager
from receiver.background import Background, Task
from receiver.clock import Clock, steady_clock
from receiver.config_files import Loaded, load
from receiver.engine.embedded import EmbeddedEngine
from receiver.errors import ConfigError, JournalError
from receiver.gathering import Config
from receiver.healing import Healing
from receiver.intake import Fetch, Intake
from receiver.journal import Journal, open_journal
from receiver.metrics import Metrics, Present
from receiver.problem import format_problem
from receiver.prometheus import Prometheus
from receiver.prover import PrometheusProver
from receiver.reconciler import Reconciler

log: Final = logging.getLogger("promheal")

DECIDING: Final = 2
"""Threads beyond those that can act, so that deciding and verifying never wait for an action."""
PRUNE_EVERY: Final = 3_600.0  # seconds
PRUNE_ROWS: Final = 1_000
"""Rows deleted in one transaction: a notification never waits long for it."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says."""

    config_file: Path
    storage_url: str
    environ: Mapping[str, str] = {}
    dry_run: bool = False


class Service:
    """A promheal: accepts, decides, acts, verifies and tells, until it is closed."""

    def __init__(self, options: Options, loaded: Loaded, actions: Actions, journal: Journal,
                 metrics: Metrics, clock: Clock) -> None:  # fmt: skip
        self._options = options
        self._loaded = loaded
        self._config = _config(loaded, options, clock)
        self._fetch = _fetch(loaded)
        self.actions = actions
        self.journal = journal
        self.metrics = metrics
        self.clock = clock
        self.engine = EmbeddedEngine(
            threads=lambda: self._config.settings.engine.max_concurrent_runs + DECIDING,
            clock=clock,
            observe_wait=metrics.queue_wait.observe,
        )
        self.intake = Intake(
            journal,
            clock,
            lambda: self._config.strategies,
            self.engine.wake,
            lambda: self._fetch,
            lambda alert: (
                self._config.prover.judge(alert.labels, alert.expression, since=0.0).signal
            ),
        )
        healing = Healing(journal, actions, metrics, clock, lambda: self._config, self.engine.wake)
        self.reconciler = Reconciler(
            journal, healing, metrics, clock, lambda: self._config, self.engine.wake
        )
        self._background = Background(
            (
                Task(
                    name="resync",
                    every=lambda: self._config.settings.engine.resync,
                    run=self._resync,
                ),
                Task(name="retention", every=lambda: PRUNE_EVERY, run=self._prune),
            )
        )
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
                config, fetch = _config(loaded, self._options, self.clock), _fetch(loaded)
            except ConfigError as error:
                self._reload_successful = False
                log.error("the configuration was not reloaded: %s", error)  # noqa: TRY400
                raise
            self.metrics.expect(loaded.strategies.names, self.actions.names)
            self._loaded, self._config, self._fetch = loaded, config, fetch
            self._reload_successful, self._reload_success_at = True, self.clock()
            self.intake.rematch()
            self.reconciler.resync()
            log.info("configuration reloaded", extra={"hash": loaded.hash[:12]})
            return [format_problem(problem) for problem in loaded.problems]

    def ready(self) -> str:
        """Return why it is not ready, or an empty text."""
        try:
            self.journal.read(lambda transaction: transaction.keys())
        except JournalError as error:
            return f"the journal cannot be read: {error}"
        if not self.acting.is_set():
            return "another process acts on this journal"
        return ""

    def close(self, timeout: float = 25.0) -> None:
        """End: what acts may finish within *timeout* seconds, nothing new begins."""
        self._closing.set()
        if self.acting.is_set():
            self._background.stop()
        if not self.engine.stop(timeout):
            log.warning("ended while actions were running; they are looked at again at the start")
        self.intake.settle()
        self.journal.close()

    def _lead(self) -> None:
        told = False
        while not self._closing.is_set():
            if self.journal.acquire():
                self.engine.start(self.reconciler.consider)
                self._background.start()
                self.reconciler.resync()
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

    def _prune(self) -> None:
        before = self.clock() - self._config.settings.journal.retention
        while self.journal.atomically(lambda t: t.prune(before=before, limit=PRUNE_ROWS)):
            if self._closing.is_set():
                return

    def _present(self) -> Present:
        config = self._config
        return Present(
            strategies=config.strategies,
            actions=self.actions.names,
            flags=msgspec.structs.asdict(config.settings.flags),
            queue_length=self.engine.length,
            last_consider=self.reconciler.last_consider,
            journal_writable=self.journal.writable,
            acting=self.acting.is_set(),
            config_hash=config.hash,
            reload_successful=self._reload_successful,
            reload_success_at=self._reload_success_at,
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
    clock = steady_clock(not_before=journal.read(lambda transaction: transaction.newest()))
    return Service(options, loaded, actions, journal, metrics, clock)


def _config(loaded: Loaded, options: Options, clock: Clock) -> Config:
    settings = loaded.settings
    return Config(
        settings=settings,
        strategies=loaded.strategies,
        inventory=loaded.inventory,
        prover=PrometheusProver(
            None if settings.prometheus is None else Prometheus(settings.prometheus), clock
        ),
        hash=loaded.hash,
        dry_run=options.dry_run,
    )


def _fetch(loaded: Loaded) -> Fetch | None:
    settings = loaded.settings.alertmanager
    if settings is None:
        return None
    alertmanager = Alertmanager(settings)

    def fetch(notification: Notification) -> Sequence[Alert]:
        return alertmanager.alerts(receiver=notification.receiver)

    return fetch
