"""When does a window recur? Starts by cron and parts of the week, in their time zone.

When the clocks change, a window by cron begins as Debian's cron would start a job: one with a fixed
hour and minute once, at the end of the hour that is left out or in the first of the two equal ones;
one with a `*` in either field, at each such minute that a clock shows. It ends by duration. A part
of the week begins when a clock first shows its start, or would have, and ends when it last shows
its end.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, time, timedelta, tzinfo
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from math import inf
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY: Final = 1440
"""Minutes."""
_JOINED: Final = 100
"""Starts of a `cron` that are joined at most: `* * * * *` would never end."""
_TIME: Final = "([0-9]{1,2}:[0-9]{2})"
SPAN: Final = f"([A-Za-z]+)(?:-([A-Za-z]+))? +{_TIME} *- *(?:([A-Za-z]+) +)?{_TIME}"
_COMPILED: Final = re.compile(SPAN)


class _Span(NamedTuple):
    """A part of every week, in minutes since its Monday began; it may end in the next week."""

    start: int
    end: int


def spans_of(text: str) -> list[_Span]:
    """Return the parts of the week that a text such as `tue 22:00 - wed 02:00` means."""
    found = _COMPILED.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text!r} is no part of a week; write for example 'tue 22:00 - wed 02:00' or"
            " 'mon-fri 12:00 - 13:00'"
        )
    first, until_day, from_time, last, to_time = found.groups()
    start, end = _minutes(from_time), _minutes(to_time)
    if start == _DAY:
        raise ValueError(f"{text!r} begins at 24:00; write 00:00 of the next day")
    if last is not None:
        if until_day is not None:
            raise ValueError(
                f"{text!r} has three days; write '{first}-{until_day} {from_time} - {to_time}' for"
                " each of these days, or one day at its begin and one at its end"
            )
        if first.lower() == last.lower() and end <= start:
            raise ValueError(f"{text!r} ends before it begins; name the day on which it ends")
        start, end = _day(first) * _DAY + start, _day(last) * _DAY + end
        return [_Span(start, end if end > start else end + 7 * _DAY)]
    if start == end:
        raise ValueError(f"{text!r} has no length; write 00:00 - 24:00 for a whole day")
    begin = _day(first)
    days = 1 + (_day(until_day or first) - begin) % 7
    length = (end - start) % _DAY or _DAY  # 22:00 - 02:00 ends on the next day
    each = ((begin + more) % 7 * _DAY + start for more in range(days))
    return [_Span(at, at + length) for at in each]


def _day(text: str) -> int:
    try:
        return DAYS.index(text.lower())
    except ValueError:
        raise ValueError(f"{text!r} is no day; write one of {', '.join(DAYS)}") from None


def _minutes(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if minutes > 59 or hours * 60 + minutes > _DAY:
        raise ValueError(f"{text!r} is no time; write 00:00 to 23:59, or 24:00 for a day's end")
    return hours * 60 + minutes


def check_cron(text: str) -> None:
    if len(text.split()) != 5:
        problem = "it needs five fields"
    else:
        try:
            if next(CronSim(text, datetime(2000, 1, 1, tzinfo=UTC)), None) is not None:
                return
            problem = "no day is ever meant"
        except (CronSimError, ValueError) as error:  # ValueError: a number of 5,000 digits
            problem = str(error).lower()
    raise ValueError(
        f"{text!r} is no cron expression: {problem}; write minute, hour, day of the month, month"
        " and day of the week, for example '0 2 * * *' for 02:00 every day"
    )


def zone_of(name: str) -> tzinfo:
    if name == "UTC":  # known on a machine without the database too
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: `Europe` is a folder
        known = {zone.lower(): zone for zone in available_timezones()}
    if not known:
        raise ValueError(
            f"the time zone {name!r} cannot be looked up: this machine has no time zones; install"
            " the package tzdata, or write UTC"
        )
    near = get_close_matches(name.lower()[:64], known, n=1)
    remedy = f"did you mean {known[near[0]]!r}?" if near else "write for example Europe/Berlin"
    raise ValueError(f"{name!r} is no time zone; {remedy}")


class Stretch(NamedTuple):
    """From and to, in seconds since the epoch."""

    start: float
    end: float


_NEVER: Final = Stretch(inf, inf)


class Stretches:
    """The first stretch of a window that ends after a time.

    It is cached until its end: every decision asks, and finding it takes 0.1 ms.
    """

    def __init__(self, occurrences: Callable[[float], Iterable[Stretch]]) -> None:
        self._occurrences = occurrences
        self._known = (inf, _NEVER)

    def __call__(self, now: float) -> Stretch:
        since, stretch = self._known  # one value, which threads replace but never change
        if not since <= now < stretch.end:
            stretch = _joined(self._occurrences(now))
            self._known = (now, stretch)
        return stretch


def _joined(occurrences: Iterable[Stretch]) -> Stretch:
    """Return the first of those that are sorted, as long as the next ones adjoin it."""
    found = iter(occurrences)
    start, end = next(found, _NEVER)
    for occurrence in found:
        if occurrence.start > end:
            break
        end = max(end, occurrence.end)
    return Stretch(start, end)


@lru_cache(maxsize=1024)
def stretches(
    cron: str | None, lasts: float | None, weekly: tuple[str, ...], timezone: str
) -> Stretches:
    zone = zone_of(timezone)
    if cron is not None and lasts is not None:
        return Stretches(lambda now: islice(_by_cron(cron, lasts, zone, now), _JOINED))
    spans = tuple(span for text in weekly for span in spans_of(text))
    return Stretches(lambda now: _by_week(spans, zone, now))


def _by_cron(cron: str, lasts: float, zone: tzinfo, now: float) -> Iterator[Stretch]:
    """Yield, sorted, what ends after *now*; nothing when the next start is 50 years away."""
    minute, hour, *_ = cron.split()
    starts = _starred if "*" in (minute[0], hour[0]) else _fixed
    for at in starts(cron, zone, now - lasts):
        if at + lasts > now:  # not so in the second of two equal hours, for those of the first
            yield Stretch(at, at + lasts)


def _fixed(cron: str, zone: tzinfo, after: float) -> Iterator[float]:
    for start in CronSim(cron, datetime.fromtimestamp(after, zone)):
        yield start.timestamp()


def _starred(cron: str, zone: tzinfo, after: float) -> Iterator[float]:
    """Yield each matching minute that a clock shows.

    cronsim would take steps of a whole hour, and begin days at a midnight that may be left out.
    """
    meant = CronSim(cron, datetime(2000, 1, 1, tzinfo=UTC))
    _, _, *day = cron.split()
    minute = int(after // 60) + 1
    while True:
        wall = datetime.fromtimestamp(minute * 60, zone).replace(tzinfo=None)
        if wall.month not in meant.months or not meant.match_day(wall.date()):
            midnight = next(CronSim(f"0 0 {' '.join(day)}", wall), None)
            if midnight is None:
                return
            # Never back, should a clock be set back over midnight (St. John's did until 2011).
            minute = max(minute + 1, int(_shown(midnight, zone)[0] // 60))
        elif wall.hour not in meant.hours:
            minute += 15 - minute % 15  # clocks are changed at quarters of an hour
        else:
            if wall.minute in meant.minutes:
                yield minute * 60.0
            minute += 1


def _by_week(spans: Iterable[_Span], zone: tzinfo, now: float) -> list[Stretch]:
    """Return, sorted, what ends after *now* and begins in this week or beside it."""
    today = datetime.fromtimestamp(now, zone).date()
    monday = datetime.combine(today - timedelta(days=today.weekday()), time())
    mondays = [monday + timedelta(weeks=week) for week in (-1, 0, 1)]
    return sorted(
        Stretch(_shown(each + timedelta(minutes=span.start), zone)[0], end)
        for each in mondays
        for span in spans
        if (end := _shown(each + timedelta(minutes=span.end), zone)[1]) > now
    )


def _shown(wall: datetime, zone: tzinfo) -> tuple[float, float]:
    """Return when a clock first shows *wall* or later, and since when it shows nothing earlier.

    They differ where clocks are set back. A time that is left out comes when they are set forward.
    """
    early = wall.replace(tzinfo=zone).timestamp()
    late = wall.replace(tzinfo=zone, fold=1).timestamp()
    if early == late:
        return early, early

    def clock(at: float) -> datetime:
        return datetime.fromtimestamp(at, zone).replace(tzinfo=None)

    if early > late:
        between = range(int(late), int(early) + 1)
        at = float(between[bisect_left(between, wall, key=clock)])
        return at, at
    # A clock that is set back to *wall* itself shows nothing earlier since the first time.
    return early, late if clock(late - 1) < wall else early
