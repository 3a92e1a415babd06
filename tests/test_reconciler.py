"""The one door, on a real journal with an injected clock and a scripted Prometheus."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from receiver.healing.conflicts import PEER_LAG
from receiver.journal import Journal
from receiver.policy.alert import Alert
from receiver.policy.authority import Speaker
from receiver.policy.run import Outcome, State, StepState
from receiver.policy.signal import ConditionState, Signal, SignalDoubt
from receiver.policy.strategy import Mode, OnFailure, Strategies, Verify, WhenBlind
from receiver.policy.target import Key
from receiver.policy.value_pattern import ValuePattern
from receiver.settings import EngineSettings, UndeclaredValues
from tests.factories import NOW, Spy, alert, notification, parse_matcher, resolved, step, strategy
from tests.world import KEY, World


@pytest.fixture
def world(journal: Journal) -> World:
    return World(journal)


def test_a_firing_alert_is_acted_on_and_proven(world: World) -> None:
    world.fire()
    assert world.woken == [KEY]

    assert world.consider() == NOW + 15, "the next look at Prometheus"
    (run,) = world.runs()
    assert (run.state, run.verify_from) == (State.VERIFYING, NOW)
    assert world.spy.calls == ["run one"]

    world.clock.now += 15
    world.verifier.signal = Signal.CLEARED
    assert world.consider() == world.clock.now

    (run,) = world.runs()
    assert (run.outcome, run.reason) == (Outcome.HEALED, "scripted cleared")
    assert world.verifier.asked[-1] == ("up == 0", NOW), "newer than the last step's end"
    assert world.totals("heals") == {("latency", "healed"): 1}
    assert world.totals("verifications") == {("latency", "healed"): 1}
    assert world.totals("actions") == {("spy", "done"): 1}


def test_after_the_proof_nothing_more_is_done_until_it_fires_again(world: World) -> None:
    world.fire()
    world.consider()
    world.verifier.signal = Signal.CLEARED
    world.consider()

    assert world.consider() is None, "Prometheus says that it is over, though nobody told us"
    assert len(world.runs()) == 1

    world.verifier.signal = Signal.FIRING
    again = world.consider()

    assert again == NOW + 300, "the grace period from the end of the last run"
    assert [run.state for run in world.runs()] == [State.FINISHED, State.PENDING]
    world.clock.now = again
    world.consider()
    assert world.spy.calls == ["run one"] * 2, "without any new notification"


def test_it_still_fires_when_the_time_is_up_ineffective_and_undone(world: World) -> None:
    world.fire()
    world.consider()
    world.clock.now += 299
    assert world.consider() == NOW + 300
    world.clock.now += 1

    world.consider()

    (run,) = world.runs()
    assert run.outcome is Outcome.INEFFECTIVE
    assert world.spy.calls == ["run one", "undo one"]
    assert world.totals("rollbacks") == {("latency", "done"): 1}


def test_steps_that_only_watch_and_tell_have_not_failed_when_it_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spy, "heals", False)
    world.fire()
    world.consider()
    world.clock.now += 300

    world.consider()

    (run,) = world.runs()
    assert run.outcome is Outcome.INCONCLUSIVE
    assert "only watched and told" in run.reason
    assert world.spy.calls == ["run one"]
    assert world.totals("verifications") == {("latency", "inconclusive"): 1}


def test_without_an_answer_of_prometheus_nothing_is_proven(world: World) -> None:
    world.fire()
    world.consider()
    world.verifier.signal = Signal.UNKNOWN
    world.clock.now += 300

    world.consider()

    (run,) = world.runs()
    assert run.outcome is Outcome.INCONCLUSIVE
    assert world.spy.calls == ["run one"], "what may have helped is not undone"


def test_without_a_prometheus_it_does_not_hold_the_target_for_an_answer(world: World) -> None:
    world.set(prometheus=None)
    world.verifier.signal = Signal.UNKNOWN
    world.fire()

    world.consider()

    (run,) = world.runs()
    assert run.outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("params", "on_failure", "outcome", "calls"),
    [
        (Spy.Params(fails=True), OnFailure.ROLLBACK, Outcome.ROLLED_BACK, ["run one", "undo one"]),
        (Spy.Params(fails=True), OnFailure.KEEP, Outcome.FAILED, ["run one"]),
        (Spy.Params(fails=True, undo="none"), OnFailure.ROLLBACK, Outcome.FAILED, ["run one"]),
        (
            Spy.Params(fails=True, undo="fails"),
            OnFailure.ROLLBACK, Outcome.ROLLBACK_FAILED, ["run one", "undo one"],
        ),
    ],
)  # fmt: skip
def test_a_step_that_fails(
    journal: Journal,
    params: Spy.Params,
    on_failure: OnFailure,
    outcome: Outcome,
    calls: list[str],
) -> None:
    world = World(journal, strategy(actions=(step(params=params),), on_failure=on_failure))
    world.fire()

    world.consider()

    (run,) = world.runs()
    assert (run.outcome, world.spy.calls) == (outcome, calls)
    assert run.reason == "spy: it failed"


def test_resolved_before_the_act_drops_the_run_with_its_evidence(world: World) -> None:
    world.fire()
    world.consider()
    world.verifier.signal = Signal.UNKNOWN
    world.clock.now += 300
    world.consider()
    world.fire()
    world.consider()
    assert world.runs()[-1].state is State.PENDING

    world.intake.admit(notification(resolved(alert(), NOW + 200)))
    assert world.woken[-1] == KEY
    world.consider()

    dropped = world.runs()[-1]
    assert dropped.outcome is Outcome.CANCELLED
    assert dropped.reason == (
        "resolved: http://am.example said that it ended at 2027-01-15T08:03:20.000+00:00"
    )
    assert world.spy.calls == ["run one"]


def test_prometheus_word_counts_at_the_moment_of_acting(world: World) -> None:
    world.verifier.signal = Signal.CLEARED
    world.fire()

    assert world.consider() is None

    assert world.runs() == []
    assert world.totals("decisions") == {("latency", "deny", "resolved"): 1}


def test_a_condition_that_cannot_be_answered_is_waited_for(journal: Journal) -> None:
    world = World(journal, strategy(when='up{service="{{ labels.service }}"} == 1'))
    world.verifier.holds = ConditionState.UNKNOWN
    world.fire()

    assert world.consider() == NOW + 10
    assert world.verifier.asked[-1][0] == 'up{service="checkout"} == 1'
    assert world.runs()[0].reason == "condition_unknown"

    world.verifier.holds = ConditionState.TRUE
    world.clock.now += 10
    world.consider()
    assert world.spy.calls == ["run one"]


@pytest.mark.parametrize(
    ("doubt", "reason", "again"),
    [
        (SignalDoubt.RULE, "rule_unknown", 60),
        (SignalDoubt.DATA, "condition_unknown", 10),
        (SignalDoubt.BLIND, "condition_unknown", 10),
    ],
)
def test_what_prometheus_does_not_confirm_waits(
    world: World, doubt: SignalDoubt, reason: str, again: float
) -> None:
    world.verifier.signal, world.verifier.doubt = Signal.UNKNOWN, doubt
    world.fire()

    assert world.consider() == NOW + again
    assert (world.verdict(), world.runs()[0].state) == (("wait", reason), State.PENDING)

    world.verifier.signal = Signal.FIRING
    world.clock.now += again
    world.consider()
    assert world.spy.calls == ["run one"]


@pytest.mark.parametrize("doubt", [SignalDoubt.RULE, SignalDoubt.DATA])
@pytest.mark.parametrize(
    ("says", "verdict"),
    [
        (Signal.FIRING, ("allow", "")),
        (Signal.CLEARED, ("deny", "resolved")),
        (Signal.UNKNOWN, None),
    ],
)
def test_the_strategys_own_query_may_confirm_what_the_rule_cannot(
    journal: Journal, doubt: SignalDoubt, says: Signal, verdict: tuple[str, str] | None
) -> None:
    query = 'probe_success{service="{{ labels.service }}"} == 0'
    world = World(journal, strategy(verify=Verify(query=query)))
    world.verifier.signal, world.verifier.doubt = Signal.UNKNOWN, doubt
    world.verifier.own = says
    world.fire()

    world.consider()

    assert world.verifier.asked[1] == ('probe_success{service="checkout"} == 0', 0.0)
    if verdict is None:
        assert world.verdict()[0] == "wait"
    else:
        assert world.verdict() == verdict
    assert world.spy.calls == (["run one"] if says is Signal.FIRING else [])


def test_while_prometheus_cannot_be_asked_its_own_query_is_not_either(journal: Journal) -> None:
    world = World(journal, strategy(verify=Verify(query="up == 0")))
    world.verifier.signal, world.verifier.doubt = Signal.UNKNOWN, SignalDoubt.BLIND
    world.fire()

    world.consider()

    assert [query for query, _ in world.verifier.asked] == ["up == 0"], "the alert's, in its link"
    assert world.verdict() == ("wait", "condition_unknown")


@pytest.mark.parametrize("doubt", [SignalDoubt.RULE, SignalDoubt.DATA, SignalDoubt.BLIND])
def test_a_when_that_holds_is_the_operators_word(journal: Journal, doubt: SignalDoubt) -> None:
    world = World(journal, strategy(when="vector(1)"))
    world.verifier.signal, world.verifier.doubt = Signal.UNKNOWN, doubt
    world.fire()

    world.consider()

    assert world.spy.calls == ["run one"]


def test_who_acts_blind_does_not_ask_the_blind_whether_it_is_scraped(journal: Journal) -> None:
    world = World(journal, strategy(when_blind=WhenBlind.ACT))
    world.verifier.signal, world.verifier.doubt = Signal.UNKNOWN, SignalDoubt.BLIND
    world.verifier.suspicion = "whether the target is scraped is not known: Connection refused"
    world.fire()

    world.consider()

    assert world.spy.calls == ["run one"]


def test_a_run_is_proven_by_the_expression_that_it_was_decided_by(world: World) -> None:
    """Not by the link of its alert, which says `up == 0`."""
    world.verifier.expression = "errors > 5"
    world.fire()
    world.consider()

    (run,) = world.runs()
    assert run.plan is not None
    assert run.plan.alert["expression"] == "errors > 5"
    assert world.verifier.asked[-1][0] == "errors > 5"


def test_whose_link_is_told_to_prometheus_is_told_with_it(world: World) -> None:
    link = "http://ruler.example/graph?g0.expr=errors+%3E+5"
    world.trusted = frozenset({"ours"})
    world.intake.admit(
        msgspec.structs.replace(notification(alert(generator_url=link)), user="ours")
    )
    world.fire()  # somebody else, with another link

    (episode,) = world.journal.read(lambda t: t.open_episodes(limit=10))
    world.config().judge(episode)
    assert (world.verifier.asked[-1][0], world.verifier.speakers[-1]) == (
        "errors > 5",
        Speaker.TRUSTED,
    )

    world.trusted = frozenset()  # a reload: nobody is trusted any more
    world.config().judge(episode)
    assert (world.verifier.asked[-1][0], world.verifier.speakers[-1]) == ("up == 0", Speaker.SENDER)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"labels.service": ValuePattern("[a-z]")}, "labels.service is 'checkout'; `values` lets"),
        ({}, "`values` does not say what labels.service may be"),
    ],
)
def test_a_value_that_is_not_what_it_may_be_fails_the_run_before_its_first_step(
    journal: Journal, values: dict[str, ValuePattern], reason: str
) -> None:
    """Also with a strategy that no file was checked for."""
    steps = (step(), step(params=Spy.Params(name="{{ labels.service }}")))
    world = World(journal, strategy(actions=steps, values=values))
    world.fire()

    world.consider()

    (run,) = world.runs()
    assert run.outcome is Outcome.FAILED
    assert reason in run.reason
    assert world.spy.calls == []


def test_the_flag_lets_an_undeclared_value_through(journal: Journal) -> None:
    params = Spy.Params(name="{{ labels.service }}")
    world = World(journal, strategy(actions=(step(params=params),)))
    world.set(undeclared_values=UndeclaredValues.WARN)
    world.fire()

    world.consider()

    assert world.spy.calls == ["run checkout"]


def test_a_template_without_its_label_fails_the_run_and_says_so(journal: Journal) -> None:
    params = Spy.Params(name="{{ labels.region }}")
    values = {"labels.region": ValuePattern("[a-z]+")}
    world = World(journal, strategy(actions=(step(params=params),), values=values))
    world.fire()

    world.consider()

    (run,) = world.runs()
    assert run.outcome is Outcome.FAILED
    assert "the alert has no label 'region'" in run.reason
    assert world.spy.calls == []
    assert world.consider() == NOW + 300, "it is a run that failed: no hot loop"


def test_steps_whose_condition_fails_are_skipped(journal: Journal) -> None:
    critical = (parse_matcher('severity="critical"'),)
    world = World(journal, strategy(actions=(step(condition=critical), step())))
    world.fire()

    world.consider()

    (run,) = world.runs()
    assert [s.state for s in run.steps] == [StepState.SKIPPED, StepState.DONE]


def test_when_no_step_applies_nothing_was_healed_and_nothing_failed(journal: Journal) -> None:
    critical = (parse_matcher('severity="critical"'),)
    world = World(journal, strategy(actions=(step(condition=critical),)))
    world.fire()

    world.consider()

    assert world.runs()[0].outcome is Outcome.CANCELLED


def test_two_strategies_on_one_target_take_turns(journal: Journal) -> None:
    world = World(journal, strategy(), strategy(name="second", grace_period=0.0))
    second = Key("second", KEY[1])
    world.fire()
    world.consider()
    assert world.consider(second) is None, "it waits for news, not for a time"
    assert world.runs()[1].reason == "busy"

    world.clock.now += 300
    world.woken.clear()
    world.consider()

    assert second in world.woken, "the first has let go of the target"
    world.clock.now += 5  # the first has failed, and for so long nothing begins anywhere
    world.consider(second)
    assert world.runs()[1].state is State.VERIFYING


def test_no_more_than_the_limit_act_and_a_free_slot_goes_to_the_oldest(journal: Journal) -> None:
    # Steps with a timer: a waiting run gives its slot back.
    slow = strategy(actions=(step(params=Spy.Params(later=60.0, repeatable=True)),))
    world = World(journal, slow)
    world.set(engine=EngineSettings(max_concurrent_runs=1))
    keys = [Key("latency", f'service="s{n}"') for n in range(3)]
    acting: list[int] = []

    def now_acting() -> None:
        states = world.journal.read(lambda t: t.stats()).states
        acting.append(states.get("acting", 0))

    world.spy.before = now_acting
    for number in range(3):
        world.fire(labels={"alertname": "HighLatency", "service": f"s{number}"})
    for key in keys:
        world.consider(key)

    states = [(run.state, run.reason) for run in world.runs()]
    assert states == [(State.WAITING, "timer")] * 3, "a timer holds no slot"
    world.clock.now += 60
    for key in keys:
        world.consider(key)
    assert acting == [1, 1, 1]


def test_a_run_that_waits_for_a_slot_is_waked_when_one_is_free(journal: Journal) -> None:
    world = World(journal)
    world.set(engine=EngineSettings(max_concurrent_runs=1))
    other = Key("latency", 'service="other"')

    def meanwhile() -> None:
        world.fire(labels={"alertname": "HighLatency", "service": "other"})
        assert world.consider(other) is None

    world.spy.before = meanwhile
    world.fire()
    world.consider()

    waiting = world.runs()[1]
    assert (waiting.state, waiting.reason) == (State.PENDING, "concurrency")
    assert world.woken[-1] == other
    world.spy.before = lambda: None
    world.consider(other)
    assert world.runs()[1].state is State.VERIFYING


def test_who_does_not_take_its_slot_passes_it_on(journal: Journal) -> None:
    world = World(journal)
    world.set(engine=EngineSettings(max_concurrent_runs=1))
    others = [Key("latency", f'service="{name}"') for name in ("first", "second")]

    def meanwhile() -> None:
        for _, target in others:
            name = target.split('"')[1]
            world.fire(labels={"alertname": "HighLatency", "service": name})
        for key in others:
            world.consider(key)

    world.spy.before = meanwhile
    world.fire()
    world.consider()
    assert world.woken[-1] == others[0]
    world.verifier.signal = Signal.CLEARED

    world.consider(others[0])

    assert world.runs()[1].outcome is Outcome.CANCELLED
    assert world.woken[-1] == others[1]


def test_the_flag_stops_everything_and_waits_for_nothing(world: World) -> None:
    world.set(flags=msgspec.structs.replace(world.settings.flags, auto_healing=False))
    world.fire()

    assert world.consider() is None

    assert (world.runs(), world.spy.calls) == ([], [])
    assert world.totals("decisions") == {("latency", "deny", "disabled"): 1}
    assert world.verifier.asked == [], "the answer could not matter"


def test_a_strategy_that_is_gone_drops_what_waits(world: World) -> None:
    world.fire()
    world.consider()
    world.clock.now += 300
    world.consider()
    world.consider()
    assert world.runs()[-1].state is State.PENDING
    world.strategies = Strategies(())

    world.consider()

    assert world.runs()[-1].outcome is Outcome.CANCELLED


def test_a_run_under_way_is_carried_on_by_its_plan_when_its_strategy_is_gone(
    world: World,
) -> None:
    world.fire()
    world.consider()
    world.strategies = Strategies(())
    world.verifier.signal = Signal.CLEARED

    world.consider()

    assert world.runs()[0].outcome is Outcome.HEALED


def test_ones_own_query_proves_it(journal: Journal) -> None:
    verify = Verify(query='probe_success{service="{{ labels.service }}"} == 0')
    world = World(journal, strategy(verify=verify))
    world.fire(labels={"alertname": "HighLatency", "service": "checkout", "job": "not the probe's"})

    world.consider()

    assert world.verifier.asked[-1] == ('probe_success{service="checkout"} == 0', NOW)
    assert world.verifier.labels == {"service": "checkout"}


def test_the_resync_brings_up_what_fires_and_what_is_under_way(world: World) -> None:
    world.fire()
    world.consider()
    world.intake.admit(notification(resolved(alert())))
    world.fire(labels={"alertname": "HighLatency", "service": "other"})
    world.woken.clear()

    world.reconciler.resync()

    assert world.woken == [KEY, ("latency", 'service="other"')]


def test_considering_what_is_not_there_does_nothing(world: World) -> None:
    assert world.consider(Key("latency", "no such target")) is None
    assert world.consider(Key("no such strategy", "x")) is None
    assert world.runs() == []


def test_weighing_writes_nothing_down(world: World) -> None:
    world.fire()
    episodes = world.journal.read(lambda t: t.asking(KEY, limit=2))

    decision = world.reconciler.weigh(strategy(), KEY[1], episodes)

    assert decision.verdict.answer == "allow"
    assert world.totals("decisions") == {}
    assert world.runs() == []


@pytest.mark.parametrize("signal", [Signal.CLEARED, Signal.UNKNOWN])
def test_an_end_that_was_never_told_is_known_in_time(world: World, signal: Signal) -> None:
    world.fire()
    world.verifier.signal = signal
    world.clock.now += world.settings.engine.stale_after + 1

    world.consider()

    assert world.journal.read(lambda t: t.open_episodes(limit=9)) == []
    assert world.spy.calls == []


def test_what_prometheus_says_to_fire_is_never_given_up(world: World) -> None:
    world.fire()
    world.clock.now += 10 * world.settings.engine.stale_after

    world.consider()

    assert world.spy.calls == ["run one"]


def test_a_strategy_that_observes_tells_what_it_would_have_done(journal: Journal) -> None:
    world = World(journal, strategy(mode=Mode.OBSERVE))
    world.fire()
    world.consider()
    world.verifier.signal = Signal.CLEARED
    world.consider()

    found = world.journal.read(lambda t: t.latest_decisions(limit=9))
    assert [decision.reason for decision in found] == ["resolved", "observe_only"]
    assert world.spy.calls == []


def observed(world: World) -> list[tuple[str, int | None, int]]:
    """Why it did not act, about which episode, and how often; the oldest first."""
    found = world.journal.read(lambda t: t.latest_decisions(limit=99))
    return [(one.reason, one.episode, one.times) for one in reversed(found)]


def one_of(instance: str, **changes: Any) -> Alert:
    labels = {"alertname": "HighLatency", "service": "checkout", "instance": instance}
    return alert(labels=labels, **changes)


def test_a_strategy_that_observes_tells_of_each_firing(journal: Journal) -> None:
    """Twelve, an hour apart, each of which Alertmanager ends."""
    world = World(journal, strategy(mode=Mode.OBSERVE))
    for _ in range(12):
        firing = alert(starts_at=world.clock.now)
        world.intake.admit(notification(firing))
        for _ in range(3):
            world.consider()
            world.clock.now += 60
        world.intake.admit(notification(resolved(firing, ends_at=world.clock.now)))
        assert world.consider() is None
        world.clock.now += 3_420

    assert observed(world) == [("observe_only", number, 3) for number in range(1, 13)]


def test_a_firing_that_goes_on_for_a_month_is_one_row(journal: Journal) -> None:
    world = World(journal, strategy(mode=Mode.OBSERVE))
    firing = alert(starts_at=world.clock.now)
    for _ in range(30 * 6):
        world.intake.admit(notification(firing))
        world.consider()
        world.clock.now += 4 * 3_600

    assert observed(world) == [("observe_only", 1, 180)]


def test_alerts_of_one_target_that_fire_without_a_break_are_one_row(journal: Journal) -> None:
    """It is named by the newest of them, and ends with the last, whichever that is."""
    world = World(journal, strategy(mode=Mode.OBSERVE))

    def fires(instance: str) -> None:
        world.intake.admit(notification(one_of(instance, starts_at=world.clock.now)))
        world.consider()
        world.clock.now += 60

    def ends(instance: str) -> None:
        ended = resolved(one_of(instance), ends_at=world.clock.now)
        world.intake.admit(notification(ended))
        world.consider()
        world.clock.now += 60

    fires("a")
    fires("b")
    assert observed(world) == [("observe_only", 2, 2)]
    ends("a")
    fires("c")
    assert observed(world) == [("observe_only", 3, 4)]
    ends("c")
    assert observed(world) == [("observe_only", 2, 5)], "of those that fire"
    ends("b")
    fires("a")
    fires("b")
    assert observed(world) == [("observe_only", 2, 5), ("observe_only", 5, 2)]


def test_of_many_alerts_of_one_target_the_newest_names_the_row(journal: Journal) -> None:
    """However many fire, and whichever of them are asked about."""
    world = World(journal, strategy(mode=Mode.OBSERVE))
    many = [one_of(str(number)) for number in range(60)]
    for _ in range(4):
        for each in many:
            world.intake.admit(notification(each))
            world.clock.now += 1
        world.consider()

    assert observed(world) == [("observe_only", 60, 4)]


def test_a_decision_about_what_nobody_says_any_more_names_it(world: World) -> None:
    world.verifier.signal = Signal.UNKNOWN
    world.fire()
    world.clock.now += world.settings.engine.stale_after + 1

    world.consider()

    assert observed(world) == [("stale", 1, 1)]
    assert world.journal.read(lambda t: t.open_episodes(limit=9)) == []


def test_a_decision_when_nothing_fires_names_no_episode(world: World) -> None:
    world.fire()
    world.verifier.suspicion = "the scrape is down"
    world.consider()
    world.intake.admit(notification(resolved(alert())))

    world.consider()

    assert observed(world) == [("monitoring_suspect", 1, 1), ("resolved", None, 1)]


@pytest.mark.parametrize(
    ("listed", "later", "reopened"),
    [(True, 0.0, True), (False, 0.0, False), (None, 0.0, False), (None, PEER_LAG, False)],
)
def test_an_end_that_prometheus_contradicts_is_none(
    world: World, listed: bool | None, later: float, reopened: bool
) -> None:
    """Whoever may post can say that something has ended."""
    one = alert()
    world.verifier.signal, world.verifier.doubt = Signal.UNKNOWN, SignalDoubt.BLIND
    world.fire()
    world.consider()
    world.verifier.listed = listed
    world.intake.admit(notification(resolved(one)))
    assert world.journal.read(lambda t: t.open_episodes(limit=9)) == []
    world.clock.now += later

    world.intake.settle()

    firing = world.journal.read(lambda t: t.open_episodes(limit=9))
    assert bool(firing) is reopened
    disputed = world.journal.read(lambda t: t.conflicts(limit=9))
    # Who cannot be asked now is asked again, for as long as it may matter.
    assert bool(disputed) is (listed is None and not later)
    if reopened:
        world.verifier.signal = Signal.FIRING
        world.consider()
        assert world.spy.calls == ["run one"]


def test_an_end_that_nobody_wanted_to_heal_is_not_asked_about(world: World) -> None:
    other = alert(labels={"alertname": "Other"})
    world.intake.admit(notification(other))
    world.intake.admit(notification(resolved(other)))

    assert world.journal.read(lambda t: t.conflicts(limit=9)) == []
