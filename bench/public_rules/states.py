"""How the series of a rule run: values."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from bench.public_rules.tree import Kind

NOW: Final = 2e9
"""What `time()` is while solving; a value near it moves with the clock."""


class Line(msgspec.Struct, frozen=True):
    """How one series runs during a phase."""

    start: float | None = None
    """Its value at the end of the phase; None: any, and a counter just rises."""
    slope: float = 0.0
    """By the second."""
    wave: float = 0.0
    """By this much every second sample is higher."""
    quantile: float | None = None
    """Buckets: what the quantile shall be; NaN: no observations."""


State: TypeAlias = dict[Kind, tuple[Line | None, ...]]
"""Series by their kind; None for one that is not there."""


def covers(state: State, other: State) -> bool:
    """Whether *state* has all series of *other*."""
    return all(len(state.get(kind, ())) >= len(lines) for kind, lines in other.items())


def widened(state: State, other: State) -> State:
    """*state*, with as many series of each of its kinds as *other* has, the last one repeated."""
    return {
        kind: (*lines, *[lines[-1]] * (len(other.get(kind, ())) - len(lines)))
        for kind, lines in state.items()
    }
