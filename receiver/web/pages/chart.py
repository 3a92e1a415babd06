"""The chart of a run's verification: pure geometry, of which the template makes SVG."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Final

import msgspec

from receiver.policy.run import Observation

WIDTH: Final = 640
HEIGHT: Final = 150
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 24
"""Margins for the labels of the axes."""


class Point(msgspec.Struct, frozen=True):
    x: float
    y: float
    verdict: str
    """`cleared`, `firing` or `unknown`."""
    at: float
    value: float | None
    """None when Prometheus returned no number: what health looks like, and what its lack does."""


class Chart(msgspec.Struct, frozen=True):
    points: tuple[Point, ...]
    lines: tuple[str, ...]
    """Points of one polyline each; a look without a value interrupts the line."""
    turns: tuple[Point, ...]
    """The first point of each verdict in a row: the picture in words."""
    least: float | None
    most: float | None
    start: float
    end: float
    acted: float | None
    """Where the last step ended, if that is in the picture."""


def draw(observations: Sequence[Observation], verify_from: float | None) -> Chart | None:
    """Lay out the looks at Prometheus, oldest first; None when there was none."""
    if not observations:
        return None
    first = observations[0].at
    start = first if verify_from is None else min(first, verify_from)
    end = max(observations[-1].at, start + 1.0)
    values = [one.value for one in observations if _finite(one.value)]
    numbers = [value for value in values if value is not None]
    least, most = (min(0.0, *numbers), max(0.0, *numbers)) if numbers else (None, None)

    def across(at: float) -> float:
        return round(LEFT + (at - start) / (end - start) * (WIDTH - LEFT - RIGHT), 1)

    def up(value: float | None) -> float:
        bottom, height = HEIGHT - BOTTOM, HEIGHT - TOP - BOTTOM
        if value is None or not isfinite(value) or least is None or most is None or most == least:
            return bottom
        return round(bottom - (value - least) / (most - least) * height, 1)

    points = tuple(
        Point(across(one.at), up(one.value), one.verdict, one.at, one.value) for one in observations
    )
    return Chart(
        points=points,
        lines=_lines(points),
        turns=tuple(
            point
            for before, point in zip((None, *points), points, strict=False)
            if before is None or before.verdict != point.verdict
        ),
        least=least,
        most=most,
        start=start,
        end=end,
        acted=None if verify_from is None else across(verify_from),
    )


def _lines(points: Sequence[Point]) -> tuple[str, ...]:
    pieces: list[list[Point]] = [[]]
    for point in points:
        if _finite(point.value):
            pieces[-1].append(point)
        elif pieces[-1]:
            pieces.append([])
    return tuple(
        " ".join(f"{point.x},{point.y}" for point in piece) for piece in pieces if len(piece) > 1
    )


def _finite(value: float | None) -> bool:
    return value is not None and isfinite(value)
