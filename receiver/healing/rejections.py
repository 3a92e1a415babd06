"""Requests that were not accepted, counted in the journal as soon as it can store that."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from receiver.journal import Journal, Transaction, of_alerts
from receiver.reporting.metrics import NOTIFICATIONS


class Rejections:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._codes: Counter[str] = Counter()  # what is not yet counted in the journal
        self._lock = threading.Lock()
        self._counting = threading.Lock()  # held while they pass from there into the journal

    def add(self, code: str) -> bool:
        """Count an answer; True when nothing was waiting to be stored."""
        with self._lock:
            first = not self._codes
            self._codes[code] += 1
        return first

    @contextmanager
    def uncounted(self) -> Iterator[Mapping[str, int]]:
        """Lend the counts that the journal does not have; meanwhile it gets none."""
        with self._counting:
            with self._lock:
                codes = dict(self._codes)
            yield codes

    def store(self) -> None:
        """Count them in the journal. Raises JournalError; then they are kept for the next call."""
        while True:
            with self.uncounted() as codes:
                if not codes:
                    return

                def write(transaction: Transaction, codes: Mapping[str, int] = codes) -> None:
                    for code, number in codes.items():
                        transaction.count(NOTIFICATIONS.name, code, by=number)

                self._journal.atomically(write, of_alerts(()))
                with self._lock:
                    self._codes -= Counter(codes)  # and what is 0 leaves it
