"""exporter-toolkit's `rate_limit`: a token bucket."""

from __future__ import annotations

import threading
from collections.abc import Callable

from receiver.web.access.web_config import RequestLimit


class Bucket:
    """Full at first; each request takes a token, and each interval puts one back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._limit = RequestLimit()
        self._tokens = 0.0
        self._at = 0.0

    def take(self, limit: RequestLimit) -> bool:
        if not limit.interval:
            return True
        with self._lock:
            now = self._clock()
            if limit != self._limit:
                self._limit, self._tokens, self._at = limit, limit.burst, now
            gained = (now - self._at) / limit.interval
            self._tokens, self._at = min(float(limit.burst), self._tokens + gained), now
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True
