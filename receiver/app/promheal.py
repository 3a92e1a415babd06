"""What is a promheal made of? Its parts, each given what it needs; and what the edges ask of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from msgspec.structs import asdict

from receiver import bootstrap
from receiver.actions import Actions
from receiver.app.backups import Backups
from receiver.app.configuration import CurrentConfig
from receiver.app.housekeeping import Housekeeping
from receiver.app.leadership import Leadership, Outbox
from receiver.bootstrap import Options
from receiver.clock import Clock, LateClock, lead_of_wall
from receiver.config.in_force import Config
from receiver.engine import Engine
from receiver.engine.background import Background
from receiver.engine.timers import Timers
from receiver.errors import JournalError
from receiver.healing.intake import Intake
from receiver.healing.parts import assemble
from receiver.journal import Journal, file_of
from receiver.policy.target import Key
from receiver.reporting.healing_log import HealingLog
from receiver.reporting.lookout import Lookout
from receiver.reporting.metrics import Metrics
from receiver.reporting.needs import needs
from receiver.reporting.needs.need import Need
from receiver.reporting.notices import Notices
from receiver.reporting.present import Present, Seen, see
from receiver.reporting.reach import Reach
from receiver.reporting.scrape import Scrape
from receiver.services.sampling import Sampling
from receiver.yaml.diagnostics import format_problem

log: Final = logging.getLogger("promheal")

SENDING: Final = 2.0
"""Seconds that the end waits for a message that is being sent; else the next start sends it."""


class Promheal:
    """Accepts, decides, acts, verifies and reports, until it is closed."""

    def __init__(
        self,
        *,
        options: Options,
        current: CurrentConfig,
        actions: Actions,
        journal: Journal,
        metrics: Metrics,
        clock: LateClock,
        timers: Timers,
        engine: Engine,
    ) -> None:
        role = options.role
        self._options = options
        self.current = current
        self.actions = actions
        self.journal = journal
        self.metrics = metrics
        self.clock: Clock = clock
        self.sampling = Sampling(inventory=current.inventory, clock=clock)
        self.reach = Reach(upstreams=current.upstreams, clock=clock)
        self._timers = timers
        self.engine = engine
        self.intake = Intake(
            journal=journal,
            clock=clock,
            strategies=current.strategies,
            # A shared journal puts what it stores before the engine in the same transaction.
            wake=_leave if journal.shared else engine.wake,
            fetch=current.fetch,
            ask=current.ask,
            trusts=current.trusts,
            lists=current.lists,
        )
        healing_log = HealingLog(
            journal=journal,
            settings=lambda: current.config().settings.healing_log,
            folder=bootstrap.folder(options),
        )
        notices = Notices(journal=journal, config=current.config, url=options.external_url)
        leading = threading.Event()
        outbox = Outbox(
            leading=leading, config=current.config, clock=clock,
            healing_log=healing_log, notices=notices,
        )  # fmt: skip
        self.reconciler, self.control = assemble(
            journal=journal,
            actions=actions,
            metrics=metrics,
            clock=clock,
            config=current.config,
            wake=engine.wake,
            wake_all=engine.wake_all,
            role=role,
            ended=outbox.ended,
            would_have=outbox.would_have,
            asked=outbox.send,
        )
        self.background = Background(clock=clock, timers=timers)
        self._backups = Backups(
            current=current,
            folder=bootstrap.folder(options),
            journal=None if journal.shared else file_of(options.storage_url),
            leading=leading,
        )
        self.housekeeping = Housekeeping(
            background=self.background,
            current=current,
            journal=journal,
            clock=clock,
            intake=self.intake,
            reconciler=self.reconciler,
            healing_log=healing_log,
            sampling=self.sampling,
            backups=self._backups,
            leading=leading,
            role=role,
        )
        self._lookout = Lookout(ask=self.reach.look, needs=self._needs)
        self._leadership = Leadership(
            options=options,
            journal=journal,
            clock=clock,
            engine=engine,
            intake=self.intake,
            reconciler=self.reconciler,
            housekeeping=self.housekeeping,
            lookout=self._lookout,
            notices=notices,
            outbox=outbox,
            leading=leading,
        )
        self._notices = notices
        self._reloading = threading.Lock()
        self.acting = self._leadership.acting
        metrics.expect(current.config().strategies.actions)
        # Deciders report what stands in the journal; there may be a worker on each host.
        metrics.scrape = Scrape(
            journal=journal,
            present=self.present,
            uncounted=self.intake.rejections.uncounted,
            whole=role.decides,
        ).collect

    @property
    def config(self) -> Config:
        return self.current.config()

    @property
    def files(self) -> Sequence[Path]:
        return self.current.files

    @property
    def folder(self) -> Path:
        """Where the journal is, and the snapshots."""
        return bootstrap.folder(self._options)

    def clock_lead(self) -> float:
        """Return by how many seconds the wall clock is ahead of promheal's."""
        return lead_of_wall(self.clock)

    def start(self) -> None:
        """Act as soon as no other process does; `Leadership.start` says more."""
        self._backups.look_soon()
        self._leadership.start()

    def reload(self, how: str = "/-/reload", by: str = "") -> Sequence[str]:
        """Take the configuration as the files say now; return the warnings.

        Raises ConfigError when they cannot be used: then nothing has changed.
        """
        with self._reloading:
            try:
                return self._reload(how, by)
            finally:
                self.housekeeping.note_loads()
                self._lookout.wake()

    def _reload(self, how: str, by: str) -> Sequence[str]:
        loaded = self.current.reload(how, by)
        self.metrics.expect(loaded.strategies.actions)
        self.housekeeping.refresh()
        self._backups.look_soon()
        warnings = [format_problem(problem) for problem in loaded.problems]
        warnings += self.intake.matching.reload()
        try:
            self.reconciler.resync()
        except JournalError as error:
            log.warning("resync failed, retried: %s", error)
        log.info("configuration reloaded", extra={"hash": loaded.hash[:12]})
        return warnings

    def ready(self) -> str:
        """Return why it is not ready, or nothing: also while its file is checked."""
        condition = self.journal.condition
        if not condition.stores:
            return str(condition)
        unreadable = self._unreadable() or self._leadership.unread
        waits = self._options.works and not self.acting.is_set() and self._leadership.elsewhere
        if not unreadable and waits:
            return "another process acts on this journal"
        return unreadable or self.engine.trouble

    def dead(self) -> str:
        """Return why this process must be restarted, or an empty text.

        Not for what a restart does not mend: a full disk, another process that acts on the journal,
        a journal that needs a person, or a server that is away.
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
        self._leadership.stop()
        self.intake.matching.stop()
        if not self.housekeeping.stop(min(timeout, 5.0)):
            log.warning("ended while background tasks were running")
        if not self.engine.stop(timeout):
            log.warning("ended while actions were running; the next start takes them up")
        self._timers.stop()
        self.intake.settle()
        self._notices.stop(SENDING)
        self._lookout.stop(SENDING)
        self.journal.close()

    def present(self) -> Present:
        """Return what this process knows now."""
        current, config, lead = self.current, self.config, self.clock_lead()
        beat, accepted = self.intake.last_heartbeat, self.intake.last_notification
        return Present(
            strategies=config.strategies,
            engine=config.settings.engine,
            actions=self.actions.names,
            channels=tuple(config.settings.notify.channels),
            flags=asdict(config.settings.flags),
            dry_run=config.dry_run,
            pause_file=_existing(config.pause_file),
            queue_length=self.engine.length,
            unmatched=self.intake.matching.left,
            last_consider=self.reconciler.last_consider,
            last_heartbeat=beat and beat + lead,
            last_notification=accepted and accepted + lead,
            refused=self.intake.refused.counts(),
            condition=self.journal.condition,
            trouble=self.journal.trouble,
            journal_writable=self.journal.writable and self.journal.condition.stores,
            unready=self.ready(),
            acting=self.acting.is_set() and self._options.role.decides,
            config_hash=config.hash,
            reload_successful=current.reload_successful,
            reload_success_at=current.reload_success_at,
            clock_lead=lead,
            upstreams=self.reach.found,
            proves=config.prometheus is not None,
            tasks=self.background.tasks,
            keys=self.current.keys.summary(),
            backup=self._backups.state(),
            version=version("promheal"),
            now=self.clock(),
        )

    def look(self, present: Present) -> Seen:
        """Read what the journal knows now. Raises JournalError."""
        return self.journal.read(lambda transaction: see(transaction, present))

    def _needs(self) -> Sequence[Need]:
        present = self.present()
        return needs(present, self.look(present))


def _existing(path: Path | None) -> str:
    return str(path) if path is not None and path.exists() else ""


def _leave(_: Key) -> None:
    """Wake nobody."""
