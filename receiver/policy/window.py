"""Is this a time at which nothing may begin? Maintenance windows, by cron or by the week."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Final

import msgspec

from receiver.policy.calendar import SPAN, Stretches, check_cron, spans_of, stretches, zone_of
from receiver.policy.duration import format_duration, parse_duration
from receiver.policy.matcher_syntax import MatcherText

LONGEST: Final = 7 * 86_400.0
"""Seconds that one start of a `cron` may last."""


def _checked(check: Callable[[str], object]) -> Callable[[str], str]:
    """Return the parser of a text that is kept as it stands. A ValueError of *check* is its own."""

    def parse(text: str) -> str:
        check(text)
        return text

    return parse


def _length(text: str) -> float:
    seconds = parse_duration(text)
    _check_length(seconds)
    return seconds


def _check_length(seconds: float) -> None:
    if not 0 < seconds <= LONGEST:
        raise ValueError(
            f"a window cannot be {format_duration(seconds)} long; write more than 0s and at most"
            f" {format_duration(LONGEST)}"
        )


_Cron = Annotated[
    str,
    msgspec.Meta(
        extra={"type": "cron", "parse": _checked(check_cron)},
        extra_json_schema={"examples": ["0 2 * * *", "30 1 * * sun"]},
    ),
]
_Length = Annotated[
    float,
    msgspec.Meta(
        extra={"type": "duration", "parse": _length},
        extra_json_schema={"examples": ["30m", "1h30m"]},
    ),
]
_Weekly = Annotated[
    str,
    msgspec.Meta(
        extra={"parse": _checked(spans_of)},
        extra_json_schema={
            "pattern": f"^{SPAN}$",
            "examples": ["tue 22:00 - wed 02:00", "mon-fri 12:00 - 13:00"],
        },
    ),
]
_Timezone = Annotated[
    str,
    msgspec.Meta(
        extra={"type": "time zone", "parse": _checked(zone_of)},
        extra_json_schema={"examples": ["Europe/Berlin", "America/New_York"]},
    ),
]


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When nothing begins, and for which alerts.

    Raises ValueError for values that make no window.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    """Up to 100 characters; stands in decisions and in the log."""
    cron: _Cron | None = None
    """When it begins: minute, hour, day of the month, month, day of the week."""
    lasts: _Length | None = msgspec.field(name="for", default=None)
    """How long it lasts, up to 7d; with `cron`."""
    weekly: Annotated[
        tuple[_Weekly, ...], msgspec.Meta(extra={"type": "list of parts of a week"})
    ] = ()
    """Instead of `cron`: `tue 22:00 - wed 02:00`, `mon-fri 12:00 - 13:00`."""
    timezone: _Timezone = "UTC"
    """Whose clocks are meant, as `Europe/Berlin`."""
    match: tuple[MatcherText, ...] = ()
    """Only for alerts with these labels; all must hold. `[]`: for all."""

    def __post_init__(self) -> None:
        if (self.cron is None) == (not self.weekly):
            raise ValueError("write either `cron` with `for`, or `weekly`")
        if self.cron is not None and self.lasts is None:
            raise ValueError("`cron` says when it begins; write with `for` how long it lasts")
        if self.weekly and self.lasts is not None:
            raise ValueError("`weekly` says when it ends; remove `for`")
        if self.lasts is not None:
            _check_length(self.lasts)
        if self.cron is not None:
            check_cron(self.cron)
        self._stretches()

    def active_until(self, now: float) -> float | None:
        """Return when it ends, in seconds since the epoch; None while it is not active.

        Occurrences that adjoin or overlap are one, within the weeks around *now* and for a number
        of starts of a cron: a window that never ends is given an end, at which to ask again.
        """
        stretch = self._stretches()(now)
        return stretch.end if stretch.start <= now else None

    def _stretches(self) -> Stretches:
        return stretches(self.cron, self.lasts, self.weekly, self.timezone)


def active(
    windows: Iterable[Window], labels: Mapping[str, str], now: float
) -> tuple[Window, float] | None:
    """Return the active window of an alert with *labels* that ends last, and its end; else None."""
    found = None
    for window in windows:
        end = window.active_until(now)
        if end is None or (found is not None and end <= found[1]):
            continue
        if all(matcher.matches(labels) for matcher in window.match):
            found = window, end
    return found
