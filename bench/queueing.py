"""What waits for what? A small simulation by events: the same seed, the same answer.

A life is a generator. It yields what it does next: `Pause`, `Use` of a station, or `Write` through
a writer; it goes on when that is done. Nothing here knows what is simulated.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import count
from random import Random


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Use:
    """Some seconds of a station; *name* is what the wait for it counts as."""

    station: Station
    seconds: float
    name: str


@dataclass(frozen=True)
class Write:
    """A piece of work that is stored together with all that waits for the same writer."""

    writer: Writer
    seconds: float
    name: str


Life = Generator[Pause | Use | Write, None, None]


class Simulation:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.counting = False
        """What happens before is not counted: it begins empty, and no system that works is."""
        self.waits: dict[str, list[float]] = {}
        """Seconds beside the work itself, by name."""
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), then))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, then = heapq.heappop(self._events)
            then()
        self.now = until

    def live(self, life: Life) -> None:
        """Go on with *life* until it waits for something."""
        for step in life:
            if isinstance(step, Pause):
                self.after(step.seconds, lambda: self.live(life))
            elif isinstance(step, Use):
                step.station.enter(step, lambda: self.live(life))
            else:
                step.writer.enter(step, lambda: self.live(life))
            return

    def waited(self, name: str, seconds: float) -> None:
        if self.counting:
            self.waits.setdefault(name, []).append(seconds)


@dataclass
class Station:
    """Serves in the order of arrival, as many at a time as it has places."""

    simulation: Simulation
    places: int
    busy: float = 0.0
    """Seconds of places taken."""
    _taken: int = 0
    _line: deque[Callable[[], None]] = field(default_factory=deque)

    def take(self, seconds: float, begin: Callable[[], None], done: Callable[[], None]) -> None:
        """Call *begin* when its turn has come, and *done* when *seconds* later it is over."""

        def start() -> None:
            begin()
            if self.simulation.counting:
                self.busy += seconds
            self.simulation.after(seconds, end)

        def end() -> None:
            if self._line:
                self._line.popleft()()
            else:
                self._taken -= 1
            done()

        if self._taken < self.places:
            self._taken += 1
            start()
        else:
            self._line.append(start)

    def enter(self, use: Use, done: Callable[[], None]) -> None:
        arrived = self.simulation.now

        def begin() -> None:
            self.simulation.waited(use.name, self.simulation.now - arrived)

        self.take(use.seconds, begin, done)


@dataclass
class Writer:
    """A process's writer: what waits when it is free shares a transaction.

    *lock* is its own, or one that it shares with writers of other processes.
    """

    lock: Station
    fixed: float
    """Seconds of the lock that each transaction takes, whatever is in it."""
    most: int
    """Pieces in one transaction."""
    transactions: int = 0
    pieces: int = 0
    _writing: bool = False
    _line: deque[tuple[float, Write, Callable[[], None]]] = field(default_factory=deque)

    def enter(self, write: Write, done: Callable[[], None]) -> None:
        self._line.append((self.lock.simulation.now, write, done))
        if not self._writing:
            self._go()

    def _go(self) -> None:
        group = [self._line.popleft() for _ in range(min(self.most, len(self._line)))]
        self._writing = True
        simulation = self.lock.simulation
        held = self.fixed + sum(write.seconds for _, write, _ in group)

        def over() -> None:
            if simulation.counting:
                self.transactions += 1
                self.pieces += len(group)
            for arrived, write, done in group:
                spent = simulation.now - arrived
                simulation.waited(write.name, max(0.0, spent - self.fixed - write.seconds))
                done()
            self._writing = False
            if self._line:
                self._go()

        self.lock.take(held, lambda: None, over)
