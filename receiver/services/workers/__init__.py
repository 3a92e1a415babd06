"""How many do a service's work? Counted, and made more or fewer, by the one who runs them.

One file a kind. A kind counts, and takes one step towards a number; that it is reached, within its
bounds and in time, is seen to here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import msgspec

from receiver.errors import ActionError

MOST: Final = 10_000
"""More workers than that are a slip of the pen."""
_POLL: Final = 0.1  # seconds
_SETTLE: Final = 1.0
"""Seconds for which the number must hold: a worker that cannot live is gone sooner."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]


class Scaled(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every kind."""

    min: _Count
    """No action goes below it."""
    max: _Count
    """No action goes above it."""

    def __post_init__(self) -> None:
        if self.min > self.max:
            raise ValueError(f"min is {self.min}, and max only {self.max}")

    def count(self, *, timeout: float) -> int:
        """Return how many there are. Raises ActionError when that cannot be told in time."""
        raise NotImplementedError

    def step(self, now: int, wanted: int, *, timeout: float) -> None:
        """Ask for at least one more, or one fewer, on the way from *now* to *wanted*."""
        raise NotImplementedError

    @property
    def patience(self) -> float:
        """Seconds within which a step shows, before it is taken again."""
        return 10.0

    def scale(self, wanted: int, *, timeout: float) -> int:
        """Have *wanted* of them, and return how many there are when that holds.

        Raises ActionError, with how many there are, when it is not so within *timeout* seconds. It
        may be called again.
        """
        deadline = time.monotonic() + timeout
        with _alone(self, timeout):
            asked_at, asked_of, since = 0.0, -1, 0.0
            while True:
                now = self.count(timeout=max(0.1, deadline - time.monotonic()))
                at = time.monotonic()
                if now != wanted:
                    since = 0.0
                    if now != asked_of or at - asked_at > self.patience:
                        left = max(0.1, deadline - at)
                        self.step(now, wanted, timeout=left)
                        asked_at, asked_of = at, now
                elif not since:
                    since = at
                elif at - since >= _SETTLE:
                    return now
                if at + _POLL >= deadline:
                    raise ActionError(
                        f"{wanted} workers are wanted, and there are {now} when time is up"
                    )
                time.sleep(_POLL)


_locks: dict[Scaled, threading.Lock] = {}
_guard = threading.Lock()


@contextmanager
def _alone(workers: Scaled, timeout: float) -> Iterator[None]:
    """Hold off other runs that scale the same: two strategies may name different targets."""
    with _guard:
        lock = _locks.setdefault(workers, threading.Lock())
    if not lock.acquire(timeout=timeout):
        raise ActionError("another run scales the same workers")
    try:
        yield
    finally:
        lock.release()
