"""How long? Prometheus durations (`5m`, `1h30m`) to seconds and back.

The grammar is that of Prometheus' configuration: units in descending order, each at most once,
without spaces or fractions.
https://prometheus.io/docs/prometheus/latest/configuration/configuration/
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Final

import msgspec
import re2

UNITS: Final = {  # seconds
    "y": 31_536_000.0,
    "w": 604_800.0,
    "d": 86_400.0,
    "h": 3_600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 0.001,
}
_PATTERN: Final = (
    r"(?:(\d{1,9})y)?(?:(\d{1,9})w)?(?:(\d{1,9})d)?(?:(\d{1,9})h)?"
    r"(?:(\d{1,9})m)?(?:(\d{1,9})s)?(?:(\d{1,9})ms)?"
)
_COMPILED: Final = re2.compile(_PATTERN)


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as `1h30m`, `90s`, `500ms` or `0`.

    Raises ValueError with a remedy when *text* is none.
    """
    if text == "0":
        return 0.0
    found = _COMPILED.fullmatch(text)
    if not text or found is None:
        raise ValueError(f"{text!r} is not a duration; write for example 30s, 5m or 1h30m")
    return sum(
        int(amount) * seconds
        for amount, seconds in zip(found.groups(), UNITS.values(), strict=True)
        if amount
    )


@lru_cache(maxsize=256)
def format_duration(seconds: float) -> str:
    """Return the shortest duration text for *seconds*, rounded to milliseconds: `1h30m`, `0s`."""
    left = round(seconds * 1000)
    parts = []
    for unit, size in UNITS.items():
        if unit in {"y", "w"}:
            continue
        count, left = divmod(left, round(size * 1000))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


Duration = Annotated[
    float,
    msgspec.Meta(
        extra={"type": "duration", "parse": parse_duration},
        extra_json_schema={
            "type": "string",
            "pattern": f"^(?:0|{_PATTERN})$",
            "examples": ["30s", "5m", "1h30m"],
        },
    ),
]
"""Seconds in memory, a Prometheus duration in YAML."""
