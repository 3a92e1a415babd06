"""The breaker: every cell of its table, and the rules that the table is there for."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import msgspec
import pytest

from receiver.policy.breaker import (
    MOVES,
    Breaker,
    BreakerEvent,
    BreakerState,
    Happening,
    Thresholds,
    after,
)
from tests.factories import NOW

CLOSED, OPEN = BreakerState.CLOSED, BreakerState.OPEN
HALF_OPEN, PERMANENT_OPEN = BreakerState.HALF_OPEN, BreakerState.PERMANENT_OPEN
FAILURE, SUCCESS = BreakerEvent.FAILURE, BreakerEvent.SUCCESS
TRIAL, RELEASE, RESET = BreakerEvent.TRIAL, BreakerEvent.RELEASE, BreakerEvent.RESET

NEW = Breaker()
TRIPPED = Breaker(failures=5, trips=1, tripped_at=NOW, until=NOW + 60)
TRIED = Breaker(failures=5, trips=1, tripped_at=NOW, until=NOW + 60, trial=7)
FOR_GOOD = Breaker(failures=7, trips=3, tripped_at=NOW)
OVER = Breaker(tripped_at=NOW)
"""Closed again: all that is left is when it tripped."""
HEALED = Breaker(tripped_at=NOW, healed=7, forgot_failures=5, forgot_trips=1)
"""Closed by the trial: should that heal not hold, what it has forgotten is remembered."""


def told(breaker: Breaker, event: BreakerEvent, at: float, **changes: Any) -> Breaker:
    """What it becomes by something that happens; a run begins a second before its outcome."""
    values: dict[str, Any] = {"run": 7, "started_at": at - 1}
    return after(breaker, Happening(event=event, at=at, **{**values, **changes}))


def failed(breaker: Breaker, times: int, at: float = NOW, **changes: Any) -> Breaker:
    for _ in range(times):
        breaker = told(breaker, FAILURE, at, **changes)
    return breaker


CELLS = [
    # before, at (seconds after NOW), event, becomes
    (NEW, 0, FAILURE, Breaker(failures=1)),
    (Breaker(failures=3), 0, FAILURE, Breaker(failures=4)),
    (Breaker(failures=4), 0, FAILURE, TRIPPED),
    (NEW, 0, SUCCESS, NEW),
    (Breaker(failures=4), 0, SUCCESS, Breaker(healed=7, forgot_failures=4)),
    (
        Breaker(failures=2, tripped_at=NOW), 5, SUCCESS,
        Breaker(tripped_at=NOW, healed=7, forgot_failures=2),
    ),
    (Breaker(healed=6, forgot_failures=4), 0, SUCCESS, NEW),
    (Breaker(healed=7, forgot_failures=2), 5, FAILURE, Breaker(failures=3)),
    (Breaker(healed=7, forgot_failures=2), 5, RESET, NEW),
    (NEW, 0, TRIAL, NEW),
    (NEW, 0, RELEASE, NEW),
    (NEW, 0, RESET, NEW),
    (Breaker(failures=4), 0, RESET, NEW),
    (TRIPPED, 59, FAILURE, TRIPPED),
    (TRIPPED, 59, SUCCESS, TRIPPED),
    (TRIPPED, 59, TRIAL, TRIPPED),
    (TRIPPED, 59, RELEASE, TRIPPED),
    (TRIPPED, 59, RESET, OVER),
    (TRIPPED, 60, TRIAL, TRIED),
    (TRIPPED, 90, RELEASE, TRIPPED),
    (TRIED, 90, RELEASE, TRIPPED),
    (TRIED, 90, FAILURE, Breaker(failures=6, trips=2, tripped_at=NOW + 90, until=NOW + 150)),
    (TRIED, 90, SUCCESS, HEALED),
    (TRIED, 90, RESET, OVER),
    (TRIPPED, 90, RESET, OVER),
    (FOR_GOOD, 99, FAILURE, FOR_GOOD),
    (FOR_GOOD, 99, SUCCESS, FOR_GOOD),
    (FOR_GOOD, 99, TRIAL, FOR_GOOD),
    (FOR_GOOD, 99, RELEASE, FOR_GOOD),
    (FOR_GOOD, 99, RESET, OVER),
]  # fmt: skip


@pytest.mark.parametrize(("before", "at", "event", "becomes"), CELLS)
def test_what_a_breaker_becomes(
    before: Breaker, at: float, event: BreakerEvent, becomes: Breaker
) -> None:
    assert told(before, event, NOW + at) == becomes


def test_every_cell_of_the_table_and_every_empty_one_is_tested() -> None:
    tested = {(before.state(NOW + at), event) for before, at, event, _ in CELLS}

    assert tested == set(product(BreakerState, BreakerEvent))
    changed = {
        (before.state(NOW + at), event) for before, at, event, becomes in CELLS if before != becomes
    }
    assert changed == set(MOVES)


def test_a_new_breaker_lets_everything_begin() -> None:
    assert NEW.state(0) is NEW.state(NOW) is CLOSED


def test_five_failures_in_a_row_trip_it_for_a_minute() -> None:
    assert failed(NEW, 4).state(NOW) is CLOSED

    tripped = failed(NEW, 5)

    assert tripped == TRIPPED
    assert tripped.state(NOW) is OPEN


@pytest.mark.parametrize(
    ("later", "state"),
    [
        (-86_400, OPEN),
        (0, OPEN),
        (59.999, OPEN),
        (60, HALF_OPEN),
        (60.001, HALF_OPEN),
        (1e9, HALF_OPEN),
    ],
)
def test_it_is_half_open_from_the_moment_on_at_which_its_time_is_over(
    later: float, state: BreakerState
) -> None:
    assert TRIPPED.state(NOW + later) is state
    assert TRIED.state(NOW + later) is state


def test_the_last_moment_before_its_time_is_still_open() -> None:
    assert TRIPPED.state(math.nextafter(NOW + 60, 0)) is OPEN


def test_open_for_good_no_time_ends_it() -> None:
    assert FOR_GOOD.state(NOW) is FOR_GOOD.state(NOW + 1e9) is PERMANENT_OPEN


def test_a_success_begins_the_row_anew() -> None:
    broken = told(failed(NEW, 4), SUCCESS, NOW)

    assert failed(broken, 4, run=8).state(NOW) is CLOSED
    assert failed(broken, 5, run=8).state(NOW) is OPEN


def test_trials_that_fail_open_it_again_and_the_third_trip_is_for_good() -> None:
    breaker = failed(NEW, 5)
    states = [breaker.state(NOW)]
    for minute in (1, 2):
        breaker = told(breaker, TRIAL, NOW + minute * 100)
        breaker = told(breaker, FAILURE, NOW + minute * 100 + 10, started_at=NOW + minute * 100)
        states.append(breaker.state(NOW + minute * 100 + 10))

    assert states == [OPEN, OPEN, PERMANENT_OPEN]
    assert breaker == Breaker(failures=7, trips=3, tripped_at=NOW + 210)


def test_a_success_between_makes_the_next_trip_the_first() -> None:
    twice = Breaker(failures=6, trips=2, tripped_at=NOW, until=NOW + 60)
    closed = told(told(twice, TRIAL, NOW + 60), SUCCESS, NOW + 70, started_at=NOW + 60)

    again = failed(closed, 5, NOW + 100, run=8)

    assert (again.trips, again.failures, again.state(NOW + 100)) == (1, 5, OPEN)


# -- what counts once


def test_a_target_that_fails_again_and_again_trips_what_counts_targets_never() -> None:
    breaker = failed(NEW, 1_000, target="a")

    assert breaker == Breaker(failures=1, failing=("a",))


def test_so_many_targets_trip_it() -> None:
    breaker = NEW
    for target in "aabbccddd":
        breaker = told(breaker, FAILURE, NOW, target=target)
    assert breaker.state(NOW) is CLOSED

    tripped = told(breaker, FAILURE, NOW, target="e")

    assert tripped == msgspec.structs.replace(TRIPPED, failing=tuple("abcde"))


@pytest.mark.parametrize(("target", "targets"), [("a", "abcde"), ("f", "abcdef")])
def test_a_trial_that_fails_counts_whatever_its_target_is(target: str, targets: str) -> None:
    tried = msgspec.structs.replace(TRIED, failing=tuple("abcde"))

    again = told(tried, FAILURE, NOW + 90, target=target)

    assert again == Breaker(
        failures=len(targets),
        failing=tuple(targets),
        trips=2,
        tripped_at=NOW + 90,
        until=NOW + 150,
    )


@pytest.mark.parametrize("event", [SUCCESS, RESET])
def test_a_heal_of_whichever_target_and_a_person_begin_the_row_anew(event: BreakerEvent) -> None:
    broken = Breaker(failures=2, failing=("a", "b"))

    begun = told(told(broken, event, NOW, target="c"), FAILURE, NOW + 1, target="a", run=8)

    assert (begun.failures, begun.failing) == (1, ("a",))


# -- a failure of a run that it has heard to succeed: the heal has not held


def test_heals_that_do_not_hold_trip_it_as_if_they_had_failed() -> None:
    breaker = NEW
    states = []
    for run in range(5):
        at = NOW + 100 * run
        breaker = told(breaker, SUCCESS, at, run=run)
        breaker = told(breaker, FAILURE, at + 9, run=run, started_at=at - 1)
        states.append(breaker.state(at + 9))

    assert states == [CLOSED, CLOSED, CLOSED, CLOSED, OPEN]
    assert (breaker.failures, breaker.trips) == (5, 1)


def test_a_trial_whose_heal_does_not_hold_has_failed() -> None:
    again = told(HEALED, FAILURE, NOW + 200, started_at=NOW + 60)

    assert again == Breaker(failures=6, trips=2, tripped_at=NOW + 200, until=NOW + 260)

    tried = told(again, TRIAL, NOW + 260, run=9)
    healed = told(tried, SUCCESS, NOW + 270, run=9, started_at=NOW + 260)
    for_good = told(healed, FAILURE, NOW + 280, run=9, started_at=NOW + 260)
    assert for_good.state(NOW + 1e9) is PERMANENT_OPEN


def test_what_others_have_done_since_the_heal_counts_too() -> None:
    healed = told(failed(NEW, 2, run=1), SUCCESS, NOW, run=2)
    failed_since = told(healed, FAILURE, NOW + 5, run=3)

    assert told(failed_since, FAILURE, NOW + 9, run=2).failures == 2 + 1 + 1


def test_a_heal_of_another_since_then_still_forgives_what_was_before() -> None:
    one = told(failed(NEW, 4, run=1), SUCCESS, NOW, run=2)
    two = told(one, SUCCESS, NOW + 5, run=3)

    assert told(two, FAILURE, NOW + 9, run=2).failures == 1


def test_after_a_reset_nothing_is_remembered() -> None:
    assert told(told(HEALED, RESET, NOW + 90, run=None), FAILURE, NOW + 99).failures == 1


def test_nothing_but_a_reset_leaves_what_is_open_for_good() -> None:
    breaker = FOR_GOOD
    for event in (*(e for e in BreakerEvent if e is not RESET), FAILURE, SUCCESS):
        breaker = told(breaker, event, NOW + 1e6)
        assert breaker == FOR_GOOD

    assert told(breaker, RESET, NOW + 1e6).state(NOW + 1e6) is CLOSED


def test_after_a_reset_it_takes_as_many_failures_and_trips_as_at_first() -> None:
    breaker = failed(told(FOR_GOOD, RESET, NOW + 5), 5, NOW + 10)

    assert breaker == Breaker(failures=5, trips=1, tripped_at=NOW + 10, until=NOW + 70)


# -- a run that began before the trip tells of the time that led to it


@pytest.mark.parametrize(
    "before",
    [TRIPPED, TRIED, FOR_GOOD, OVER, Breaker(failures=4, tripped_at=NOW)],
    ids=["open", "tried", "for good", "closed again", "closed and failing again"],
)
@pytest.mark.parametrize("outcome", [FAILURE, SUCCESS])
@pytest.mark.parametrize("started", [NOW - 3_600, math.nextafter(NOW, 0), NOW])
@pytest.mark.parametrize("at", [NOW, NOW + 59, NOW + 60, NOW + 86_400])
def test_the_outcome_of_a_run_from_before_the_trip_says_nothing(
    before: Breaker, outcome: BreakerEvent, started: float, at: float
) -> None:
    assert told(before, outcome, at, run=3, started_at=started) == before


def test_the_outcome_of_a_run_that_began_right_after_the_trip_counts() -> None:
    began = math.nextafter(NOW, math.inf)

    assert told(TRIED, SUCCESS, NOW + 60, started_at=began) == HEALED
    assert told(OVER, FAILURE, NOW + 60, started_at=began).failures == 1


def test_many_runs_that_fail_at_once_trip_it_once() -> None:
    breaker = NEW
    for run in range(20):
        breaker = told(breaker, FAILURE, NOW + run, run=run, started_at=NOW - 10)

    assert breaker == Breaker(failures=5, trips=1, tripped_at=NOW + 4, until=NOW + 64)


def test_before_the_first_trip_the_age_of_a_run_does_not_matter() -> None:
    assert told(NEW, FAILURE, NOW, started_at=0.0).failures == 1


# -- the trial


def test_only_the_trial_itself_can_be_released() -> None:
    assert told(TRIED, RELEASE, NOW + 90, run=6) == TRIED
    assert told(TRIED, RELEASE, NOW + 90, run=None) == TRIED
    assert told(TRIED, RELEASE, NOW + 90, run=7).trial is None


def test_a_trial_that_proves_nothing_makes_room_for_the_next_one() -> None:
    released = told(TRIED, RELEASE, NOW + 90)

    assert released.state(NOW + 90) is HALF_OPEN
    assert told(released, TRIAL, NOW + 91, run=8).trial == 8


def test_a_trial_that_ends_after_a_reset_is_a_run_like_any_other() -> None:
    reset = told(TRIED, RESET, NOW + 70)

    assert told(reset, FAILURE, NOW + 80, started_at=NOW + 60).failures == 1
    assert told(reset, RELEASE, NOW + 80) == reset


def test_a_trial_from_before_a_later_trip_does_not_touch_the_later_trial() -> None:
    later = failed(told(TRIED, RESET, NOW + 70), 5, NOW + 80)
    later = told(later, TRIAL, NOW + 140, run=9)

    for event in (FAILURE, SUCCESS, RELEASE):
        assert told(later, event, NOW + 150, run=7, started_at=NOW + 60) == later


# -- thresholds are those of the moment


@pytest.mark.parametrize(
    ("had", "threshold", "state"),
    [(0, 1, OPEN), (3, 4, OPEN), (3, 2, OPEN), (3, 5, CLOSED), (40, 50, CLOSED), (49, 50, OPEN)],
)
def test_a_threshold_that_changed_counts_from_the_next_failure_on(
    had: int, threshold: int, state: BreakerState
) -> None:
    now = Thresholds(failures=threshold)

    assert told(Breaker(failures=had), FAILURE, NOW, thresholds=now).state(NOW) is state


def test_one_failure_ends_a_trial_however_many_trip_what_is_closed() -> None:
    generous = Thresholds(failures=1_000)

    assert told(TRIED, FAILURE, NOW + 90, thresholds=generous).state(NOW + 90) is OPEN


def test_a_time_that_changed_counts_from_the_next_trip_on() -> None:
    longer = Thresholds(open_for=600.0)

    assert told(TRIED, RELEASE, NOW + 90, thresholds=longer).until == TRIPPED.until
    assert told(TRIED, FAILURE, NOW + 90, thresholds=longer).until == NOW + 690


@pytest.mark.parametrize(
    ("trips", "permanent_after", "state"),
    [
        (0, 1, PERMANENT_OPEN),
        (1, 1, PERMANENT_OPEN),
        (1, 2, PERMANENT_OPEN),
        (1, 3, OPEN),
        (2, 3, PERMANENT_OPEN),
        (2, 10, OPEN),
        (8, 10, OPEN),
        (9, 10, PERMANENT_OPEN),
        (5, 3, PERMANENT_OPEN),
    ],
)
def test_which_trip_is_for_good(trips: int, permanent_after: int, state: BreakerState) -> None:
    before = (
        Breaker(failures=4)
        if not trips
        else Breaker(failures=4 + trips, trips=trips, tripped_at=NOW, until=NOW + 60)
    )
    failing = told(
        before, FAILURE, NOW + 99, thresholds=Thresholds(permanent_after=permanent_after)
    )

    assert failing.state(NOW + 99) is state
    assert failing.trips == trips + 1


def test_raising_the_thresholds_opens_no_door_that_is_shut_for_good() -> None:
    generous = Thresholds(failures=1_000, open_for=0.001, permanent_after=1_000)

    for event in (FAILURE, SUCCESS, TRIAL, RELEASE):
        assert told(FOR_GOOD, event, NOW + 1e6, thresholds=generous) == FOR_GOOD


@pytest.mark.parametrize("field", ["failures", "open_for", "permanent_after"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_threshold_below_one_is_no_threshold(field: str, value: float) -> None:
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.convert({field: value}, Thresholds)


def test_what_is_shipped_are_five_failures_a_minute_and_three_trips() -> None:
    assert Thresholds() == Thresholds(failures=5, open_for=60.0, permanent_after=3)


def test_there_is_one_trial_at_a_time() -> None:
    assert told(TRIED, TRIAL, NOW + 61, run=8) == TRIED
