"""Which process leads? One of those that share a journal: it resyncs, prunes, and sends messages.

Of a journal in a file, only the leader acts at all; the others wait until it has ended.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from receiver.app.housekeeping import Housekeeping
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
from receiver.config.in_force import Config
from receiver.engine import Engine
from receiver.errors import JournalError
from receiver.healing.asked import Asked
from receiver.healing.intake import Intake
from receiver.healing.reconciler import Reconciler
from receiver.journal import Anchor, Journal, Transaction
from receiver.policy.alert import Alert
from receiver.policy.guards.situation import Reason
from receiver.policy.run import Run
from receiver.policy.target import Key
from receiver.reporting.healing_log import HealingLog
from receiver.reporting.healing_log_line import would_have
from receiver.reporting.lookout import Lookout
from receiver.reporting.needs.process import CLOCK_LEAD
from receiver.reporting.notices import Notices

log: Final = logging.getLogger("promheal")

READ_AGAIN: Final = 1.0
"""Seconds between attempts to read a journal that could not be read at the start."""
LEAD_AGAIN: Final = 5.0
"""Seconds between attempts to become leader."""
LOCK_AGAIN: Final = 0.2
"""Seconds between attempts to lock a journal in a file."""


class Outbox:
    """What ended runs leave to be written and sent; the leader does it, for all processes."""

    def __init__(
        self,
        *,
        leading: threading.Event,
        config: Callable[[], Config],
        clock: Clock,
        healing_log: HealingLog,
        notices: Notices,
    ) -> None:
        self._leading = leading
        self._config = config
        self._clock = clock
        self._healing_log = healing_log
        self._notices = notices

    def send(self) -> None:
        """Write and send what is pending, whichever process it comes from."""
        if self._leading.is_set():
            self._notices.wake()
            self._healing_log.write()

    def ended(self, _: Run) -> None:
        self.send()

    def would_have(self, key: Key, alert: Alert, asked: Asked) -> None:
        """Write what is not done for `--dry-run`."""
        strategy = self._config().strategies.get(key.strategy)
        actions = 0 if strategy is None else len(strategy.actions)
        self._healing_log.add(
            would_have(key, alert, value=asked.value, actions=actions, now=self._clock())
        )


class Leadership:
    """Takes the lead as soon as no other process has it, and starts what acts."""

    def __init__(
        self,
        *,
        options: Options,
        journal: Journal,
        clock: LateClock,
        engine: Engine,
        intake: Intake,
        reconciler: Reconciler,
        housekeeping: Housekeeping,
        lookout: Lookout,
        notices: Notices,
        outbox: Outbox,
        leading: threading.Event,
    ) -> None:
        """*leading* is set here, while this process is the leader."""
        self._options = options
        self._journal = journal
        self._clock = clock
        self._engine = engine
        self._intake = intake
        self._reconciler = reconciler
        self._housekeeping = housekeeping
        self._lookout = lookout
        self._notices = notices
        self._outbox = outbox
        self._leading = leading
        self._closing = threading.Event()
        self.acting = threading.Event()
        """Set once this process considers targets."""
        self.unread = ""
        """Why the journal could not be read at the start; nothing acts before it is."""
        self.elsewhere = True
        """Whether another process may act on a journal in a file; known once its lock is asked."""

    def start(self) -> None:
        """Match anew what fires, and act as soon as no other process does.

        A file that cannot be used now is waited for, beside what is served.
        """
        decides = self._options.role.decides
        if self._journal.shared:
            if decides:
                self._intake.matching.begin()
            self._begin()
            if not decides:
                return
        else:
            self._read()
        threading.Thread(target=self._lead, name="lead", daemon=True).start()

    def stop(self) -> None:
        """Take the lead no more. Does not wait."""
        self._closing.set()

    def _lead(self) -> None:
        """Take the lead when it is free; of a shared journal it can be lost, so again and again."""
        said = False
        while not self._closing.is_set():
            if self.unread and not self._read():
                self._closing.wait(READ_AGAIN)
                continue
            if self._journal.acquire():
                if not self._leading.is_set():
                    self._take_lead()
                self.elsewhere = False
                if not self._journal.shared:
                    return
                if self._journal.news(LEAD_AGAIN):
                    self._outbox.send()
                continue
            self._leading.clear()
            self.elsewhere = self._journal.taken()  # else it waits for the check of its file
            if self.elsewhere and not said:
                log.warning("another process acts on this journal; waiting for it to end")
                self._lookout.start()
                said = True
            self._closing.wait(LEAD_AGAIN if self._journal.shared else LOCK_AGAIN)

    def _read(self) -> bool:
        """Go on with the journal's clock, and match anew what fires in it, once it can be read."""
        try:
            if not self._clock.known:
                self._clock.go_on_with(journal_clock(self._journal))
            if self._options.role.decides:
                self._intake.matching.try_to_store()
                self._intake.matching.begin()
        except JournalError as error:
            if str(error) != self.unread:
                log.error("nothing acts: %s", error)  # noqa: TRY400
            self.unread = str(error)
        else:
            self.unread = ""
        return not self.unread

    def _begin(self) -> None:
        if self._options.works:
            self._engine.start(self._reconciler.consider)
            self.acting.set()
            if self._journal.shared:  # runs that wait for a worker may have waited for this one
                waiting = self._journal.read(lambda t: t.pending_for(Reason.NO_WORKER))
                self._engine.wake_all(waiting)
        self._housekeeping.start()
        if self._options.role.decides:
            self._lookout.start()

    def _take_lead(self) -> None:
        if not self._journal.shared:
            self._begin()
        self._leading.set()
        try:
            self._reconciler.resync()
            self._notices.start()
        except JournalError as error:
            log.warning("resync failed, retried: %s", error)
        self._outbox.send()


def journal_clock(journal: Journal) -> Clock:
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
