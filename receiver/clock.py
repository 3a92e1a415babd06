"""What time is it? The one clock that the shells read.

Seconds since the epoch that do not jump: the wall clock is read once, and the kernel's boot clock
carries on from there, so that a step of the wall clock neither refunds a budget nor freezes a
timer, and a suspended machine does not lose time. A promheal that is started again goes on with the
same clock until the machine itself starts anew. Alerts' own times are Prometheus' and are only
compared with each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

Clock = Callable[[], float]
"""Returns seconds since the epoch."""


def steady_clock(*, not_before: float = 0.0) -> Clock:
    """Return a clock that starts at the wall clock's time and then only advances.

    *not_before* is the newest time in the journal: a wall clock that was set back while we were
    down does not take us back with it.
    """
    boottime = uptime()
    return anchored_clock(boottime, max(wall(), not_before))


def anchored_clock(boottime: float, at: float) -> Clock:
    """Return the clock that shows *at* when the machine has been up for *boottime* seconds."""
    return lambda: at + uptime() - boottime


def uptime() -> float:
    """Return the seconds since the machine's start, those of its sleep too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LateClock:
    """A clock that is read before it is known with which one it goes on: until then, the wall's."""

    def __init__(self) -> None:
        self._clock: Clock = steady_clock()
        self.known = False

    def go_on_with(self, clock: Clock) -> None:
        self._clock = clock
        self.known = True

    def __call__(self) -> float:
        return self._clock()


def boot() -> str:
    """Return which start of the machine this is; a restarted promheal goes on with its clock."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def lead_of_wall(clock: Clock) -> float:
    """Return by how many seconds the wall clock is ahead of *clock*: it was stepped."""
    return wall() - clock()


def wall() -> float:
    """Return what the machine's clock shows; it may be set, forwards and back."""
    return time.time()  # noqa: TID251  the one place that reads it
