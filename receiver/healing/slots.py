"""How many runs execute steps at the same time?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Slot:
    """One of the slots, taken; it can be given back more than once."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def give_back(self) -> None:
        if self._give_back is not None:
            self._give_back()
            self._give_back = None


class Slots:
    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most  # asked each time: a reload may change it
        self._taken = 0
        self._waiting = 0
        self._free = threading.Condition()

    def try_take(self) -> Slot | None:
        """Return a slot, or None when none is free for whoever comes last."""
        with self._free:
            if self._waiting or self._taken >= self._most():
                return None
            self._taken += 1
        return Slot(self._give_back)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for a slot, and have it within the block."""
        with self._free:
            self._waiting += 1
            try:
                self._free.wait_for(lambda: self._taken < self._most())
            finally:
                self._waiting -= 1
            self._taken += 1
        try:
            yield
        finally:
            self._give_back()

    def _give_back(self) -> None:
        with self._free:
            self._taken -= 1
            self._free.notify()
