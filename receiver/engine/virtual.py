"""The carrier in virtual time: one thread, one heap of times, and a clock that it moves itself.

Nothing happens between two times, so a month passes in as long as what happens in it takes. Of what
is due at the same time, what was set first comes first: a run of it can be repeated exactly.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Final

from receiver.clock import VirtualClock
from receiver.engine import Consider
from receiver.engine.embedded import RETRY
from receiver.engine.timers import TimerHeap
from receiver.errors import JournalError
from receiver.policy.role import At, HandOver, Next, Rest
from receiver.policy.target import Key

log: Final = logging.getLogger("promheal.engine")


class Occupied(BaseException):
    """Raised through `consider`: its target is in hand until a time, when it is called again."""

    def __init__(self, until: float) -> None:
        super().__init__(until)
        self.until = until


class VirtualEngine:
    """As the embedded engine, but that `run` is what makes time pass.

    *leaves_idle*: of what is brought up all together while nothing has changed, it leaves out what
    has a time. *heap* may hold timers of others too, which `run` rings as well: the world goes on
    when the engine of one process has been stopped and that of the next one runs.
    """

    def __init__(
        self, clock: VirtualClock, heap: TimerHeap | None = None, *, leaves_idle: bool = False
    ) -> None:
        self._leaves_idle = leaves_idle
        self._clock = clock
        self._consider: Consider | None = None
        self._heap = TimerHeap() if heap is None else heap
        self._ready: deque[Key] = deque()
        self._lines: dict[str, deque[Key]] = {}  # by target in hand: the keys that wait for it
        self._waiting: set[Key] = set()  # keys that are ready or in a line
        self._stopping = False

    def start(self, consider: Consider) -> None:
        self._consider = consider

    def wake(self, key: Key, at: float | None = None) -> None:
        if self._stopping or self._consider is None:
            return  # the start considers everything
        if at is None or at <= self._clock.now:
            self._heap.cancel((self, key))
            self._enter(key)
            return
        before = self._heap.at((self, key))
        if before is None or at < before:
            self._heap.set((self, key), at, partial(self._enter, key))

    def wake_all(self, keys: Iterable[Key], *, idle: bool = False) -> None:
        for key in keys:
            if not (idle and self._leaves_idle and self._heap.at((self, key)) is not None):
                self.wake(key)

    def run(self, until: float) -> None:
        """Let time pass until *until*, with all that is due by then; the clock stands there then.

        Returns early, with the clock where it is, when it is stopped by what it calls.
        """
        while self._go_on():
            earliest = self._heap.earliest()
            if earliest is None or earliest > until:
                self._clock.now = max(self._clock.now, until)
                return
            self._clock.now = max(self._clock.now, earliest)
            while (ring := self._heap.pop(self._clock.now)) is not None:
                ring()

    def _go_on(self) -> bool:
        """Consider what is ready; False when it was stopped."""
        while self._ready and not self._stopping:
            self._work(self._ready.popleft())
        return not self._stopping

    def stop(self, timeout: float) -> bool:  # noqa: ARG002  nothing runs beside the caller
        self._stopping = True
        return True

    @property
    def alive(self) -> bool:
        return True

    @property
    def trouble(self) -> str:
        return ""

    @property
    def length(self) -> int:
        return len(self._waiting)

    def _enter(self, key: Key) -> None:
        if key in self._waiting or self._stopping:
            return
        self._waiting.add(key)
        line = self._lines.get(key.target)
        if line is not None:
            line.append(key)
            return
        self._lines[key.target] = deque()
        self._ready.append(key)

    def _leave(self, key: Key) -> None:
        line = self._lines[key.target]
        if line:
            self._ready.append(line.popleft())
        else:
            del self._lines[key.target]

    def _work(self, key: Key) -> None:
        assert self._consider is not None
        if self._stopping:
            return
        self._waiting.discard(key)
        again: Next
        try:
            again = self._consider(key)
        except Occupied as occupied:
            self._heap.set((self, key.target), occupied.until, partial(self._work, key))
            return
        except JournalError as error:
            log.warning("considering %s on %s is put off: %s", *key, error)
            again = At(self._clock.now + RETRY)
        except Exception:
            log.exception("considering %s on %s failed; again in %g s", *key, RETRY)
            again = At(self._clock.now + RETRY)
        self._leave(key)
        match again:
            case At(time):
                self.wake(key, time)
            case HandOver(runs_on):
                log.warning("%s on %s is left to %s, which is not here", *key, runs_on)
                self.wake(key, self._clock.now + RETRY)
            case Rest():
                pass
