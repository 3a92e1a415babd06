"""When is the next time? APScheduler, by promheal's clock, which never steps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any


class Timetable:
    """APScheduler: calls `ring` at each time that is set, by our clock.

    It is imported here, since it takes longer to import (40 ms of CPU) than a command may take
    that has no background tasks.
    """

    def __init__(
        self, clock: Callable[[], float], ring: Callable[[tuple[str, int]], object]
    ) -> None:
        from apscheduler.executors.debug import DebugExecutor  # noqa: PLC0415
        from apscheduler.schedulers.background import BackgroundScheduler  # noqa: PLC0415
        from apscheduler.triggers.date import DateTrigger  # noqa: PLC0415

        self._zone = _SteadyZone(clock)
        self._ring = ring
        self._at = DateTrigger
        # DebugExecutor calls `ring` in the scheduler's own thread, and `ring` only puts into a
        # queue. APScheduler's pool of threads would hold up the end of the process for a task that
        # hangs, since Python waits for them at exit; ours are daemons.
        self._scheduler: Any = BackgroundScheduler(
            timezone=self._zone, executors={"default": DebugExecutor()}
        )

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        self._scheduler.shutdown()

    def set(self, task_id: str, at: float, ticket: int) -> None:
        moment = datetime.fromtimestamp(at, UTC).replace(tzinfo=self._zone)
        self._scheduler.add_job(
            self._ring,
            self._at(moment, self._zone),
            args=((task_id, ticket),),
            id=task_id,
            replace_existing=True,
            misfire_grace_time=None,  # however late, it is not dropped
        )


class _SteadyZone(tzinfo):
    """UTC by a clock that does not step.

    APScheduler reads the time as `datetime.now(timezone)`, and in no other way for jobs that may be
    as late as they like: what is due, and how long to wait for the next one. A wall clock that is
    set back would freeze every task for as long, and one that is set forward would run them all,
    over and over. But `datetime.now(tz)` is defined to be what `tz.fromutc` makes of the wall
    clock's time, and this one answers with our clock's. So the option `timezone` is all that is
    needed, and nothing private of APScheduler. The wait itself is a lock's, which the kernel
    measures with its monotonic clock.

    Times of other zones must never be converted to this one: all would be now. The times that
    `Timetable` sets are in it from the start, and no conversion takes place.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def fromutc(self, _dt: datetime, /) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC).replace(tzinfo=self)

    def utcoffset(self, _dt: datetime | None, /) -> timedelta:
        return timedelta(0)

    def dst(self, _dt: datetime | None, /) -> timedelta:
        return timedelta(0)

    def tzname(self, _dt: datetime | None, /) -> str:
        return "UTC"
