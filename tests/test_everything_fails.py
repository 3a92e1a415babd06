"""Does one broken service stop the healing of all others? Only what fails everywhere may.

Through the real reconciler on a real journal, with the defaults of everything.
"""

from __future__ import annotations

import pytest

from receiver.journal import Journal
from receiver.policy.breaker import MAIN, BreakerState
from receiver.policy.dormancy import AWAKE, TOO_MANY
from receiver.policy.run import Outcome
from receiver.policy.signal import Signal
from receiver.policy.target import Key
from tests.factories import Spy, alert, notification, parse_matcher, resolved, step, strategy
from tests.world import World

MINUTE, HOUR = 60.0, 3_600.0
BROKEN, WELL = "broken", "well"


def world_of(journal: Journal) -> World:
    """Two strategies, one of which always fails and one of which always heals."""
    return World(
        journal,
        *(
            strategy(
                name=name,
                match=(parse_matcher(f'alertname="{name}"'),),
                actions=(step(params=Spy.Params(fails=name == BROKEN, undo="none")),),
            )
            for name in (BROKEN, WELL)
        ),
    )


def key(strategy: str, service: str) -> Key:
    return Key(strategy, f'service="{service}"')


def fire(world: World, strategy: str, service: str) -> None:
    labels = {"alertname": strategy, "service": service}
    world.fire(labels=labels, starts_at=world.clock.now)


def fail(world: World, service: str, *, within: float = 10 * MINUTE) -> None:
    """Let a run fail on *service*, when what stands before everything lets it."""
    before, end = len(world.runs()), world.clock.now + within
    fire(world, BROKEN, service)
    while (again := world.consider(key(BROKEN, service))) is not None:
        if len(world.runs()) > before and world.runs()[-1].outcome is Outcome.FAILED:
            return
        assert again <= end, world.verdict(key(BROKEN, service))
        world.clock.now = max(world.clock.now, again)
    assert world.runs()[-1].outcome is Outcome.FAILED, world.verdict(key(BROKEN, service))


def heal(world: World, service: str) -> float:
    """Let *service* fall ill and be healed; return the seconds for which it had to wait."""
    fired_at = world.clock.now
    fire(world, WELL, service)
    waited = 0.0
    while (again := world.consider(key(WELL, service))) is not None:
        if world.runs()[-1].strategy == WELL and world.runs()[-1].acted_at == world.clock.now:
            break
        waited = again - fired_at
        assert waited <= HOUR, world.verdict(key(WELL, service))
        world.clock.now = max(world.clock.now, again)
    world.verifier.signal = Signal.CLEARED
    world.consider(key(WELL, service))
    world.verifier.signal = Signal.FIRING
    assert world.runs()[-1].outcome is Outcome.HEALED, world.verdict(key(WELL, service))
    ill = alert(labels={"alertname": WELL, "service": service})
    world.intake.admit(notification(resolved(ill, ends_at=world.clock.now)))
    return waited


@pytest.mark.parametrize("every", [25 * MINUTE, 3 * HOUR])
def test_one_broken_service_keeps_no_other_one_waiting(journal: Journal, every: float) -> None:
    world = world_of(journal)
    began = world.clock.now
    fire(world, BROKEN, "checkout")
    again: float | None = began
    falls_ill, waits = began + every, []

    while world.clock.now < began + 24 * HOUR:
        if again is not None and again < falls_ill:
            world.clock.now = max(world.clock.now, again)
            again = world.consider(key(BROKEN, "checkout"))
            continue
        world.clock.now = max(world.clock.now, falls_ill)
        falls_ill += every
        waits.append(heal(world, "search"))

    failed = [run for run in world.runs() if run.outcome is Outcome.FAILED]
    assert len(failed) == 7, "its own breakers stop it, the third time for good"
    assert max(waits) <= 5.0
    assert journal.read(lambda t: t.dormancy()).since is None
    assert journal.read(lambda t: t.breaker(MAIN)).tripped_at is None


def test_one_service_that_fails_under_every_strategy_is_one_target(journal: Journal) -> None:
    names = [f"s{number}" for number in range(12)]
    world = World(
        journal,
        *(
            strategy(
                name=name,
                match=(parse_matcher(f'alertname="{name}"'),),
                actions=(step(params=Spy.Params(fails=True, undo="none")),),
                grace_period=0.0,
            )
            for name in names
        ),
    )
    for name in names[:4]:
        fire(world, name, "checkout")
        world.consider(key(name, "checkout"))
        world.clock.now += 5.0

    assert [run.outcome for run in world.runs()] == [Outcome.FAILED] * 4
    assert journal.read(lambda t: t.dormancy()).failures == 1
    assert journal.read(lambda t: t.breaker(MAIN)).failures == 1


def test_five_targets_that_fail_open_the_main_breaker_and_ten_make_it_dormant(
    journal: Journal,
) -> None:
    world = world_of(journal)
    for number in range(4):
        fail(world, f"s{number}")
    assert state(world) is BreakerState.CLOSED
    fail(world, "s4")
    assert state(world) is BreakerState.OPEN

    for number in range(5, 10):
        assert journal.read(lambda t: t.dormancy()).since is None
        world.control.reset("strategy:broken", by="anna", reason="so that others are tried")
        fail(world, f"s{number}")

    asleep = journal.read(lambda t: t.dormancy())
    assert (asleep.failures, asleep.reason) == (10, TOO_MANY.format(10))
    assert len(asleep.failing) == 10


def test_a_heal_of_any_target_begins_the_count_anew(journal: Journal) -> None:
    world = world_of(journal)
    for number in range(4):
        fail(world, f"s{number}")
    heal(world, "search")

    assert journal.read(lambda t: t.dormancy()) == AWAKE
    world.control.reset("strategy:broken", by="anna", reason="so that they are tried")
    world.clock.now += HOUR
    for number in range(4):
        fail(world, f"s{number}")
    assert state(world) is BreakerState.CLOSED
    assert journal.read(lambda t: t.dormancy()).failures == 4


def test_a_trial_that_fails_opens_the_main_breaker_anew_whatever_its_target(
    journal: Journal,
) -> None:
    world = world_of(journal)
    for number in range(5):
        fail(world, f"s{number}")
    world.control.reset("strategy:broken", by="anna", reason="so that it is tried")
    opened = journal.read(lambda t: t.breaker(MAIN))
    world.clock.now = max(world.clock.now, opened.until or 0.0) + HOUR

    fail(world, "s0")

    breaker = journal.read(lambda t: t.breaker(MAIN))
    assert (breaker.trips, breaker.trial, breaker.failures) == (2, None, 5)
    assert breaker.state(world.clock.now) is BreakerState.OPEN
    assert journal.read(lambda t: t.dormancy()).failures == 5


def test_a_person_who_resets_the_main_breaker_begins_both_counts_anew(journal: Journal) -> None:
    world = world_of(journal)
    for number in range(5):
        fail(world, f"s{number}")

    world.control.reset(MAIN, by="anna", reason="the registry is back")

    assert journal.read(lambda t: t.dormancy()) == AWAKE
    assert heal(world, "search") == 0.0, "no backoff is left"
    breaker = journal.read(lambda t: t.breaker(MAIN))
    assert (breaker.failures, breaker.failing) == (0, ())


def state(world: World) -> BreakerState:
    return world.journal.read(lambda t: t.breaker(MAIN)).state(world.clock.now)
