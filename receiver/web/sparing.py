"""Is it time for a line of the log? Once in a while for each address, and few a minute for all.

Alertmanager sends again what was refused, for ever, and a scanner sends more than that.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

LOG_AGAIN: Final = 60.0
"""Seconds until an address is logged again."""
ADDRESSES: Final = 1024
"""Those that are remembered."""
LINES: Final = 30
"""A minute, however many addresses there are."""
_MINUTE: Final = 60.0


class Sparing:
    """Safe to use from many threads. *again*: seconds until one has its next line."""

    def __init__(self, clock: Callable[[], float], again: float = LOG_AGAIN) -> None:
        self._clock = clock
        self._again = again
        self._lock = threading.Lock()
        self._told: OrderedDict[str, tuple[float, int]] = OrderedDict()  # when, how many since
        self._minute = clock()
        self._lines = 0

    def due(self, address: str) -> int:
        """Note one more, and return of how many of *address* to log now; 0 for no line."""
        with self._lock:
            now = self._clock()
            if now - self._minute >= _MINUTE:
                self._minute, self._lines = now, 0
            at, times = self._told.get(address, (now - self._again, 0))
            times += 1
            if now - at < self._again or self._lines >= LINES:
                self._remember(address, at, times)
                return 0
            self._lines += 1
            self._remember(address, now, 0)
            return times

    def _remember(self, address: str, at: float, times: int) -> None:
        self._told[address] = (at, times)
        self._told.move_to_end(address)
        if len(self._told) > ADDRESSES:
            self._told.popitem(last=False)
