"""Do the strategies in force know what fires? After a start and a reload it is matched anew.

A hundred thousand alerts take minutes. So it is done beside everything else, a batch at a time:
notifications are answered meanwhile, and matched as always. What a strategy was asked for by an
earlier configuration is not acted on, see `settling.asking`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

from receiver.errors import JournalError
from receiver.healing.wants import Wake, keys_of, wants_of
from receiver.journal import ALL_ALERTS, Episode, Journal, Transaction, Want
from receiver.policy.strategy import Strategies
from receiver.policy.target import Key

log: Final = logging.getLogger("promheal.intake")

BATCH: Final = 500
"""Alerts that are matched in one transaction, at most."""
FEW: Final = 10
"""Alerts that are matched before a start goes on."""
AT_ONCE: Final = 5.0
"""Seconds that a reload waits; it goes on beside."""


class Rematch:
    """Matches what fires anew until it is matched by the strategies in force."""

    def __init__(
        self,
        *,
        journal: Journal,
        strategies: Callable[[], Strategies],
        wake: Wake,
    ) -> None:
        self._journal = journal
        self._strategies = strategies
        self._wake = wake
        self._matched: Strategies | None = None
        """What everything that fires has been matched by."""
        self._one = threading.Lock()  # held by the thread that matches
        self._ending = threading.Event()
        self.problem = ""
        """Why it could not be stored last; empty when it could."""
        self.left = 0
        """Firing alerts that are still to be matched, as counted when it began."""

    @property
    def due(self) -> bool:
        return self._matched is not self._strategies()

    def try_to_store(self) -> None:
        """Write anew what a few alerts ask for: a start learns of it whether there is room.

        Raises JournalError when it cannot be stored.
        """
        page = self._journal.read(lambda t: t.firing_after(0, limit=FEW))
        wants = wants_of(self._strategies(), [episode.alert for episode, _ in page])
        if page:
            self._journal.atomically(
                lambda t: t.match_anew([one.id for one, _ in page], wants), ALL_ALERTS
            )

    def begin(self) -> threading.Thread:
        """Match in a thread of its own, which is returned."""
        thread = threading.Thread(target=self._try, name="rematch", daemon=True)
        thread.start()
        return thread

    def run(self) -> None:
        """Match what is due; returns at once while another thread does.

        Raises JournalError when it cannot be stored; then it stays due.
        """
        while self.due and not self._ending.is_set() and self._one.acquire(blocking=False):
            try:
                self._match_all(self._strategies())
            except JournalError as error:
                self.problem = str(error)
                raise
            finally:
                self._one.release()

    def reload(self) -> list[str]:
        """Match beside, and wait for it a while; return what is to be said about what is left."""
        self.begin().join(AT_ONCE)
        if self.problem:
            later = "what fires is matched by the new strategies when the journal can store"
            return [f"{later}: {self.problem}"]
        if self.due:
            return [f"what fires is still being matched by the new strategies: {self.left} left"]
        return []

    def stop(self) -> None:
        """Begin no other batch; the next start matches everything."""
        self._ending.set()

    def _try(self) -> None:
        try:
            self.run()
        except JournalError as error:
            if not self._ending.is_set():
                log.warning("what fires is not matched yet: %s", error)

    def _match_all(self, strategies: Strategies) -> None:
        self._matched = None
        start = monotonic()
        # What was on its way by earlier strategies is stored when this has been.
        number = self._journal.atomically(lambda t: t.number_firing(), ALL_ALERTS)
        self.left, done, after = number, 0, 0
        while page := self._read(after):
            after = page[-1][0].id
            changed: list[int] = []
            wants: list[Want] = []
            for episode, before in page:
                now = wants_of(strategies, [episode.alert])
                if keys_of(now) != before:
                    changed.append(episode.id)
                    wants += now
            if self._ending.is_set() or not self._store(strategies, changed, wants):
                return
            done += len(page)
            self.left = max(0, number - done)
        self.left, self.problem, self._matched = 0, "", strategies
        log.info(
            "what fires is matched by the strategies in force",
            extra={"alerts": done, "seconds": round(monotonic() - start, 3)},
        )

    def _read(self, after: int) -> list[tuple[Episode, set[Key]]]:
        return self._journal.read(lambda t: t.firing_after(after, limit=BATCH))

    def _store(self, strategies: Strategies, changed: list[int], wants: list[Want]) -> bool:
        """Write what has changed, and wake whom it concerns; False when it must begin anew."""
        if strategies is not self._strategies():
            return False
        if not changed:
            return True

        def write(transaction: Transaction) -> set[Key]:
            concerned = transaction.match_anew(changed, wants)
            transaction.wake(concerned)
            return concerned

        for key in self._journal.atomically(write, ALL_ALERTS):
            self._wake(key)
        return True
