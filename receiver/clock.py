"""What time is it? The one clock that the shells read.

Seconds since the epoch that do not jump: the wall clock is read once, and the kernel's boot clock
carries on from there, so that a step of the wall clock neither refunds a budget nor freezes a
timer, and a suspended machine does not lose time. A restarted promheal continues the same clock
until the machine reboots. Alerts' own times are Prometheus' and are only compared with each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

Clock = Callable[[], float]
"""Returns seconds since the epoch."""


def steady_clock(*, not_before: float = 0.0) -> Clock:
    """Return a clock that starts at the wall clock's time and then only advances.

    *not_before* is the newest time in the journal: a wall clock that was set back while promheal
    was down does not set this one back.
    """
    boottime = uptime()
    return anchored_clock(boottime, max(wall(), not_before))


def anchored_clock(boottime: float, at: float) -> Clock:
    """Return the clock that shows *at* when the machine has been up for *boottime* seconds."""
    return lambda: at + uptime() - boottime


def uptime() -> float:
    """Return the seconds since the machine booted, including suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class VirtualClock:
    """Stands still until somebody moves it."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class LateClock:
    """Starts as the wall clock, and is replaced once the journal's clock is known."""

    def __init__(self) -> None:
        self._clock: Clock = steady_clock()
        self.known = False

    def go_on_with(self, clock: Clock) -> None:
        self._clock = clock
        self.known = True

    def __call__(self) -> float:
        return self._clock()


def boot() -> str:
    """Return the id of this boot of the machine, within which promheal's clock continues."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def lead_of_wall(clock: Clock) -> float:
    """Return by how many seconds the wall clock is ahead of *clock*, because it was stepped."""
    return wall() - clock()


def wall() -> float:
    """Return the wall clock's time, which may step forwards and back."""
    return time.time()  # noqa: TID251  the one place that reads it
