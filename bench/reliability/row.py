"""A row of the table: some tests, and the bounds that what they record must keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple


class Result(NamedTuple):
    """What the tests of a row came to."""

    commit: str
    """The last one that changed receiver/ before they ran."""
    passed: int
    failed: int
    skipped: int
    figures: Mapping[str, Sequence[float]]
    """What they recorded, by name."""


class Bound(NamedTuple):
    """What a figure must keep to."""

    name: str
    """As tests record it; `tests passed` is counted."""
    sign: str
    value: float
    over: Callable[[Iterable[float]], float]
    """Makes one figure of those of several tests."""

    def reached(self, result: Result) -> float | None:
        if self.name == PASSED:
            return result.passed
        found = result.figures.get(self.name)
        return self.over(found) if found else None

    def holds(self, result: Result) -> bool:
        reached = self.reached(result)
        if reached is None:
            return False
        return reached >= self.value if self.sign == "≥" else reached <= self.value


PASSED = "tests passed"


def at_least(value: float, name: str, *, total: bool = False) -> Bound:
    return Bound(name, "≥", value, sum if total else min)


def at_most(value: float, name: str) -> Bound:
    return Bound(name, "≤", value, max)


def no(name: str) -> Bound:
    """None of them over all tests."""
    return Bound(name, "=", 0, sum)


class Row(NamedTuple):
    number: int
    test: str
    bounds: tuple[Bound, ...]
    tests: tuple[str, ...]
    """Node ids of pytest."""
    needs: str = ""
    """A variable of the environment that it needs to reach its figure."""
    lacking: str = ""
    """Why the figure is not reached, where that is known."""

    @property
    def command(self) -> str:
        words = (self.needs, "RELIABILITY=full", "python -m pytest", *self.tests)
        return " ".join(word for word in words if word)

    def met(self, result: Result) -> bool:
        return (
            not result.failed + result.skipped
            and result.passed > 0
            and all(bound.holds(result) for bound in self.bounds)
        )
