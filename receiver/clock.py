"""What time is it? The one clock that the shells read.

Seconds since the epoch that do not jump: the wall clock is read once, and the kernel's boot clock
carries on from there, so that a step of the wall clock neither refunds a budget nor freezes a
timer, and a suspended machine does not lose time. Alerts' own times are Prometheus' and are only
compared with each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds since the epoch."""


def steady_clock(*, not_before: float = 0.0) -> Clock:
    """Return a clock that starts at the wall clock's time and then only advances.

    *not_before* is the newest time in the journal: a wall clock that was set back while we were
    down does not take us back with it.
    """
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    wall = max(time.time(), not_before)  # noqa: TID251  the one place that reads it
    return lambda: wall + time.clock_gettime(time.CLOCK_BOOTTIME) - boot
