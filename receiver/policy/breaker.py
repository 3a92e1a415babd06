"""When must a strategy or a target that keeps failing stop? Circuit breakers, as a table.

One breaker is for everything and counts failed targets; one for each strategy and one for each
target count runs. Which of them gets an event is up to the caller. Time is an argument, so no timer
has to move OPEN to HALF_OPEN.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from receiver.policy.duration import Duration

MAIN: Final = "self-healing-main"
"""The name of the main breaker, which counts failed targets."""
PERMANENT_REASON: Final = "Exceeded permanent failure threshold"


class BreakerState(StrEnum):
    CLOSED = "CLOSED"
    """Runs may begin."""
    OPEN = "OPEN"
    """None may, until a time."""
    HALF_OPEN = "HALF_OPEN"
    """One may: the trial."""
    PERMANENT_OPEN = "PERMANENT_OPEN"
    """None may, until a person resets it."""


class BreakerEvent(StrEnum):
    FAILURE = "failure"
    SUCCESS = "success"
    TRIAL = "trial"
    """A run begins while HALF_OPEN."""
    RELEASE = "release"
    """The trial ended, and proved nothing."""
    RESET = "reset"
    """A person closed it."""


def names(strategy: str, target: str) -> tuple[str, str, str]:
    """Return the breakers that stand before a strategy on a target, the widest first."""
    return (MAIN, f"strategy:{strategy}", f"target:{target}")


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    failures: Annotated[int, msgspec.Meta(ge=1)] = 5
    """Failures in a row that open it: of the [breaker](decisions.md#breakers) of a target, or of a
    strategy on whichever targets."""
    open_for: Annotated[Duration, msgspec.Meta(gt=0)] = 60.0
    """From its opening until one run may try."""
    permanent_after: Annotated[int, msgspec.Meta(ge=1)] = 3
    """Openings without a success between, the last of which is for good."""


class MainThresholds(Thresholds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of the main breaker: so many trips that dormancy comes first."""

    failures: Annotated[int, msgspec.Meta(ge=1)] = 5
    """Of the [breaker](decisions.md#breakers) `self-healing-main`: different targets that have
    failed, with no heal of any between, and so open it."""
    permanent_after: Annotated[int, msgspec.Meta(ge=1)] = 10
    """Openings without a success between, the last of which is for good; then the engine is
    dormant."""


class StrategyThresholds(Thresholds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one strategy, whose inconclusive runs count too, from some point on."""

    inconclusive: Annotated[int, msgspec.Meta(ge=1)] = 3
    """From so many runs in a row on one target on that prove nothing, each is a failure for the
    breakers of the strategy and the target."""


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """What one breaker remembers."""

    failures: int = 0
    """In a row, since the last success or reset; a target counts once where targets are counted."""
    failing: tuple[str, ...] = ()
    """The targets that are counted in `failures`."""
    trips: int = 0
    """Since the last success or reset; 0 while it is closed."""
    tripped_at: float | None = None
    """The last trip, seconds since the epoch; remembered when it is closed again."""
    until: float | None = None
    """When the next trial may begin; None while it is closed, or open for good."""
    trial: int | None = None
    """The run that is being tried."""
    healed: int | None = None
    """The run whose success last cleared its counts, if there were any to clear."""
    forgot_failures: int = 0
    """What was cleared then, and is restored should that heal not hold."""
    forgot_trips: int = 0

    def state(self, now: float) -> BreakerState:
        if not self.trips:
            return BreakerState.CLOSED
        if self.until is None:
            return BreakerState.PERMANENT_OPEN
        return BreakerState.OPEN if now < self.until else BreakerState.HALF_OPEN


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """One event, as a breaker sees it."""

    event: BreakerEvent
    at: float
    run: int | None = None
    started_at: float = 0.0
    """When the run whose outcome this is began to act."""
    target: str | None = None
    """The failed target, for the breaker that counts targets; None where each failure counts.
    The main breaker gets no relapses, so it has nothing to restore."""
    thresholds: Thresholds = Thresholds()
    """Those in force at that moment: a reload may change them."""


def after(breaker: Breaker, happening: Happening) -> Breaker:
    """Return *breaker* after *happening*; unchanged where the table has no entry.

    The outcome of a run that began at or before the last trip is ignored: it is part of what led to
    that trip.
    """
    if (
        happening.event in {BreakerEvent.FAILURE, BreakerEvent.SUCCESS}
        and breaker.tripped_at is not None
        and happening.started_at <= breaker.tripped_at
    ):
        return breaker
    move = MOVES.get((breaker.state(happening.at), happening.event))
    return breaker if move is None else move(breaker, happening)


def _count(breaker: Breaker, failure: Happening) -> Breaker:
    if failure.run is not None and failure.run == breaker.healed:
        return _take_back(breaker, failure)
    counted = _counted(breaker, failure)
    return counted if counted.failures < failure.thresholds.failures else _trip(breaker, failure)


def _counted(breaker: Breaker, failure: Happening) -> Breaker:
    if failure.target in breaker.failing:
        return breaker
    new = () if failure.target is None else (failure.target,)
    return msgspec.structs.replace(
        breaker, failures=breaker.failures + 1, failing=(*breaker.failing, *new)
    )


def _take_back(breaker: Breaker, relapse: Happening) -> Breaker:
    """A heal did not hold: restore what it cleared. If it was the trial, the trial has failed."""
    before = Breaker(
        failures=breaker.failures + breaker.forgot_failures,
        trips=breaker.forgot_trips,
        tripped_at=breaker.tripped_at,
    )
    return _trip(before, relapse) if before.trips else _count(before, relapse)


def _trip(breaker: Breaker, failure: Happening) -> Breaker:
    counted, trips = _counted(breaker, failure), breaker.trips + 1
    for_good = trips >= failure.thresholds.permanent_after
    return Breaker(
        failures=counted.failures,
        failing=counted.failing,
        trips=trips,
        tripped_at=failure.at,
        until=None if for_good else failure.at + failure.thresholds.open_for,
    )


def _begin_trial(breaker: Breaker, begin: Happening) -> Breaker:
    if breaker.trial is not None:
        return breaker  # there is one
    return msgspec.structs.replace(breaker, trial=begin.run)


def _release(breaker: Breaker, end: Happening) -> Breaker:
    return msgspec.structs.replace(breaker, trial=None) if end.run == breaker.trial else breaker


def _close(breaker: Breaker, success: Happening) -> Breaker:
    if not breaker.failures and not breaker.trips:
        return Breaker(tripped_at=breaker.tripped_at)
    return Breaker(
        tripped_at=breaker.tripped_at,
        healed=success.run,
        forgot_failures=breaker.failures,
        forgot_trips=breaker.trips,
    )


def _reset(breaker: Breaker, _: Happening) -> Breaker:
    return Breaker(tripped_at=breaker.tripped_at)


_S, _E = BreakerState, BreakerEvent

MOVES: Final[dict[tuple[BreakerState, BreakerEvent], Callable[[Breaker, Happening], Breaker]]] = {
    (_S.CLOSED, _E.FAILURE): _count,
    (_S.CLOSED, _E.SUCCESS): _close,
    (_S.CLOSED, _E.RESET): _reset,
    (_S.OPEN, _E.RESET): _reset,
    (_S.HALF_OPEN, _E.TRIAL): _begin_trial,
    (_S.HALF_OPEN, _E.RELEASE): _release,
    (_S.HALF_OPEN, _E.FAILURE): _trip,
    (_S.HALF_OPEN, _E.SUCCESS): _close,
    (_S.HALF_OPEN, _E.RESET): _reset,
    (_S.PERMANENT_OPEN, _E.RESET): _reset,
}
"""Every other pair changes nothing: while it is open, nothing begins."""
