"""What is a series at a time? Its values as steps, each from a time on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from math import inf
from typing import Final

import msgspec

from receiver.simulation.series import Series

EMPTY: Final = "empty"
"""In the place of a value: Prometheus was asked, and returned nothing."""
Value = float | str | None
"""None: there is no data."""


class Course:
    """*changes* are (seconds since the beginning, what holds from then on), in order."""

    def __init__(self, changes: Iterable[tuple[float, Value]]) -> None:
        self._times: list[float] = []
        self._values: list[Value] = []
        for time, value in changes:
            if not self._values or self._values[-1] != value:
                self._times.append(time)
                self._values.append(value)

    def at(self, time: float) -> Value:
        position = bisect_right(self._times, time)
        return self._values[position - 1] if position else None

    def changes(self) -> Iterable[float]:
        return self._times

    def next_change(self, time: float) -> float:
        """Return the first change after *time*; infinite after the last."""
        position = bisect_right(self._times, time)
        return self._times[position] if position < len(self._times) else inf


def course_of(series: Series, interval: float) -> Course:
    """Return *series* with its values *interval* seconds apart; after the last there is no data."""

    def changes() -> Iterable[tuple[float, Value]]:
        position = 0
        for stretch in series.stretches:
            if stretch.first is None or stretch.step == 0:
                yield position * interval, EMPTY if stretch.stale else stretch.first
            else:
                for number in range(stretch.number):
                    yield (position + number) * interval, stretch.first + number * stretch.step
            position += stretch.number
        yield position * interval, None

    return Course(changes())


class Spell(msgspec.Struct, frozen=True):
    """Seconds since the beginning in which an action keeps an alert from firing."""

    since: float
    until: float


class AlertCourse:
    """Whether an alert's expression returns it: as its course says, and as actions have changed it.

    It is known at each evaluation, *interval* seconds apart.
    """

    def __init__(self, course: Course, interval: float) -> None:
        self._course = course
        self.interval = interval
        self._spells: list[Spell] = []

    def evaluated(self, time: float) -> float:
        """Return when it was evaluated last."""
        return time // self.interval * self.interval

    def heal(self, since: float, lasts: float) -> None:
        self._spells.append(Spell(since, since + lasts))

    def at(self, time: float) -> Value:
        """Return its value, 0 while it does not fire, at the last evaluation before *time*."""
        seen = self.evaluated(time)
        if any(spell.since <= seen < spell.until for spell in self._spells):
            return 0.0
        return self._course.at(seen)

    def next_change(self, time: float) -> float:
        """Return the first evaluation after *time* that may differ from the one before it."""
        seen = self.evaluated(time)
        ends = [end for spell in self._spells for end in (spell.since, spell.until) if end > seen]
        first = min([self._course.next_change(seen), *ends])
        return first if first == inf else -(-first // self.interval) * self.interval
