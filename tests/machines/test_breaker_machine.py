"""Thousands of random lives of a breaker, beside a model that only remembers what happened."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product
from typing import Any, ClassVar, Final, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from receiver.breaker import Breaker, BreakerEvent, BreakerState, Happening, Thresholds, after
from tests.factories import NOW

STEPS: Final = 10_000
LATER: Final = st.sampled_from(
    (0.0, 0.001, 1.0, 29.5, 59.999, 60.0, 61.0, 3_600.0, 86_400.0, -1.0, -3_600.0, -86_400.0)
) | st.floats(-200, 200)
"""Seconds; the clock that a breaker hears of never goes back, so what is negative is nothing."""
THRESHOLDS: Final = st.builds(
    Thresholds,
    failures=st.integers(1, 5),
    open_for=st.sampled_from((0.001, 1.0, 60.0, 3_600.0)),
    permanent_after=st.integers(1, 4),
)


class Entry(NamedTuple):
    """One line of the history; `trip` and `closed` are what the rules make of the others."""

    what: str
    at: float
    run: int | None = None
    until: float | None = None
    """Of a trip: when the trial may begin, or None when it is for good."""


class History:
    """The rules of the design, in its words, over a list of what happened."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def lately(self, what: str) -> list[Entry]:
        """Entries since a success or a reset closed it."""
        closings = [n for n, entry in enumerate(self.entries) if entry.what == "closed"]
        since = closings[-1] + 1 if closings else 0
        return [entry for entry in self.entries[since:] if entry.what == what]

    def last_trip(self) -> Entry | None:
        trips = [entry for entry in self.entries if entry.what == "trip"]
        return trips[-1] if trips else None

    def state(self, now: float) -> str:
        trips = self.lately("trip")
        if not trips:
            return "CLOSED"
        if trips[-1].until is None:
            return "PERMANENT_OPEN"
        return "HALF_OPEN" if now >= trips[-1].until else "OPEN"

    def trial(self) -> int | None:
        """The run that was let in after the last trip, and has not ended since."""
        begun: int | None = None
        for entry in self.entries:
            if entry.what == "trial":
                begun = entry.run
            elif entry.what in {"trip", "closed"} or (
                entry.what == "released" and entry.run == begun
            ):
                begun = None
        return begun

    def outcome(
        self, *, good: bool, run: int, started: float, now: float, thresholds: Thresholds
    ) -> None:
        trip = self.last_trip()
        if trip is not None and started <= trip.at:
            return  # "an outcome that started at or before the trip says nothing"
        before = self.state(now)
        if before in {"OPEN", "PERMANENT_OPEN"}:
            return  # nothing begins while it is open
        if good:
            self.entries.append(Entry("closed", now))
            return
        self.entries.append(Entry("failure", now, run))
        if before == "HALF_OPEN" or len(self.lately("failure")) >= thresholds.failures:
            nth = len(self.lately("trip")) + 1
            for_good = nth >= thresholds.permanent_after
            until = None if for_good else now + thresholds.open_for
            self.entries.append(Entry("trip", now, until=until))


class Lives(RuleBasedStateMachine):
    steps: ClassVar[int] = 0
    seen: ClassVar[Counter[tuple[BreakerState, BreakerEvent]]] = Counter()
    """Which cells of the table were reached, and how often."""
    ignored: ClassVar[int] = 0
    """Outcomes from before a trip."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.thresholds = Thresholds()
        self.breaker = Breaker()
        self.history = History()
        self.running: dict[int, float] = {}
        """Runs that act, and since when."""
        self.next_run = 1

    def tell(self, event: BreakerEvent, **values: Any) -> None:
        happening = Happening(event=event, at=self.now, thresholds=self.thresholds, **values)
        state = self.breaker.state(self.now)
        type(self).seen[state, event] += 1
        became = after(self.breaker, happening)
        if state in {BreakerState.OPEN, BreakerState.PERMANENT_OPEN} and event != "reset":
            assert became == self.breaker, "only a person ends it before its time"
        self.breaker = became

    def begin(self) -> int:
        run, self.next_run = self.next_run, self.next_run + 1
        self.running[run] = self.now
        return run

    # -- time and configuration

    @rule(later=LATER)
    def time_passes(self, later: float) -> None:
        self.now = max(self.now, self.now + later)

    @rule(early=st.booleans())
    def it_is_time(self, early: bool) -> None:
        """The moment at which the next trial may begin, or the last one before it."""
        if self.breaker.until is not None:
            at = math.nextafter(self.breaker.until, 0) if early else self.breaker.until
            self.now = max(self.now, at)

    @rule(thresholds=THRESHOLDS)
    def the_configuration_is_reloaded(self, thresholds: Thresholds) -> None:
        self.thresholds = thresholds

    # -- runs, that begin as the guard lets them, and end whenever they end

    @rule(runs=st.integers(1, 4))
    def runs_want_to_begin(self, runs: int) -> None:
        for _ in range(runs):
            state = self.breaker.state(self.now)
            if state is BreakerState.CLOSED:
                self.begin()
            elif state is BreakerState.HALF_OPEN and self.breaker.trial is None:
                run = self.begin()
                self.tell(BreakerEvent.TRIAL, run=run)
                self.history.entries.append(Entry("trial", self.now, run))

    @rule()
    def a_trial_begins_where_none_may(self) -> None:
        if self.breaker.state(self.now) is not BreakerState.HALF_OPEN:
            self.tell(BreakerEvent.TRIAL, run=self.begin())

    @rule(which=st.integers(0, 99), after_seconds=LATER)
    def a_run_succeeds(self, which: int, after_seconds: float) -> None:
        self.end_one(which, after_seconds, good=True)

    @rule(which=st.integers(0, 99), after_seconds=LATER)
    def a_run_fails(self, which: int, after_seconds: float) -> None:
        self.end_one(which, after_seconds, good=False)

    @rule(good=st.booleans())
    def all_that_run_end_at_once(self, good: bool) -> None:
        for run in list(self.running):
            self.end(run, good=good)

    @rule(times=st.integers(1, 6), each=st.sampled_from((0.0, 0.5, 100.0)))
    def one_after_the_other_begins_and_fails(self, times: int, each: float) -> None:
        for _ in range(times):
            known = set(self.running)
            self.runs_want_to_begin(1)
            self.time_passes(each)
            for run in set(self.running) - known:
                self.end(run, good=False)

    def end_one(self, which: int, after_seconds: float, *, good: bool) -> None:
        if self.running:
            self.time_passes(after_seconds)
            self.end(list(self.running)[which % len(self.running)], good=good)

    def end(self, run: int, *, good: bool) -> None:
        started = self.running.pop(run)
        trip = self.history.last_trip()
        type(self).ignored += trip is not None and started <= trip.at
        event = BreakerEvent.SUCCESS if good else BreakerEvent.FAILURE
        self.tell(event, run=run, started_at=started)
        self.history.outcome(
            good=good, run=run, started=started, now=self.now, thresholds=self.thresholds
        )

    @rule(which=st.integers(0, 99))
    def a_run_ends_and_proves_nothing(self, which: int) -> None:
        if self.running:
            run = list(self.running)[which % len(self.running)]
            started = self.running.pop(run)
            self.tell(BreakerEvent.RELEASE, run=run, started_at=started)
            self.history.entries.append(Entry("released", self.now, run))

    # -- a person

    @rule()
    def a_person_resets_it(self) -> None:
        self.tell(BreakerEvent.RESET)
        self.history.entries.append(Entry("closed", self.now))

    # -- and always

    @invariant()
    def it_is_what_its_history_says(self) -> None:
        type(self).steps += 1
        trip = self.history.last_trip()
        trips = self.history.lately("trip")
        assert self.breaker == Breaker(
            failures=len(self.history.lately("failure")),
            trips=len(trips),
            tripped_at=None if trip is None else trip.at,
            until=trips[-1].until if trips else None,
            trial=self.history.trial(),
        )

    @invariant()
    def its_state_is_what_its_history_says_at_every_time(self) -> None:
        times = [self.now, self.now + 59.9, self.now + 1e9]
        if self.breaker.until is not None:
            times += [self.breaker.until, math.nextafter(self.breaker.until, 0)]
        for time in times:
            assert self.breaker.state(time) == self.history.state(time)


def test_ten_thousand_steps_agree_with_the_history() -> None:
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=500,
            stateful_step_count=60,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )

    assert Lives.steps >= STEPS
    seen = {cell: Lives.seen[cell] for cell in product(BreakerState, BreakerEvent)}
    # Not more than once: which lives are drawn depends on the constants of all modules loaded.
    assert min(seen.values()) >= 1, seen
    assert Lives.ignored >= 100
