"""Who was refused how often? Counted by status, and logged once for each address and minute.

Alertmanager sends again what was refused, for ever, and a scanner sends more than that.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

log: Final = logging.getLogger("promheal.access")

LOG_AGAIN: Final = 60.0
"""Seconds until an address is logged again."""
ADDRESSES: Final = 1024
"""Those that are remembered."""
LINES: Final = 30
"""A minute, however many addresses there are."""

_LONGEST_PATH: Final = 200


class Refusals:
    """Safe to use from many threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(("401", "403", "429"), 0)
        self._told: OrderedDict[str, tuple[float, int]] = OrderedDict()  # when, how many since
        self._minute = clock()
        self._lines = 0

    @property
    def counts(self) -> Mapping[str, int]:
        with self._lock:
            return dict(self._counts)

    def note(
        self, status: int, address: str, *, why: str, name: str, method: str, path: str
    ) -> None:
        """Count a refusal, and log it unless this address was logged lately."""
        with self._lock:
            self._counts[str(status)] += 1
            times = self._due(address)
        if times:
            log.warning(
                "a request was refused (logged once a minute for each address)",
                extra={
                    "address": address,
                    "status": status,
                    "why": why,
                    "user": name or None,
                    "method": method[:20],
                    "path": path[:_LONGEST_PATH],
                    "times": times,
                },
            )

    def _due(self, address: str) -> int:
        """Return how many refusals of *address* a line is to tell now; 0 for no line."""
        now = self._clock()
        if now - self._minute >= LOG_AGAIN:
            self._minute, self._lines = now, 0
        at, times = self._told.get(address, (0.0, 0))
        times += 1
        if (address in self._told and now - at < LOG_AGAIN) or self._lines >= LINES:
            self._remember(address, at if address in self._told else now - LOG_AGAIN, times)
            return 0
        self._lines += 1
        self._remember(address, now, 0)
        return times

    def _remember(self, address: str, at: float, times: int) -> None:
        self._told[address] = (at, times)
        self._told.move_to_end(address)
        if len(self._told) > ADDRESSES:
            self._told.popitem(last=False)
