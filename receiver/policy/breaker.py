"""When does what keeps failing stop? The four-state machine, as a table.

Who counts what is not known here: one breaker is for everything, one for each strategy and one for
each target. The first counts targets and the others runs, as what they are told says. Time is an
argument, so the passage from OPEN to HALF_OPEN needs nobody to make it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from receiver.policy.duration import Duration

MAIN: Final = "self-healing-main"
"""The name of the breaker that is for everything failing: it counts the targets that fail."""
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
    """Consecutive failures that trip it."""
    open_for: Annotated[Duration, msgspec.Meta(gt=0)] = 60.0
    """From a trip to the next trial."""
    permanent_after: Annotated[int, msgspec.Meta(ge=1)] = 3
    """Trips without a success between, the last of which is for good."""


class MainThresholds(Thresholds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of everything: how many targets trip it, and so many trips that dormancy comes first."""

    failures: Annotated[int, msgspec.Meta(ge=1)] = 5
    """Different targets that fail without a heal of any between, and so trip it."""
    permanent_after: Annotated[int, msgspec.Meta(ge=1)] = 10


class StrategyThresholds(Thresholds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one strategy: also from when on what cannot be proven is a failure."""

    inconclusive: Annotated[int, msgspec.Meta(ge=1)] = 3
    """From so many inconclusive runs in a row on one target on, each is a failure."""


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """What one breaker remembers; a new one has nothing to remember."""

    failures: int = 0
    """Consecutive ones, since the last success or reset; a target that is told counts once."""
    failing: tuple[str, ...] = ()
    """The targets that are counted among them."""
    trips: int = 0
    """Since the last success or reset; 0 while it is closed."""
    tripped_at: float | None = None
    """The last trip, seconds since the epoch; remembered when it is closed again."""
    until: float | None = None
    """When the next trial may begin; None while it is closed, or open for good."""
    trial: int | None = None
    """The run that is being tried."""
    healed: int | None = None
    """The run whose success it heard of last, if that has made it forget anything."""
    forgot_failures: int = 0
    """What it forgot then: should that heal not hold, it is remembered."""
    forgot_trips: int = 0

    def state(self, now: float) -> BreakerState:
        if not self.trips:
            return BreakerState.CLOSED
        if self.until is None:
            return BreakerState.PERMANENT_OPEN
        return BreakerState.OPEN if now < self.until else BreakerState.HALF_OPEN


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a breaker hears of."""

    event: BreakerEvent
    at: float
    run: int | None = None
    started_at: float = 0.0
    """When the run whose outcome this is began to act."""
    target: str | None = None
    """What failed, where it counts once however often it does; None where each failure counts. A
    breaker that is told of targets is told of no relapse: there is none that it would take back."""
    thresholds: Thresholds = Thresholds()
    """Those in force at that moment: a reload may change them."""


def after(breaker: Breaker, happening: Happening) -> Breaker:
    """Return what *breaker* becomes; unchanged where the table has nothing.

    The outcome of a run that had begun at or before the last trip says nothing: it tells of the
    time that led to it.
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
    """A heal has not held: it forgave nothing, and the trial that it was has failed."""
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
"""What stands not here changes nothing: nothing begins while it is open."""
