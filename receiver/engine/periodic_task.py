"""A periodic task, its state, and how many are too many."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal

import msgspec

CAUTION_FROM: Final = 6
OVERLOAD_FROM: Final = 11
_LONGEST: Final = 1e10  # seconds; a time beyond it has no date

Load = Literal["normal", "caution", "overload"]


def load(total: int) -> Load:
    """Classify the number of registered tasks; 3 to 5 are normal."""
    if total >= OVERLOAD_FROM:
        return "overload"
    return "caution" if total >= CAUTION_FROM else "normal"


def _always() -> bool:
    return True


class PeriodicTask(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    every: Callable[[], float]
    """Seconds between the starts of two executions. Asked after each and at a refresh: a reload may
    change it."""
    run: Callable[[], object]
    wanted: Callable[[], bool] = _always
    """Whether the configuration asks for it now."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_:-]{1,64}", self.id):
            raise ValueError(f"{self.id!r} is not a task id: 1 to 64 of a-z, 0-9, `_`, `:`, `-`")


class TaskState(msgspec.Struct, frozen=True, kw_only=True):
    """A registered task as it is now. Times are seconds since the epoch, others seconds."""

    id: str
    interval: float
    paused: bool
    last_run: float | None
    """When its last execution began."""
    next_run: float | None
    """None while it is paused, and before the start."""
    runs: int
    """Executions that have ended, since promheal started; of them `failures` raised."""
    failures: int
    last_error: str
    """Why the last one failed, or empty when it did not."""
    last_duration: float | None


def interval_of(task: PeriodicTask) -> float:
    """Ask a task for its interval. Raises ValueError when it is not more than 0 seconds."""
    seconds = task.every()
    if not 0 < seconds < _LONGEST:
        raise ValueError(f"background task {task.id} every {seconds} seconds: must be more than 0")
    return seconds
