"""Throttles log lines: one in a while for each address, and few a minute for all.

Alertmanager retries a rejected notification for ever, and a scanner sends more than that.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

LOG_AGAIN: Final = 60.0
"""Seconds until an address is logged again."""
ADDRESSES: Final = 1024
"""Addresses that are remembered."""
LINES: Final = 30
"""Lines a minute, however many addresses there are."""
_MINUTE: Final = 60.0


class LogThrottle:
    """Safe to use from many threads. *again*: seconds between two lines for an address."""

    def __init__(self, clock: Callable[[], float], again: float = LOG_AGAIN) -> None:
        self._clock = clock
        self._again = again
        self._lock = threading.Lock()
        self._logged: OrderedDict[str, tuple[float, int]] = OrderedDict()  # when, how many since
        self._minute = clock()
        self._lines = 0

    def due(self, address: str) -> int:
        """Count one more; return how many of *address* a line now stands for, 0 for no line."""
        with self._lock:
            now = self._clock()
            if now - self._minute >= _MINUTE:
                self._minute, self._lines = now, 0
            at, times = self._logged.get(address, (now - self._again, 0))
            times += 1
            if now - at < self._again or self._lines >= LINES:
                self._remember(address, at, times)
                return 0
            self._lines += 1
            self._remember(address, now, 0)
            return times

    def _remember(self, address: str, at: float, times: int) -> None:
        self._logged[address] = (at, times)
        self._logged.move_to_end(address)
        if len(self._logged) > ADDRESSES:
            self._logged.popitem(last=False)
