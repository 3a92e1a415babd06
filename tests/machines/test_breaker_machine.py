"""Thousands of random lives of a breaker, beside a model that only remembers what happened."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product
from typing import Any, ClassVar, Final, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from receiver.policy.breaker import (
    Breaker,
    BreakerEvent,
    BreakerState,
    Happening,
    Thresholds,
    after,
)
from tests.factories import NOW
from tests.figures import Record

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
    """One line of the history; `trip` and `closed` are what the rules make of the others.

    `taken back` is a `closed` that the relapse of its heal has taken back.
    """

    what: str
    at: float
    run: int | None = None
    until: float | None = None
    """Of a trip: when the trial may begin, or None when it is for good."""
    target: str | None = None
    """Of a failure: what failed, where that counts once."""


class History:
    """The rules of the design, in its words, over a list of what happened."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def lately(self, what: str) -> list[Entry]:
        """Entries since a success or a reset closed it."""
        closings = [n for n, entry in enumerate(self.entries) if entry.what == "closed"]
        since = closings[-1] + 1 if closings else 0
        return [entry for entry in self.entries[since:] if entry.what == what]

    def failing(self) -> tuple[str, ...]:
        """The targets that have failed lately, as they failed first."""
        failed = [entry.target for entry in self.lately("failure")]
        return tuple(dict.fromkeys(target for target in failed if target is not None))

    def failures(self) -> int:
        """Failures lately, each target's as one."""
        failed = self.lately("failure")
        return len(self.failing()) + sum(entry.target is None for entry in failed)

    def last_closing(self) -> int | None:
        """Where the last success or reset stands; it may have been taken back."""
        closings = [
            n for n, entry in enumerate(self.entries) if entry.what in {"closed", "taken back"}
        ]
        return closings[-1] if closings else None

    def heal(self) -> tuple[int | None, int, int]:
        """The run that may yet relapse, with the failures and the trips that it made forgotten."""
        last = self.last_closing()
        if last is None or self.entries[last].what == "taken back" or self.lately("trip"):
            return None, 0, 0  # after a trip, its outcome says nothing any more
        before = History()
        before.entries = self.entries[:last]
        failures, trips = before.failures(), len(before.lately("trip"))
        run = self.entries[last].run
        return (None, 0, 0) if run is None or not failures + trips else (run, failures, trips)

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
            elif entry.what in {"trip", "closed", "taken back"} or (
                entry.what == "released" and entry.run == begun
            ):
                begun = None
        return begun

    def outcome(
        self,
        *,
        good: bool,
        run: int,
        target: str | None,
        started: float,
        now: float,
        thresholds: Thresholds,
    ) -> None:
        trip = self.last_trip()
        if trip is not None and started <= trip.at:
            return  # "an outcome that started at or before the trip says nothing"
        before = self.state(now)
        if before in {"OPEN", "PERMANENT_OPEN"}:
            return  # nothing begins while it is open
        if good:
            self.entries.append(Entry("closed", now, run))
            return
        on_trial = before == "HALF_OPEN"
        heal = self.last_closing()
        if heal is not None and self.entries[heal] == Entry("closed", self.entries[heal].at, run):
            # "It takes back what the heal has made them forget, and a trial that relapses has
            # failed."
            self.entries[heal] = self.entries[heal]._replace(what="taken back")
            on_trial = bool(self.lately("trip"))
        self.entries.append(Entry("failure", now, run, target=target))
        if on_trial or self.failures() >= thresholds.failures:
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
    relapsed: ClassVar[Counter[str]] = Counter()
    """What a heal that did not hold came to."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.thresholds = Thresholds()
        self.breaker = Breaker()
        self.history = History()
        self.running: dict[int, float] = {}
        """Runs that act, and since when."""
        self.healed: dict[int, float] = {}
        """Runs that have healed and not relapsed, and since when they acted."""
        self.next_run = 1

    def target(self, run: int) -> str | None:
        """What *run* is told to be of, where targets are counted."""
        return None

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
        self.conclude(run, self.running.pop(run), good=good)

    def conclude(self, run: int, started: float, *, good: bool) -> None:
        trip = self.history.last_trip()
        type(self).ignored += trip is not None and started <= trip.at
        if good:
            self.healed[run] = started
        event = BreakerEvent.SUCCESS if good else BreakerEvent.FAILURE
        target = self.target(run)
        self.tell(event, run=run, started_at=started, target=target)
        self.history.outcome(
            good=good, run=run, target=target, started=started, now=self.now,
            thresholds=self.thresholds,
        )  # fmt: skip

    @rule(which=st.integers(0, 99), last=st.booleans(), after_seconds=LATER)
    def a_heal_does_not_hold(self, which: int, after_seconds: float, *, last: bool) -> None:
        """Of the last run that has healed, or of any: others may have ended meanwhile."""
        if not self.healed:
            return
        self.time_passes(after_seconds)
        heals = list(self.healed)
        run = heals[-1 if last else which % len(heals)]
        of, failures, trips = self.history.heal()
        if of != run:
            failures = trips = 0
        before = self.history.last_trip()
        self.conclude(run, self.healed.pop(run), good=False)
        tripped = self.history.last_trip() != before
        type(self).relapsed[
            "a trial" if trips else "takes back failures" if failures else "a failure"
        ] += 1
        type(self).relapsed["trips"] += tripped
        assert tripped or not trips, "a trial that relapses has failed"

    @rule(thresholds=THRESHOLDS, meanwhile=st.integers(0, 2), after_seconds=LATER)
    def a_trial_heals_for_seconds(
        self, thresholds: Thresholds, meanwhile: int, after_seconds: float
    ) -> None:
        """Each such trial would close it, if its relapse took nothing back."""
        self.the_configuration_is_reloaded(thresholds)
        self.one_after_the_other_begins_and_fails(thresholds.failures, 0.001)
        self.it_is_time(early=False)
        known = set(self.running)
        self.runs_want_to_begin(1)
        for run in set(self.running) - known:
            self.end(run, good=True)
        self.one_after_the_other_begins_and_fails(meanwhile, 0.001)
        self.a_heal_does_not_hold(0, last=True, after_seconds=after_seconds)

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
        healed, forgot_failures, forgot_trips = self.history.heal()
        assert self.breaker == Breaker(
            failures=self.history.failures(),
            failing=self.history.failing(),
            trips=len(trips),
            tripped_at=None if trip is None else trip.at,
            until=trips[-1].until if trips else None,
            trial=self.history.trial(),
            healed=healed,
            forgot_failures=forgot_failures,
            forgot_trips=forgot_trips,
        )

    @invariant()
    def its_state_is_what_its_history_says_at_every_time(self) -> None:
        times = [self.now, self.now + 59.9, self.now + 1e9]
        if self.breaker.until is not None:
            times += [self.breaker.until, math.nextafter(self.breaker.until, 0)]
        for time in times:
            assert self.breaker.state(time) == self.history.state(time)


class LivesOfTargets(Lives):
    """As of the main breaker: two runs after one another are of one target, of six."""

    steps: ClassVar[int] = 0
    seen: ClassVar[Counter[tuple[BreakerState, BreakerEvent]]] = Counter()
    ignored: ClassVar[int] = 0
    again: ClassVar[int] = 0
    """Failures of a target that was counted already."""
    tried_again: ClassVar[int] = 0
    """And trials of such."""

    def target(self, run: int) -> str | None:
        return "abcdef"[run // 2 % 6]

    def conclude(self, run: int, started: float, *, good: bool) -> None:
        known = not good and self.target(run) in self.breaker.failing
        trips = len(self.history.lately("trip"))
        type(self).again += known
        super().conclude(run, started, good=good)
        if known and trips and len(self.history.lately("trip")) > trips:
            type(self).tried_again += 1

    def a_heal_does_not_hold(self, which: int, after_seconds: float, *, last: bool) -> None:
        """It is not told of that."""


@pytest.mark.slow
@pytest.mark.parametrize("lives", [Lives, LivesOfTargets])
def test_ten_thousand_steps_agree_with_the_history(
    lives: type[Lives], record_property: Record
) -> None:
    run_state_machine_as_test(
        lives,
        settings=settings(
            max_examples=500,
            stateful_step_count=60,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )

    record_property("steps", lives.steps)
    assert lives.steps >= STEPS
    # What counts targets differs in its failures only; the other lives reach the whole table.
    events = [BreakerEvent.FAILURE] if issubclass(lives, LivesOfTargets) else list(BreakerEvent)
    seen = {cell: lives.seen[cell] for cell in product(BreakerState, events)}
    # Not more than once: which lives are drawn depends on the constants of all modules loaded.
    assert min(seen.values()) >= 1, seen
    assert lives.ignored >= 100
    if issubclass(lives, LivesOfTargets):
        assert min(lives.again, lives.tried_again) >= 10, (lives.again, lives.tried_again)
        return
    for what in ("a trial", "takes back failures", "a failure", "trips"):
        assert lives.relapsed[what] >= 10, lives.relapsed
