"""Counts denied requests by status, and logs them once a minute for each address."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Final

from receiver.web.log_throttle import ADDRESSES, LINES, LOG_AGAIN, LogThrottle

__all__ = ["ADDRESSES", "LINES", "LOG_AGAIN", "LONGEST_PATH", "DeniedRequests"]

log: Final = logging.getLogger("promheal.access")

LONGEST_PATH: Final = 200


class DeniedRequests(LogThrottle):
    """Safe to use from many threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._counting = threading.Lock()
        self._counts = dict.fromkeys(("401", "403", "429"), 0)

    @property
    def counts(self) -> Mapping[str, int]:
        with self._counting:
            return dict(self._counts)

    def note(
        self, status: int, address: str, *, why: str, name: str, method: str, path: str
    ) -> None:
        """Count a denied request, and log it unless its address was logged lately."""
        with self._counting:
            self._counts[str(status)] += 1
        times = self.due(address)
        if times:
            log.warning(
                "a request was refused (logged once a minute for each address)",
                extra={
                    "address": address,
                    "status": status,
                    "why": why,
                    "user": name or None,
                    "method": method[:20],
                    "path": path[:LONGEST_PATH],
                    "times": times,
                },
            )
