"""The carrier inside one process: a line for each target, timers and a few threads.

Event-driven: a wake starts a thread's work at once, a timer costs nothing while it waits, and an
idle engine does not run. Two keys of one target are never considered at the same time.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from queue import SimpleQueue
from time import monotonic, perf_counter
from typing import Final

from receiver.clock import Clock
from receiver.engine import Consider
from receiver.engine.timers import Timers
from receiver.errors import JournalError
from receiver.policy.role import At, HandOver, Next, Rest
from receiver.policy.target import Key

log: Final = logging.getLogger("promheal.engine")

RETRY: Final = 5.0
"""Seconds until a key is considered again after an error that was not the target's."""
_STAFF: Final = "threads"  # the name of a timer, beside those of keys


class EmbeddedEngine:
    def __init__(
        self,
        *,
        threads: Callable[[], int],
        clock: Clock,
        timers: Timers,
        observe_wait: Callable[[float], None] | None = None,
    ) -> None:
        self._most = threads  # asked each time: a reload may change it
        self._clock = clock
        self._timers = timers
        self._observe_wait = observe_wait
        self._consider: Consider | None = None
        self._lock = threading.Lock()
        # All below is guarded by _lock.
        self._lines: dict[str, deque[Key]] = {}  # by target in hand: the keys that wait for it
        self._waiting: set[Key] = set()  # keys that are ready or in a line
        self._ready: SimpleQueue[tuple[Key, float] | None] = SimpleQueue()
        self._given = 0  # keys given to threads and not yet done with
        self._threads: list[threading.Thread] = []
        self._refused = False  # the last thread that was wanted could not be started
        self._stopping = False

    def start(self, consider: Consider) -> None:
        with self._lock:
            self._consider = consider
        self._timers.start()

    def wake(self, key: Key, at: float | None = None) -> None:
        with self._lock:
            if self._stopping or self._consider is None:
                return  # the start considers everything
            if at is None or at <= self._clock():
                self._timers.cancel(key)
                self._enter(key)
            else:
                self._timers.set_earlier(key, at, partial(self._due, key))

    def wake_all(self, keys: Iterable[Key], *, idle: bool = False) -> None:  # noqa: ARG002  it costs nothing
        for key in keys:
            self.wake(key)

    def stop(self, timeout: float) -> bool:
        with self._lock:
            self._stopping = True
            threads = list(self._threads)
            for _ in threads:
                self._ready.put(None)
        deadline = monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, deadline - monotonic()))
        return not any(thread.is_alive() for thread in threads)

    @property
    def alive(self) -> bool:
        with self._lock:
            if self._consider is None or self._stopping:
                return True
            return self._timers.alive and all(thread.is_alive() for thread in self._threads)

    @property
    def trouble(self) -> str:
        with self._lock:
            if self._refused and not self._threads:
                return "no thread can be started to act in, which is tried again"
        return ""

    @property
    def length(self) -> int:
        with self._lock:
            return len(self._waiting)

    def _due(self, key: Key) -> None:
        with self._lock:
            if not self._stopping:
                self._enter(key)

    def _enter(self, key: Key) -> None:
        if key in self._waiting:
            return
        self._waiting.add(key)
        line = self._lines.get(key.target)
        if line is not None:
            line.append(key)  # its target is being considered: _leave lets it in
            return
        self._lines[key.target] = deque()
        self._give(key)

    def _give(self, key: Key) -> None:
        self._ready.put((key, perf_counter()))
        self._given += 1
        self._staff()

    def _staff(self) -> None:
        """Start a thread if one is missing; what cannot be started now is tried again."""
        while not self._stopping and len(self._threads) < min(self._given, self._most()):
            thread = threading.Thread(
                target=self._work, name=f"engine-{len(self._threads)}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                if not self._refused:
                    log.warning("%s; what is due waits, and it is tried again", error)
                self._refused = True
                self._timers.set_earlier(_STAFF, self._clock() + RETRY, self._staff_again)
                return
            self._refused = False
            self._threads.append(thread)

    def _staff_again(self) -> None:
        with self._lock:
            self._staff()

    def _leave(self, key: Key) -> None:
        line = self._lines[key.target]
        if line and not self._stopping:
            self._give(line.popleft())
        else:
            del self._lines[key.target]

    def _work(self) -> None:
        while True:
            given = self._ready.get()
            if given is None:
                return
            key, since = given
            with self._lock:
                self._waiting.discard(key)
                if self._stopping:
                    return
            if self._observe_wait is not None:
                self._observe_wait(perf_counter() - since)
            again: Next
            try:
                assert self._consider is not None
                again = self._consider(key)
            except JournalError as error:  # the disk is full, which everything reports
                log.warning("considering %s on %s is put off: %s", *key, error)
                again = At(self._clock() + RETRY)
            except Exception:
                log.exception("considering %s on %s failed; again in %g s", *key, RETRY)
                again = At(self._clock() + RETRY)
            with self._lock:
                self._given -= 1
                self._leave(key)
            match again:
                case At(time):
                    self.wake(key, time)
                case HandOver(runs_on):  # the journal was a shared one before
                    log.warning("%s on %s is left to %s, which is not here", *key, runs_on)
                    self.wake(key, self._clock() + RETRY)
                case Rest():
                    pass
