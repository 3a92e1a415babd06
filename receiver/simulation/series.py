"""The values of a series in promtool's notation: `0x3 1+2x5 _x4 stale`.

https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/#series
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Final

import msgspec

MOST: Final = 1_000_000
"""Values of one series: 30 days at intervals of 3s."""

_NUMBER: Final = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[iI]nf|NaN"
_ITEM: Final = re.compile(
    rf"(?P<gap>_)(?:x(?P<gaps>\d{{1,7}}))?"
    rf"|(?P<stale>stale)(?:x(?P<stales>\d{{1,7}}))?"
    rf"|(?P<first>{_NUMBER})(?:(?P<step>[-+](?:{_NUMBER}))?x(?P<more>\d{{1,7}}))?"
)


class SeriesPart(msgspec.Struct, frozen=True):
    """Values that follow one another, an interval apart."""

    number: int
    first: float | None
    """None: there is none."""
    step: float = 0.0
    stale: bool = False
    """It has ended, as Prometheus marks it."""


class Series(msgspec.Struct, frozen=True):
    text: str
    stretches: tuple[SeriesPart, ...]

    @property
    def length(self) -> int:
        """The number of intervals that it has values for, gaps included."""
        return sum(stretch.number for stretch in self.stretches)


def parse_series(text: str) -> Series:
    """Return the series that *text* describes. Raises ValueError with a remedy for none."""
    found: list[SeriesPart] = []
    total = 0
    for word in text.split():
        match = _ITEM.fullmatch(word)
        if match is None:
            raise ValueError(
                f"{word!r} is no value of a series; write for example 0x10 (11 times 0), 1+2x5, "
                "_x3 or stale"
            )
        found.append(_stretch(match))
        total += found[-1].number
        if total > MOST:
            raise ValueError(f"more than {MOST} values; write a longer `interval`")
    if not found:
        raise ValueError("a series needs a value; write for example 0x10 1x20")
    return Series(text, tuple(found))


def _stretch(match: re.Match[str]) -> SeriesPart:
    if match["gap"]:
        return SeriesPart(int(match["gaps"] or 1), None)
    if match["stale"]:
        return SeriesPart(int(match["stales"] or 1), None, stale=True)
    first = float(match["first"])
    if match["more"] is None:
        return SeriesPart(1, first)
    step = float(match["step"] or 0)
    if not math.isfinite(step):
        raise ValueError(f"{match[0]!r}: a step must be finite")
    # As promtool has it: the first value, and so many more.
    return SeriesPart(int(match["more"]) + 1, first, step)


SeriesText = Annotated[
    Series,
    msgspec.Meta(
        extra={"type": "series", "parse": parse_series},
        extra_json_schema={"type": "string", "examples": ["0x3 1x40 0x60"]},
    ),
]
"""A Series in memory, promtool's notation in YAML."""
