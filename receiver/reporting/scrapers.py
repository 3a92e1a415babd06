"""Who scrapes, and when did they last? `increase` and `rate` see an event only after a 0.

So what has come up since a Prometheus scraped last is shown to it at 0 first, and its value at the
next scrape. Several that scrape one promheal are told apart by address and User-Agent.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import Final

HEADER: Final = "X-Prometheus-Scrape-Timeout-Seconds"
"""Prometheus, and what scrapes like it, sends it with each scrape."""
FIRST: Final = 90.0
"""Seconds for which something is new to whoever has not scraped this process yet, but maybe the one
before it: Prometheus' default scrape interval, and by how much a scrape may be late."""
_MOST: Final = 100
"""Scrapers that are remembered."""


class Scrapers:
    def __init__(self) -> None:
        self._last: dict[tuple[str, str], float] = {}  # by the monotonic clock, the latest last
        self._one = threading.Lock()

    def scrape(self, address: str, agent: str) -> float:
        """Note a scrape; return within how many seconds what came up is new to it."""
        now, who = monotonic(), (address, agent)
        with self._one:
            last = self._last.pop(who, None)
            self._last[who] = now
            if len(self._last) > _MOST:
                del self._last[next(iter(self._last))]
        return FIRST if last is None else now - last
