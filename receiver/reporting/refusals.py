"""How many notifications were refused lately? Counted by the minute, to bound the memory."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Final

from receiver.clock import Clock

WITHIN: Final = 900.0
"""Seconds for which a refusal counts, give or take a minute."""
SET_ASIDE: Final = "set_aside"
"""Stands among the codes for alerts that could not be read in a notification that was accepted."""
CANNOT_STORE: Final = "503"
"""The answer that is no fault of its sender; the journal tells of that itself."""

_MINUTE: Final = 60.0


class RecentRefusals:
    """By the code of the answer. Safe to use from many threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[int, Counter[str]] = {}  # by the minute, of those that still count

    def note(self, code: str, times: int = 1) -> None:
        if code == CANNOT_STORE:
            return
        with self._lock:
            self._forget().setdefault(self._minute(), Counter())[code] += times

    def counts(self) -> Mapping[str, int]:
        with self._lock:
            return sum(self._forget().values(), Counter())

    def _minute(self) -> int:
        return int(self._clock() // _MINUTE)

    def _forget(self) -> dict[int, Counter[str]]:
        first = self._minute() - int(WITHIN // _MINUTE)
        self._counts = {minute: one for minute, one in self._counts.items() if minute >= first}
        return self._counts
