"""What stops us and who steers: breakers, dormancy, storms, pauses, approvals, cancelling.

On a real journal with an injected clock.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from pathlib import Path
from typing import Any

import msgspec
import pytest

from receiver.errors import RefusedError
from receiver.healing.coverage import Coverage
from receiver.healing.operands import NOT_PAUSED
from receiver.journal import Journal, Transaction, open_journal
from receiver.policy.breaker import (
    MAIN,
    Breaker,
    BreakerEvent,
    BreakerState,
    Happening,
    MainThresholds,
    Thresholds,
    after,
)
from receiver.policy.dormancy import AWAKE
from receiver.policy.proof.judgement import Judgement
from receiver.policy.run import Outcome, Run, State, StepState
from receiver.policy.signal import ConditionState, Signal
from receiver.policy.strategy import Limits, Mode, OnFailure
from receiver.policy.target import Key
from receiver.settings import BackoffSettings, EngineSettings, FlagSettings, StormSettings
from tests.factories import NOW, Spy, alert, notification, parse_matcher, resolved, step, strategy
from tests.world import KEY, World

WHY = "we have looked at it"
NO_PAUSES = {
    "grace_period": 0.0,
    "budget": (),
}


def failing(journal: Journal, **changes: Any) -> World:
    """A world whose only strategy fails at once, and may try again without grace or budget."""
    broken = step(params=Spy.Params(fails=True, undo="none"))
    world = World(journal, strategy(actions=(broken,), **{**NO_PAUSES, **changes}))
    world.set(engine=EngineSettings(backoff=BackoffSettings(first=1.0, most=1.0)))
    return world


def key(service: str) -> Key:
    return Key("latency", f"service={msgspec.json.encode(service).decode()}")


def fire(world: World, service: str) -> None:
    world.fire(labels={"alertname": "HighLatency", "service": service})


def fail(world: World, times: int) -> None:
    """Let so many runs fail, each on a target of its own, waiting for whatever lets none begin."""
    before = len(world.runs())
    for number in range(times):
        service = f"ill-{before + number}"
        fire(world, service)
        for _ in range(20):
            again = world.consider(key(service))
            if world.runs()[-1].outcome is Outcome.FAILED:
                break
            assert again is not None, world.runs()[-1]
            world.clock.now = max(world.clock.now, again)
        assert world.runs()[-1].outcome is Outcome.FAILED, world.runs()[-1]


def state(world: World, name: str) -> BreakerState:
    return world.journal.read(lambda t: t.breaker(name)).state(world.clock.now)


def last(world: World) -> Run:
    return world.runs()[-1]


# -- what the breakers do


def test_five_failures_of_a_target_open_its_breaker_and_the_strategy_s_and_no_other(
    journal: Journal,
) -> None:
    world = failing(journal)
    world.set(engine=EngineSettings(backoff=BackoffSettings(first=0.001, most=0.001)))
    world.fire()
    for _ in range(5):
        world.consider()
        world.clock.now += 1

    names = ("strategy:latency", f"target:{KEY[1]}")
    assert [state(world, name) for name in names] == [BreakerState.OPEN] * 2
    assert state(world, MAIN) is BreakerState.CLOSED
    tripped = world.clock.now - 1
    assert world.consider() == tripped + 60
    assert (last(world).state, last(world).reason) == (State.PENDING, "breaker_open")
    assert world.totals("breaker_transitions") == {
        ("strategy:latency", "OPEN"): 1,
        ("target", "OPEN"): 1,
    }, "no label value comes from a payload"


def test_after_its_minute_one_run_tries_and_the_others_wait_for_its_end(journal: Journal) -> None:
    world = World(journal)
    tripping = failing_runs_open(world)
    fire(world, "first")
    fire(world, "second")
    world.clock.now = tripping + 60

    world.consider(key("first"))
    assert last(world).state is State.VERIFYING
    assert world.consider(key("second")) is None, "an event decides: the trial's end"
    assert world.verdict(key("second")) == ("wait", "breaker_open")
    trial = world.journal.read(lambda t: t.breaker(MAIN)).trial
    assert trial == world.runs()[-2].id

    world.woken.clear()
    world.verifier.signal = Signal.CLEARED
    world.consider(key("first"))

    assert state(world, MAIN) is BreakerState.CLOSED
    assert key("second") in world.woken
    assert world.totals("breaker_transitions")[MAIN, "CLOSED"] == 1
    assert world.totals("breaker_transitions")[MAIN, "HALF_OPEN"] == 1


def failing_runs_open(world: World) -> float:
    """Have the main breaker trip as five failures would; return when."""
    now = world.clock.now

    def write(transaction: Any) -> None:
        for _ in range(5):
            transaction.happen(
                MAIN, Happening(event=BreakerEvent.FAILURE, at=now, started_at=now - 1)
            )

    world.journal.atomically(write)
    assert state(world, MAIN) is BreakerState.OPEN
    return now


def test_a_trial_that_proves_nothing_makes_room_for_another(journal: Journal) -> None:
    world = World(journal)
    tripped = failing_runs_open(world)
    fire(world, "first")
    world.clock.now = tripped + 60
    world.consider(key("first"))
    world.verifier.signal = Signal.UNKNOWN
    world.clock.now += 1000
    world.consider(key("first"))

    assert last(world).outcome is Outcome.INCONCLUSIVE
    breaker = world.journal.read(lambda t: t.breaker(MAIN))
    assert (breaker.state(world.clock.now), breaker.trial) == (BreakerState.HALF_OPEN, None)


def test_what_is_kept_of_a_breaker_is_the_fold_of_what_happened(journal: Journal) -> None:
    world = failing(journal)
    world.set(engine=EngineSettings(
        backoff=BackoffSettings(first=1.0, most=1.0), dormant_after=1000,
        main_breaker=MainThresholds(failures=3, permanent_after=10),
    ))  # fmt: skip
    fail(world, 6)
    world.control.reset("strategy:latency", by="anna", reason=WHY, force=True)

    kept = journal.read(lambda t: t.breakers())
    assert {MAIN, "strategy:latency"} < set(kept)
    for name, breaker in kept.items():
        assert breaker == reduce(after, happened(journal, name), Breaker())


def happened(journal: Journal, name: str) -> list[Happening]:
    return [one.happening for one in journal.read(lambda t: t.transitions(breaker=name))]


def test_three_trips_close_a_strategy_for_good_and_only_a_reset_opens_it(journal: Journal) -> None:
    world = failing(journal)
    fail(world, 7)  # five trip it, and two trials fail

    assert state(world, "strategy:latency") is BreakerState.PERMANENT_OPEN
    world.clock.now += 10**6
    fire(world, "another")
    assert world.consider(key("another")) is None
    assert world.verdict(key("another")) == ("wait", "breaker_permanent_open")

    for how in ({}, {"force": True}, {"reason": WHY}, {"force": True, "reason": "  "}):
        with pytest.raises(RefusedError, match=r"force: true and a non-empty reason") as refused:
            world.control.reset("strategy:latency", by="anna", **how)
        assert refused.value.status == 409
    world.woken.clear()
    world.control.reset("strategy:latency", by="anna", reason=WHY, force=True)

    assert state(world, "strategy:latency") is BreakerState.CLOSED
    assert key("another") in world.woken, "what waits is considered again"


@pytest.mark.parametrize(
    "written", ["target:checkout", "target:service=checkout", f"target:{KEY[1]}"]
)
def test_the_breaker_of_a_target_is_reset_however_it_is_written(
    journal: Journal, written: str
) -> None:
    world = failing(journal)
    name = f"target:{KEY[1]}"
    fail_once = Happening(event=BreakerEvent.FAILURE, at=NOW, started_at=NOW)
    journal.atomically(
        lambda t: [t.happen(f"target:{key(one)[1]}", fail_once) for one in ("checkout", "mail")]
    )

    assert world.control.reset(written, by="anna") == (name, Breaker())
    assert set(journal.read(lambda t: [n for n, b in t.breakers().items() if b.failures])) == {
        f"target:{key('mail')[1]}"
    }


def test_a_value_that_two_breakers_have_says_not_which_is_meant(journal: Journal) -> None:
    world = failing(journal)
    fail_once = Happening(event=BreakerEvent.FAILURE, at=NOW, started_at=NOW)
    journal.atomically(
        lambda t: [t.happen(f'target:{label}="db"', fail_once) for label in ("host", "service")]
    )

    with pytest.raises(RefusedError, match='may be target:host="db" or target:service="db"'):
        world.control.reset("target:db", by="anna")
    with pytest.raises(RefusedError, match="no breaker"):
        world.control.reset("target:x=~'db", by="anna")


def test_a_breaker_that_is_not_there_cannot_be_reset(journal: Journal) -> None:
    world = World(journal)

    with pytest.raises(RefusedError, match="no breaker 'strategy:typo'") as refused:
        world.control.reset("strategy:typo", by="anna", reason=WHY)
    assert refused.value.status == 404
    assert world.control.reset(MAIN, by="anna")[1].trips == 0, "one that is closed stays so"


# -- dormancy and backoff


def test_ten_targets_that_fail_make_the_engine_dormant_and_only_resume_wakes_it(
    journal: Journal,
) -> None:
    world = failing(journal)
    world.set(engine=EngineSettings(
        backoff=BackoffSettings(first=1.0, most=1.0),
        main_breaker=MainThresholds(failures=1000), target_breaker=Thresholds(failures=1000),
    ))  # fmt: skip
    world.strategies = type(world.strategies)(
        msgspec.structs.replace(one, breaker=Thresholds(failures=1000)) for one in world.strategies
    )
    fail(world, 9)
    assert journal.read(lambda t: t.dormancy()).since is None
    fail(world, 1)

    asleep = journal.read(lambda t: t.dormancy())
    assert (asleep.failures, asleep.since) == (10, world.clock.now)
    assert asleep.reason == "Exceeded maximum consecutive failures (10)"
    world.clock.now += 10**6
    fire(world, "another")
    assert world.consider(key("another")) is None
    assert world.verdict(key("another")) == ("wait", "dormant")

    with pytest.raises(RefusedError, match="say why"):
        world.control.resume(by="anna", reason=" \t ")
    world.woken.clear()
    resumed = world.control.resume(by="anna", reason=WHY)

    assert resumed.dormancy_ended
    assert journal.read(lambda t: t.dormancy()) == AWAKE
    assert key("another") in world.woken, "what still fires is considered again at once"
    with pytest.raises(RefusedError, match="awake") as refused:
        world.control.resume(by="anna", reason=WHY)
    assert refused.value.status == 409


def test_dormancy_outlives_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/again.db"
    journal = open_journal(url)
    world = failing(journal)
    world.set(engine=msgspec.structs.replace(world.settings.engine, dormant_after=2))
    fail(world, 2)
    journal.close()

    again = World(open_journal(url))
    again.clock.now = world.clock.now + 86_400

    fire(again, "another")
    assert again.consider(key("another")) is None
    assert again.verdict(key("another")) == ("wait", "dormant")
    again.journal.close()


def test_the_main_breaker_open_for_good_makes_the_engine_dormant(journal: Journal) -> None:
    world = failing(journal, breaker=Thresholds(failures=1000))
    world.set(engine=EngineSettings(
        backoff=BackoffSettings(first=1.0, most=1.0),
        main_breaker=MainThresholds(failures=1, permanent_after=2),
    ))  # fmt: skip
    fail(world, 2)

    assert state(world, MAIN) is BreakerState.PERMANENT_OPEN
    asleep = journal.read(lambda t: t.dormancy())
    assert asleep.reason == "Circuit breaker self-healing-main is PERMANENT_OPEN"

    world.control.reset(MAIN, by="anna", reason=WHY, force=True)
    assert journal.read(lambda t: t.dormancy()) == asleep, "only resume wakes it"
    world.control.resume(by="anna", reason=WHY)
    assert journal.read(lambda t: t.dormancy()) == AWAKE


def test_resume_closes_the_main_breaker_too(journal: Journal) -> None:
    world = failing(journal, breaker=Thresholds(failures=1000))
    world.set(engine=EngineSettings(
        backoff=BackoffSettings(first=1.0, most=1.0),
        main_breaker=MainThresholds(failures=1, permanent_after=1),
    ))  # fmt: skip
    fail(world, 1)

    world.control.resume(by="anna", reason=WHY)

    assert state(world, MAIN) is BreakerState.CLOSED


def test_after_each_failure_everything_waits_twice_as_long(journal: Journal) -> None:
    world = failing(journal, breaker=Thresholds(failures=1000))
    world.set(engine=EngineSettings(
        dormant_after=1000,
        main_breaker=MainThresholds(failures=1000), target_breaker=Thresholds(failures=1000),
    ))  # fmt: skip
    waits = []
    for number in range(9):
        fire(world, f"s{number}")
        world.consider(key(f"s{number}"))
        fire(world, "next")
        until = world.consider(key("next"))
        assert world.verdict(key("next")) == ("wait", "backoff")
        assert until is not None
        waits.append(until - world.clock.now)
        world.clock.now = until

    assert waits == [5, 10, 20, 40, 80, 160, 320, 320, 320]


def test_one_heal_ends_the_row_and_what_proves_nothing_does_not(journal: Journal) -> None:
    world = World(journal, strategy(**NO_PAUSES))
    failed_at = failing_runs(world, 3)
    world.clock.now = failed_at + 100
    fire(world, "doubtful")
    world.consider(key("doubtful"))
    world.verifier.signal = Signal.UNKNOWN
    world.clock.now += 1000
    world.consider(key("doubtful"))
    assert last(world).outcome is Outcome.INCONCLUSIVE
    assert journal.read(lambda t: t.dormancy()).failures == 3

    world.verifier.signal = Signal.FIRING
    fire(world, "well")
    world.consider(key("well"))
    world.verifier.signal = Signal.CLEARED
    world.consider(key("well"))
    assert last(world).outcome is Outcome.HEALED
    assert journal.read(lambda t: t.dormancy()) == AWAKE


def failing_runs(world: World, number: int) -> float:
    """Have the engine remember failures; return when the last one was."""
    now = world.clock.now
    world.journal.atomically(
        lambda t: t.put_dormancy(msgspec.structs.replace(AWAKE, failures=number, failed_at=now))
    )
    return now


# -- how far it spreads


def test_of_fifty_ill_targets_few_are_treated_and_each_that_is_well_lets_one_in(
    journal: Journal,
) -> None:
    world = World(journal)
    world.set(engine=EngineSettings(max_concurrent_runs=100, storm=StormSettings(targets=4)))
    services = [f"s{number:02}" for number in range(50)]
    for service in services:
        fire(world, service)
    for service in services:
        world.consider(key(service))

    assert len(world.spy.calls) == 4
    assert {run.reason for run in world.runs() if run.state is State.PENDING} == {"storm"}

    most = carried = 0
    while open_ones := [run for run in world.runs() if run.state is State.VERIFYING]:
        most = max(most, len(open_ones))
        run = open_ones[0]
        world.woken.clear()
        world.verifier.signal = Signal.CLEARED
        world.consider(Key(run.strategy, run.target))  # proven
        world.verifier.signal = Signal.FIRING
        service = run.target.removeprefix('service="').removesuffix('"')
        healthy = alert(labels={"alertname": "HighLatency", "service": service})
        world.intake.admit(notification(resolved(healthy)))
        for woken in list(world.woken):  # what the engine would do, and nothing else
            world.consider(woken)
        carried += 1
        assert carried < 60, "it does not end"

    assert most <= 4
    assert len(world.spy.calls) == 50, "all were treated in the end, by themselves"


def test_treated_in_vain_keeps_its_place_in_a_storm(journal: Journal) -> None:
    world = World(journal)
    world.set(engine=EngineSettings(
        max_concurrent_runs=100, storm=StormSettings(targets=1),
        backoff=BackoffSettings(first=0.001, most=0.001),
    ))  # fmt: skip
    fire(world, "first")
    fire(world, "second")
    world.consider(key("first"))
    world.consider(key("second"))
    world.clock.now += 1000
    world.consider(key("first"))
    assert [run.outcome for run in world.runs()] == [Outcome.INEFFECTIVE, None]

    world.clock.now += 1000
    world.consider(key("second"))
    assert world.verdict(key("second")) == ("wait", "storm"), "why should it help the next one?"

    healthy = alert(labels={"alertname": "HighLatency", "service": "first"})
    world.intake.admit(notification(resolved(healthy)))
    world.woken.clear()
    world.consider(key("first"))
    assert world.woken == [key("second")], "one target fewer is affected"
    world.consider(key("second"))
    assert last(world).state is State.VERIFYING


def test_no_more_targets_in_a_time_than_the_limits_say(journal: Journal) -> None:
    world = World(journal, strategy(limits=Limits(targets=2, per=600.0), **NO_PAUSES))
    for number, service in enumerate(("a", "b", "c")):
        world.clock.now = NOW + number
        fire(world, service)
        until = world.consider(key(service))

    assert until == NOW + 600
    assert world.verdict(key("c")) == ("wait", "blast_radius")
    assert [run.state for run in world.runs()][-1] is State.PENDING
    world.clock.now = NOW + 600
    world.consider(key("c"))
    assert last(world).state is State.VERIFYING


# -- pauses, maintenance, silences, monitoring


def test_a_pause_holds_its_scope_until_its_end(journal: Journal) -> None:
    world = World(journal, strategy(), strategy(name="second"))
    second = Key("second", KEY[1])
    world.control.pause(by="anna", reason="deploy", scope="strategy:latency", seconds=60.0)
    world.fire()

    assert world.consider() == NOW + 60
    assert world.verdict() == ("wait", "paused")
    world.consider(second)
    assert world.verdict(second) == ("allow", ""), "another strategy is not concerned"


def test_of_several_pauses_the_longest_counts_and_resume_ends_those_of_its_scope(
    journal: Journal,
) -> None:
    world = World(journal)
    world.control.pause(by="anna", reason="deploy", seconds=60.0)
    world.fire()
    world.control.pause(by="ben", reason="incident 7", scope=f"target:{KEY[1]}")
    assert world.consider() is None, "until someone resumes"

    world.woken.clear()
    (lifted,) = world.control.resume(by="ben", reason="over", scope=f"target:{KEY[1]}").pauses
    assert (lifted.by, lifted.reason) == ("ben", "incident 7")
    assert world.woken == [KEY]
    assert world.consider() == NOW + 60
    with pytest.raises(RefusedError, match=r"there is no pause of target:.*; paused are all"):
        world.control.resume(by="ben", reason="over", scope=f"target:{KEY[1]}")


def test_a_pause_says_what_it_covers_now(journal: Journal) -> None:
    waiting = strategy(name="careful", mode=Mode.APPROVE)
    elsewhere = strategy(name="elsewhere", target=("instance",))
    world = World(journal, strategy(), waiting, elsewhere)
    for service in ("checkout", "mail"):
        fire(world, service)
        world.consider(key(service))
    under_way, _ = world.runs()
    world.consider(Key("careful", KEY[1]))

    paused = world.control.pause(by="anna", reason="deploy", scope="target:service=checkout")

    assert paused.pause.scope == f"target:{KEY[1]}"
    assert paused.covers == Coverage(
        strategies=("latency", "careful"),
        targets=(KEY[1],),
        alerts=1,
        under_way=(under_way.id,),
        waiting=(last(world).id,),
    )
    world.verifier.signal = Signal.CLEARED
    world.clock.now += 60
    world.consider()
    assert world.runs()[0].outcome is Outcome.HEALED, "what is under way goes on"
    assert world.control.pause(by="anna", reason="x").covers == Coverage(
        strategies=("latency", "careful", "elsewhere"),
        targets=(KEY[1], key("mail")[1]),
        alerts=2,
        under_way=(under_way.id + 1,),
        waiting=(last(world).id,),
    )


def test_what_was_healed_long_ago_is_known_and_what_never_was_is_not(journal: Journal) -> None:
    world = World(journal)
    world.fire()
    world.consider()
    world.verifier.signal = Signal.CLEARED
    world.consider()
    world.intake.admit(notification(resolved(alert())))

    paused = world.control.pause(by="anna", reason="deploy", scope="target:checkout")
    assert (paused.pause.scope, paused.covers.alerts) == (f"target:{KEY[1]}", 0)
    with pytest.raises(RefusedError, match=r'did you mean service="checkout"\?') as refused:
        world.control.pause(by="anna", reason="deploy", scope="target:chekout")
    assert refused.value.status == 404
    assert len(journal.read(lambda t: t.pauses(now=NOW))) == 1, "nothing is stored"


@pytest.mark.parametrize(
    "stored", [f"target:{KEY[1]}", "target:service=checkout", "target:checkout"]
)
def test_a_pause_of_an_earlier_version_holds_and_is_lifted(journal: Journal, stored: str) -> None:
    world = World(journal)
    journal.atomically(lambda t: t.put_pause(stored, reason="x", by="a", now=NOW, until=None))
    world.fire()
    world.consider()
    assert world.verdict() == ("wait", "paused")

    resumed = world.control.resume(by="anna", reason="done", scope="target:checkout")
    assert [pause.scope for pause in resumed.pauses] == [stored]
    world.consider()
    assert world.verdict() == ("allow", "")


def test_a_stored_scope_that_cannot_be_read_stops_no_decision(journal: Journal) -> None:
    world = World(journal)

    def write(transaction: Transaction) -> None:
        for scope in ("target:{", "nonsense", "", 'target:x=~"("'):
            transaction.put_pause(scope, reason="x", by="a", now=NOW, until=None)

    journal.atomically(write)
    world.fire()
    world.consider()
    assert world.verdict() == ("allow", "")


def test_a_resume_of_a_strategy_that_there_is_not_says_which_was_meant(journal: Journal) -> None:
    world = World(journal)

    with pytest.raises(RefusedError, match=r"no strategy 'latncy'; did you mean 'latency'\?"):
        world.control.resume(by="olga", reason="over", scope="strategy:latncy")
    with pytest.raises(RefusedError, match="nothing is paused"):
        world.control.resume(by="olga", reason="over", scope="strategy:latency")


def test_a_resume_of_everything_says_what_stays_paused(journal: Journal) -> None:
    world = World(journal)
    pause = partial(world.control.pause, by="anna", reason="deploy")
    pause()
    pause(scope="strategy:latency")
    pause(scope="target:service=~'a.*|b'", even_if_unknown=True)
    resume = partial(world.control.resume, by="ben", reason="over")

    resumed = resume()
    assert [one.scope for one in resumed.pauses] == ["all"]
    assert [one.scope for one in resumed.stay] == [
        "strategy:latency",
        "target:service=~\"'a.*|b'\"",
    ]
    with pytest.raises(
        RefusedError, match="no pause of all and the engine is awake; paused are strategy:latency, "
    ) as refused:
        resume()
    assert (refused.value.status, refused.value.code) == (409, NOT_PAUSED)


def test_a_value_that_two_pauses_have_says_not_which_is_meant(journal: Journal) -> None:
    world = World(journal, strategy(), strategy(name="host", target=("host",)))
    for scope in ("target:service=db", "target:host=db", "target:service=db"):
        world.control.pause(by="anna", reason="x", scope=scope, even_if_unknown=True)

    with pytest.raises(RefusedError, match='paused are target:service="db", target:host="db"'):
        world.control.resume(by="ben", reason="over", scope="target:db")
    resumed = world.control.resume(by="ben", reason="over", scope="target:service=db")
    assert len(resumed.pauses) == 2


HOSTILE = 'web",team="x\\,}{\x1b[2J\u202e\x00é\t\n'
"""Quotes, commas, backslashes, and what steers a terminal."""


@pytest.mark.parametrize(
    ("written", "service"),
    [
        ("checkout", "checkout"),
        ("service=checkout", "checkout"),
        ('service="checkout"', "checkout"),
        (' { service = "checkout" } ', "checkout"),
        ('service=~"check.*"', "checkout"),
        ('service!="mail"', "checkout"),
        ('service=~"check.*",service!~"mail|search"', "checkout"),
        (key(HOSTILE)[1], HOSTILE),
        ('service!~"[a-z]*"', HOSTILE),
        ("10.0.0.1:9100", "10.0.0.1:9100"),
        ("a,b", "a,b"),
    ],
)
def test_a_target_is_paused_however_it_is_written(
    journal: Journal, written: str, service: str
) -> None:
    world = World(journal)
    scope = f"target:{written}"
    world.control.pause(by="anna", reason="deploy", scope=scope, even_if_unknown=True)
    fire(world, service)
    fire(world, "mail")

    world.consider(key(service))
    assert world.verdict(key(service)) == ("wait", "paused")
    world.consider(key("mail"))
    assert world.verdict(key("mail")) == ("allow", ""), "another target is not concerned"

    world.control.resume(by="anna", reason="done", scope=scope)
    world.consider(key(service))
    assert world.verdict(key(service)) == ("allow", "")


@pytest.mark.parametrize(
    ("scope", "status"), [("everything", 400), ("strategy:typo", 404), ("target:", 400), ("", 400)]
)
def test_a_scope_that_is_none_is_refused(journal: Journal, scope: str, status: int) -> None:
    with pytest.raises(RefusedError) as refused:
        World(journal).control.pause(by="anna", reason=WHY, scope=scope)
    assert refused.value.status == status


@pytest.mark.parametrize("reason", ["", "   ", "two\nlines", "x" * 501])
def test_a_reason_is_one_line_that_says_something(journal: Journal, reason: str) -> None:
    world = World(journal)
    for act in (world.control.pause, world.control.resume):
        with pytest.raises(RefusedError, match="reason") as refused:
            act(by="anna", reason=reason)
        assert refused.value.status == 400
    assert journal.read(lambda t: t.audits(limit=10)) == []


def test_a_file_pauses_everything_while_it_exists(journal: Journal, tmp_path: Path) -> None:
    world = World(journal)
    world.pause_file = tmp_path / "promheal.paused"
    world.pause_file.write_text("power cut\nmore\n")
    world.fire()

    assert world.consider() == NOW + 10
    decision = journal.read(lambda t: t.last_decision(KEY))
    assert decision is not None
    assert (decision.reason, decision.detail) == ("paused", f"{world.pause_file} exists: power cut")

    world.pause_file.unlink()
    world.consider()
    assert last(world).state is State.VERIFYING


def test_a_pause_file_that_cannot_be_read_pauses_too(journal: Journal, tmp_path: Path) -> None:
    world = World(journal)
    world.pause_file = tmp_path / "folder"
    world.pause_file.mkdir()
    world.fire()

    assert world.consider() == NOW + 10


def test_a_silence_counts_at_the_moment_of_acting(journal: Journal) -> None:
    world = World(journal)
    world.silenced = "silence abc"
    world.fire()

    assert world.consider() == NOW + 10
    assert world.verdict() == ("wait", "silenced")
    assert world.spy.calls == []
    world.silenced = ""
    world.consider()
    assert world.spy.calls == ["run one"]


def test_while_the_monitoring_is_suspect_nothing_is_healed(journal: Journal) -> None:
    world = World(journal)
    world.verifier.suspicion = "its scrape fails"
    world.fire()

    assert world.consider() == NOW + 10
    assert world.verdict() == ("wait", "monitoring_suspect")


def test_neither_is_asked_while_something_else_is_in_the_way(journal: Journal) -> None:
    world = World(journal, strategy(when="vector(1)"))
    world.verifier.holds = ConditionState.FALSE
    world.verifier.suspicion = "never asked"
    world.silenced = "never asked"
    world.fire()
    world.consider()

    assert world.verdict() == ("wait", "condition_false")


@pytest.mark.parametrize("gone", ["backoff", "slot"])
def test_what_ends_while_it_is_asked_lets_nothing_begin_unasked(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    world = World(journal)
    world.silenced = "silence abc"
    if gone == "backoff":
        failing_runs(world, 1)
    else:
        world.set(engine=EngineSettings(max_concurrent_runs=1))
        other = alert(labels={"alertname": "HighLatency", "service": "other"})
        world.intake.admit(notification(other))
        world.silenced = ""
        world.consider(key("other"))
        world.silenced = "silence abc"
        held = last(world)
        with_state(world, held.id, State.ACTING)
    world.fire()
    facts = world.reconciler._facts
    ask = facts.ask

    def slow(*args: Any) -> Any:
        asked = ask(*args)
        world.clock.now += 60
        if gone == "slot":
            with_state(world, held.id, State.VERIFYING)
        return asked

    with monkeypatch.context() as patched:
        patched.setattr(facts, "ask", slow)
        before = list(world.spy.calls)
        assert world.consider() == world.clock.now, "once more, and at once"
    assert world.spy.calls == before

    world.consider()
    assert world.verdict() == ("wait", "silenced")
    assert world.spy.calls == before


def with_state(world: World, run: int, state: State) -> None:
    """Have a run be in another state, as if it had come there by itself."""
    world.journal.atomically(
        lambda t: t.connection.execute(  # type: ignore[attr-defined]
            "update run set state = ? where id = ?", (state, run)
        )
    )


def test_preventive_strategies_act_only_while_their_flag_is_on(journal: Journal) -> None:
    world = World(journal, strategy(preventive=True))
    world.fire()
    world.consider()
    assert world.verdict() == ("deny", "disabled")

    world.set(flags=FlagSettings(preventive_healing=True))
    world.consider()
    assert world.verdict() == ("allow", "")


# -- approvals


def test_it_asks_first_and_acts_once_a_person_has_said_yes(journal: Journal) -> None:
    world = World(journal, strategy(mode=Mode.APPROVE))
    world.fire()
    assert world.consider() == NOW + 3600
    asking = last(world)
    assert (asking.reason, asking.asked_at) == ("awaiting_approval", NOW)
    assert world.spy.calls == []

    world.clock.now += 60
    world.woken.clear()
    world.control.approve(asking.id, by="anna", reason=WHY)
    assert world.woken == [KEY]
    world.consider()

    assert last(world).state is State.VERIFYING
    assert world.spy.calls == ["run one"]
    with pytest.raises(RefusedError, match="does not wait for approval: verifying"):
        world.control.approve(asking.id, by="anna", reason=WHY)


def test_a_no_stands_while_what_it_was_said_to_fires(journal: Journal) -> None:
    world = World(journal, strategy(mode=Mode.APPROVE))
    world.fire()
    world.consider()
    world.control.reject(last(world).id, by="anna", reason="leave it")

    assert (last(world).outcome, last(world).reason) == (
        Outcome.CANCELLED, "rejected by anna: leave it",
    )  # fmt: skip
    world.clock.now += 10_000
    world.fire()
    assert world.consider() is None
    assert world.verdict() == ("deny", "rejected")
    assert len(world.runs()) == 1

    world.intake.admit(notification(resolved(alert(), ends_at=world.clock.now)))
    world.clock.now += 10
    world.fire(starts_at=world.clock.now)
    world.consider()
    assert world.verdict() == ("wait", "awaiting_approval"), "it fires anew, and is asked anew"


def test_nobody_answers_and_it_is_not_asked_again_for_what_fires(journal: Journal) -> None:
    world = World(journal, strategy(mode=Mode.APPROVE))
    world.fire()
    until = world.consider()
    assert until is not None
    world.clock.now = until
    world.consider()

    assert last(world).outcome is Outcome.CANCELLED
    assert last(world).reason == "approval_expired: nobody approved it in time"
    world.consider()
    assert world.verdict() == ("deny", "rejected")


def test_where_undoing_failed_a_person_is_asked_next_time(journal: Journal) -> None:
    world = World(journal, strategy(
        actions=(step(params=Spy.Params(undo="fails")), step(params=Spy.Params(fails=True))),
        **NO_PAUSES,
    ))  # fmt: skip
    world.fire()
    world.consider()
    assert last(world).outcome is Outcome.ROLLBACK_FAILED
    world.clock.now += 10
    world.consider()

    assert world.verdict() == ("wait", "awaiting_approval")


# -- cancelling


def test_what_waits_is_cancelled_at_once_and_left_alone(journal: Journal) -> None:
    world = World(journal)
    world.silenced = "silence abc"
    world.fire()
    world.consider()

    cancelled = world.control.cancel(last(world).id, by="anna", reason="I do it")

    assert (cancelled.outcome, cancelled.reason) == (
        Outcome.CANCELLED, "cancelled by anna: I do it",
    )  # fmt: skip
    world.silenced = ""
    world.consider()
    assert world.verdict() == ("deny", "rejected")


def test_what_is_being_verified_is_undone_first(journal: Journal) -> None:
    world = World(journal)
    world.fire()
    world.consider()
    world.woken.clear()
    asked = world.control.cancel(last(world).id, by="anna", reason="I do it")
    assert (asked.state, asked.cancel) == (State.VERIFYING, "cancelled by anna: I do it")
    assert world.woken == [KEY]
    with pytest.raises(RefusedError, match="being cancelled already"):
        world.control.cancel(asked.id, by="ben", reason="me too")

    world.consider()

    assert world.spy.calls == ["run one", "undo one"]
    assert (last(world).outcome, last(world).reason) == (
        Outcome.CANCELLED, "cancelled by anna: I do it",
    )  # fmt: skip
    assert journal.read(lambda t: t.dormancy()) == AWAKE, "it counts neither way"
    with pytest.raises(RefusedError, match="is cancelled and cannot be cancelled"):
        world.control.cancel(asked.id, by="ben", reason="me too")


def test_the_action_in_hand_ends_and_no_further_one_begins(journal: Journal) -> None:
    world = World(journal, strategy(
        actions=(step(params=Spy.Params(name="first")), step(params=Spy.Params(name="second"))),
    ))  # fmt: skip
    done: list[Run] = []

    def during() -> None:
        if not done:
            done.append(world.control.cancel(last(world).id, by="anna", reason="stop"))

    world.spy.before = during
    world.fire()
    world.consider()

    assert world.spy.calls == ["run first", "undo first"]
    run = last(world)
    assert run.outcome is Outcome.CANCELLED
    assert [(one.phase, one.state) for one in run.steps] == [
        ("run", StepState.DONE), ("rollback", StepState.DONE),
    ]  # fmt: skip


def test_a_cancel_while_prometheus_is_asked_is_not_overtaken_by_the_proof(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(journal)
    world.fire()
    world.consider()
    look = world.verifier.look

    def slow(*args: Any, **values: Any) -> Judgement:
        world.control.cancel(last(world).id, by="anna", reason="stop")
        return look(*args, **values)

    world.verifier.signal = Signal.CLEARED
    with monkeypatch.context() as patched:
        patched.setattr(world.verifier, "look", slow)
        world.woken.clear()
        world.consider()
    assert world.woken == [KEY]
    world.consider()

    assert world.spy.calls == ["run one", "undo one"]
    assert (last(world).outcome, last(world).reason) == (
        Outcome.CANCELLED, "cancelled by anna: stop",
    )  # fmt: skip


def test_the_step_in_hand_may_fail_and_the_run_is_cancelled_all_the_same(journal: Journal) -> None:
    world = World(journal, strategy(actions=(step(params=Spy.Params(fails=True)),)))

    def during() -> None:
        world.control.cancel(last(world).id, by="anna", reason="stop")

    world.spy.before = during
    world.fire()
    world.consider()

    assert world.spy.calls == ["run one", "undo one"]
    assert (last(world).outcome, last(world).reason) == (
        Outcome.CANCELLED, "cancelled by anna: stop",
    )  # fmt: skip


def test_a_step_that_is_not_begun_anew_since_it_was_cancelled_is_declared_unknown(
    journal: Journal,
) -> None:
    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    world = World(journal, strategy(
        actions=(step(params=Spy.Params(repeatable=True)),), on_failure=OnFailure.KEEP,
    ))  # fmt: skip
    world.spy.before = die
    world.fire()
    with pytest.raises(Killed):
        world.consider()
    world.control.cancel(last(world).id, by="anna", reason="stop")

    world.consider()

    (one,) = last(world).steps
    assert (last(world).outcome, one.state, one.error) == (
        Outcome.CANCELLED, StepState.UNKNOWN, "promheal ended during this step",
    )  # fmt: skip


def test_a_timer_is_cut_short(journal: Journal) -> None:
    slow = step(params=Spy.Params(name="slow", later=600.0, repeatable=True))
    world = World(journal, strategy(actions=(slow,), on_failure=OnFailure.KEEP))
    world.fire()
    world.consider()
    assert last(world).state is State.WAITING

    world.control.cancel(last(world).id, by="anna", reason="stop")
    world.consider()

    (ended,) = last(world).steps
    assert (last(world).outcome, ended.state, ended.error) == (
        Outcome.CANCELLED, StepState.FAILED, "cancelled by anna: stop",
    )  # fmt: skip


def test_runs_that_are_not_there_are_404(journal: Journal) -> None:
    world = World(journal)
    acts: tuple[Callable[..., Run], ...] = (
        world.control.approve, world.control.reject, world.control.cancel,
    )  # fmt: skip
    for act in acts:
        with pytest.raises(RefusedError, match="no run 7") as refused:
            act(7, by="anna", reason=WHY)
        assert refused.value.status == 404


def test_every_change_says_who_when_and_why(journal: Journal) -> None:
    world = World(journal, strategy(mode=Mode.APPROVE))
    world.control.pause(by="anna", reason="deploy", seconds=60.0)
    world.clock.now += 1
    world.control.resume(by="ben", reason="done")
    world.control.reset(MAIN, by="anna", reason="")
    world.fire()
    world.consider()
    world.control.approve(last(world).id, by="anna", reason=WHY)
    world.control.cancel(last(world).id, by="ben", reason="no")
    world.control.note("pause tasks", "tasks", by="anna", reason="quiet", detail="3")

    assert [
        (one.by, one.action, one.object, one.reason, one.detail, one.at)
        for one in reversed(journal.read(lambda t: t.audits(limit=10)))
    ] == [
        ("anna", "pause", "all", "deploy", "", NOW),
        ("ben", "resume", "all", "done", "pause 1", NOW + 1),
        ("anna", "reset breaker", MAIN, "", "was CLOSED", NOW + 1),
        ("anna", "approve", "run 1", WHY, "", NOW + 1),
        ("ben", "cancel", "run 1", "no", "", NOW + 1),
        ("anna", "pause tasks", "tasks", "quiet", "3", NOW + 1),
    ]


def test_only_alerts_in_the_window_are_kept_waiting(journal: Journal) -> None:
    from receiver.policy.window import Window  # noqa: PLC0415  only this test needs it

    world = World(journal)
    always = ["mon-sun 00:00 - 24:00"]
    world.set(maintenance=(
        Window(name="payments", weekly=tuple(always), match=(parse_matcher('service="pay"'),)),
    ))  # fmt: skip
    fire(world, "pay")
    fire(world, "shop")
    world.consider(key("pay"))
    world.consider(key("shop"))

    assert world.verdict(key("pay")) == ("wait", "maintenance")
    assert world.verdict(key("shop")) == ("allow", "")
