"""Whose time has come? One heap and one thread, for the embedded engine and the background tasks.

The thread sleeps until the earliest time and is woken only for one that is earlier still. Times are
by promheal's clock, so that a step of the wall clock moves none of them.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable, Hashable
from itertools import count
from typing import Final, NamedTuple

from receiver.clock import Clock

log: Final = logging.getLogger("promheal.engine")

_VOID: Final = 64
"""Void entries that the heap may hold in addition to as many as there are valid ones."""

Ring = Callable[[], object]
"""What is called when a time has come, by the thread that all timers share: it must not wait."""


class _Timer(NamedTuple):
    at: float
    number: int
    """In order of setting: of two for the same time, the first that was set comes first."""


class TimerHeap:
    """At most one timer for each name. Not thread-safe, and without a clock."""

    def __init__(self) -> None:
        self._rings: dict[Hashable, tuple[_Timer, Ring]] = {}
        # Replaced and cancelled timers stay here until they come up, or are too many.
        self._heap: list[tuple[_Timer, Hashable]] = []
        self._numbers = count()

    def set(self, name: Hashable, at: float, ring: Ring) -> None:
        """Set the timer of *name*, in place of the one that it has."""
        timer = _Timer(at, next(self._numbers))
        self._rings[name] = timer, ring
        if len(self._heap) > 2 * len(self._rings) + _VOID:
            self._heap = [(valid, one) for one, (valid, _) in self._rings.items()]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (timer, name))

    def at(self, name: Hashable) -> float | None:
        """Return the time that is set for *name*."""
        found = self._rings.get(name)
        return None if found is None else found[0].at

    def cancel(self, name: Hashable) -> None:
        self._rings.pop(name, None)

    def earliest(self) -> float | None:
        """Return the earliest time that is set."""
        while self._heap:
            timer, name = self._heap[0]
            if name in self._rings and self._rings[name][0] is timer:
                return timer.at
            heapq.heappop(self._heap)
        return None

    def pop(self, now: float) -> Ring | None:
        """Take out the earliest timer that is due by *now*, however late, and return its ring."""
        earliest = self.earliest()
        if earliest is None or earliest > now:
            return None
        _, name = heapq.heappop(self._heap)
        return self._rings.pop(name)[1]


class Timers:
    """Rings at the times that are set, from `start` to `stop`. Any thread may call its methods.

    A ring that is under way when its timer is cancelled or replaced comes all the same.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        # All below is guarded by _changed, which is never held during a ring: a ring takes locks
        # whose owners set timers.
        self._heap = TimerHeap()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="timers", daemon=True)

    def start(self) -> None:
        """Begin to ring. Once more does nothing."""
        with self._changed:
            if self._thread.ident is None and not self._stopped:
                self._thread.start()

    def stop(self) -> None:
        """Ring no more, ever. Does not wait for a ring that is under way."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    @property
    def alive(self) -> bool:
        """Whether its thread lives, where it was started and not stopped."""
        with self._changed:
            return self._stopped or self._thread.ident is None or self._thread.is_alive()

    def set(self, name: Hashable, at: float, ring: Ring) -> None:
        """Have *ring* called at *at*, in place of what is set for *name*."""
        with self._changed:
            self._set(name, at, ring)

    def set_earlier(self, name: Hashable, at: float, ring: Ring) -> None:
        """As `set`, unless what is set for *name* comes first."""
        with self._changed:
            before = self._heap.at(name)
            if before is None or at < before:
                self._set(name, at, ring)

    def cancel(self, name: Hashable) -> None:
        with self._changed:
            self._heap.cancel(name)

    def _set(self, name: Hashable, at: float, ring: Ring) -> None:
        self._heap.set(name, at, ring)
        if self._heap.earliest() == at:
            self._changed.notify()

    def _run(self) -> None:
        while (ring := self._next()) is not None:
            try:
                ring()
            except Exception:
                log.exception("a timer failed")

    def _next(self) -> Ring | None:
        """Wait for the next ring; None at the end."""
        with self._changed:
            while not self._stopped:
                now = self._clock()
                ring = self._heap.pop(now)
                if ring is not None:
                    return ring
                earliest = self._heap.earliest()
                self._changed.wait(
                    None if earliest is None else min(earliest - now, threading.TIMEOUT_MAX)
                )
        return None
