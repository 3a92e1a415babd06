"""Several alerts of one target, on a real journal with an injected clock and a scripted Prometheus.

None stands for the others: one that may be acted on is enough, and all that asked must clear.
"""

from __future__ import annotations

from typing import Any

import pytest

from receiver.healing.choice import MOST, PROVEN
from receiver.journal import DecisionRecord, Journal
from receiver.policy.apart import apart
from receiver.policy.decay import Decay, longest
from receiver.policy.run import Outcome, Run, State
from receiver.policy.signal import ConditionState, Signal, SignalDoubt
from receiver.policy.strategy import Mode, Verify, WhenBlind
from receiver.policy.window import Window
from receiver.settings import EngineSettings
from tests.factories import NOW, alert, notification, parse_matcher, resolved, strategy
from tests.world import KEY, World

FIRST, SECOND = "the one said first", "the one said last"


@pytest.fixture
def world(journal: Journal) -> World:
    return World(journal)


def labels(instance: str) -> dict[str, str]:
    return {"alertname": "HighLatency", "service": "checkout", "instance": instance}


def fire(world: World, *instances: str, **changes: Any) -> None:
    for instance in instances:
        world.fire(labels=labels(instance), **changes)


def end(world: World, instance: str) -> None:
    world.intake.admit(notification(resolved(alert(labels=labels(instance)), world.clock.now)))


def decided(world: World) -> DecisionRecord:
    found = world.journal.read(lambda t: t.last_decision(KEY))
    assert found is not None
    return found


def last(world: World) -> Run:
    return world.runs()[-1]


def asked_by(run: Run) -> set[str]:
    assert run.plan is not None
    return {
        run.plan.alert["labels"]["instance"],
        *(one.labels["instance"] for one in run.plan.also),
    }


def looked_at(world: World, since: float = NOW) -> int:
    return sum(at == since for _, at in world.verifier.asked)


# -- one is enough


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")], ids=[SECOND, FIRST])
def test_what_has_cleared_does_not_hide_what_still_fires(
    world: World, order: tuple[str, str]
) -> None:
    world.verifier.signals = {"b": Signal.CLEARED}
    fire(world, *order)

    world.consider()

    assert world.spy.calls == ["run one"]
    assert asked_by(last(world)) == {"a"}
    found = decided(world)
    assert (found.verdict, found.detail) == (
        "allow",
        'left out: instance="b" (resolved: scripted cleared)',
    )


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")], ids=[SECOND, FIRST])
def test_a_silence_is_for_its_alert_and_not_for_the_target(
    world: World, order: tuple[str, str]
) -> None:
    world.silences = {"b": "silence abc"}
    fire(world, *order)

    world.consider()

    assert world.spy.calls == ["run one"]
    assert asked_by(last(world)) == {"a"}, "what is silenced need not clear"
    assert decided(world).detail == 'left out: instance="b" (silenced: silence abc)'
    assert last(world).plan is not None


def test_when_every_alert_is_silenced_nothing_begins(world: World) -> None:
    world.silences = {"a": "silence abc", "b": "silence def"}
    fire(world, "a", "b")

    assert world.consider() == NOW + 10

    assert world.verdict() == ("wait", "silenced")
    assert decided(world).detail == ('silence def; left out: instance="a" (silenced: silence abc)')
    assert world.spy.calls == []


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")], ids=[SECOND, FIRST])
def test_a_maintenance_window_is_for_its_alert(world: World, order: tuple[str, str]) -> None:
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    weekly = tuple(f"{day} 00:00 - 24:00" for day in days)
    window = Window(name="b's", weekly=weekly, match=(parse_matcher('instance="b"'),))
    world.set(maintenance=(window,))
    fire(world, *order)

    world.consider()

    assert world.spy.calls == ["run one"]
    assert asked_by(last(world)) == {"a"}
    assert 'instance="b" (maintenance: b\'s)' in decided(world).detail


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")], ids=[SECOND, FIRST])
def test_when_is_asked_for_each_alert(journal: Journal, order: tuple[str, str]) -> None:
    world = World(journal, strategy(when='up{instance="{{ labels.instance }}"} == 1'))
    world.verifier.conditions = {'up{instance="b"} == 1': ConditionState.FALSE}
    fire(world, *order)

    world.consider()

    assert world.spy.calls == ["run one"]
    assert asked_by(last(world)) == {"a"}
    assert 'instance="b" (condition_false' in decided(world).detail


def test_of_several_that_wait_the_one_decides_that_is_looked_at_first(world: World) -> None:
    """Else nobody would look at it before the other one's time."""
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    weekly = tuple(f"{day} 00:00 - 24:00" for day in days)
    window = Window(name="b's", weekly=weekly, match=(parse_matcher('instance="b"'),))
    world.set(maintenance=(window,))
    world.silences = {"a": "silence abc"}
    fire(world, "a", "b")

    assert world.consider() == NOW + 10
    assert world.verdict() == ("wait", "silenced")


def test_one_that_waits_is_waited_for_although_another_is_over(world: World) -> None:
    world.verifier.signals = {"a": Signal.UNKNOWN, "b": Signal.CLEARED}
    world.verifier.doubt = SignalDoubt.DATA
    fire(world, "a", "b")

    assert world.consider() == NOW + 10
    assert world.verdict() == ("wait", "condition_unknown")


def test_what_is_in_the_way_of_the_target_is_asked_about_once(world: World) -> None:
    fire(world, "a", "b", "c")
    world.consider()
    world.verifier.signal = Signal.CLEARED
    world.consider()
    world.verifier.signal = Signal.FIRING
    world.verifier.asked.clear()

    world.consider()

    assert world.verdict() == ("wait", "grace_period")
    assert len(world.verifier.asked) == 1


# -- a pending run


def test_a_run_is_dropped_only_when_none_of_its_alerts_fires(world: World) -> None:
    world.silenced = "silence abc"
    fire(world, "a", "b")
    world.consider()
    assert last(world).state is State.PENDING

    world.verifier.signals = {"b": Signal.CLEARED}
    world.consider()
    assert last(world).state is State.PENDING, "a still fires"

    end(world, "a")
    world.consider()
    run = last(world)
    assert run.outcome is Outcome.CANCELLED
    assert run.reason == "resolved: scripted cleared", (
        "what still asked, and was not that one's end"
    )


def test_a_stale_one_is_given_up_beside_one_that_fires(world: World) -> None:
    fire(world, "b")
    world.clock.now += world.settings.engine.stale_after + 1
    fire(world, "a")
    world.verifier.signals = {"b": Signal.CLEARED}

    world.consider()

    (left,) = world.journal.read(lambda t: t.open_episodes(limit=9))
    assert left.alert.labels["instance"] == "a"
    assert world.spy.calls == ["run one"]


def test_when_it_ends_while_it_is_asked_the_others_are_decided_on_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fire(world, "a", "b")
    facts = world.reconciler._facts
    ask = facts.ask

    def meanwhile(*args: Any) -> Any:
        asked = ask(*args)
        end(world, "b")
        return asked

    with monkeypatch.context() as patched:
        patched.setattr(facts, "ask", meanwhile)
        assert world.consider() == world.clock.now
    assert world.runs() == []

    world.consider()
    assert asked_by(last(world)) == {"a"}


def test_a_repeated_decision_tells_what_is_left_out_now(world: World) -> None:
    world.silenced = "silence abc"
    fire(world, "a")
    world.consider()
    fire(world, "b")
    world.consider()
    world.silences = {"b": "silence def"}

    world.consider()

    found = decided(world)
    assert found.times == 3
    assert found.detail == 'silence def; left out: instance="a" (silenced: silence abc)'


# -- the proof


def test_it_is_healed_only_when_all_that_asked_have_cleared(world: World) -> None:
    fire(world, "a", "b")
    world.consider()
    assert asked_by(last(world)) == {"a", "b"}
    world.clock.now += 15
    world.verifier.signals = {"b": Signal.CLEARED}

    world.consider()

    run = last(world)
    assert run.state is State.VERIFYING
    (*_, look) = world.journal.read(lambda t: t.observations(run.id))
    assert (look.verdict, look.detail) == ("firing", '1 of 2: instance="a": scripted firing')

    world.verifier.signal = Signal.CLEARED
    world.consider()
    run = last(world)
    assert run.outcome is Outcome.HEALED
    assert run.reason.startswith("all 2 alerts: ")


@pytest.mark.parametrize(
    ("others", "outcome"),
    [(Signal.FIRING, Outcome.INEFFECTIVE), (Signal.UNKNOWN, Outcome.INCONCLUSIVE)],
)
@pytest.mark.parametrize("instance", ["a", "b"])
def test_one_that_does_not_clear_is_enough(
    world: World, instance: str, others: Signal, outcome: Outcome
) -> None:
    fire(world, "a", "b")
    world.consider()
    world.verifier.signal = Signal.CLEARED
    world.verifier.signals = {instance: others}
    world.clock.now += 300

    world.consider()

    run = last(world)
    assert run.outcome is outcome
    assert run.reason.startswith(f'1 of 2: instance="{instance}": ')


def test_what_still_fires_counts_more_than_what_is_not_known(world: World) -> None:
    fire(world, "a", "b", "c")
    world.consider()
    world.verifier.signals = {"a": Signal.FIRING, "b": Signal.UNKNOWN, "c": Signal.CLEARED}
    world.clock.now += 300

    world.consider()

    assert last(world).outcome is Outcome.INEFFECTIVE


def test_a_proof_that_cannot_be_asked_for_is_asked_once_a_look(world: World) -> None:
    fire(world, "a", "b", "c")
    world.consider()
    world.verifier.signal, world.verifier.unasked = Signal.UNKNOWN, True
    world.verifier.asked.clear()
    world.clock.now += 15

    world.consider()

    assert looked_at(world) == 1


@pytest.mark.parametrize(("label", "looks"), [("service", 1), ("instance", 2)])
def test_a_query_of_ones_own_is_asked_once_unless_it_is_another_one_for_each(
    journal: Journal, label: str, looks: int
) -> None:
    query = f'probe{{{label}="{{{{ labels.{label} }}}}"}} == 0'
    world = World(journal, strategy(verify=Verify(query=query)))
    fire(world, "a", "b")
    world.consider()
    world.verifier.asked.clear()
    world.verifier.signal = Signal.CLEARED

    world.consider()

    assert looked_at(world) == looks
    assert last(world).outcome is Outcome.HEALED


def test_the_proof_waits_for_the_rule_that_looks_back_furthest(world: World) -> None:
    decays = {"a": Decay(600.0, scrape=15.0), "b": Decay(60.0, scrape=60.0)}
    world.verifier.decay = lambda of, *_, **__: decays[of["instance"]]  # type: ignore[method-assign]
    fire(world, "a", "b")

    world.consider()

    plan = last(world).plan
    assert plan is not None
    assert (plan.decay, plan.alert_decay, plan.scrape) == (600.0, 600.0, 60.0)


def test_what_looks_back_for_ever_looks_back_furthest() -> None:
    assert longest([Decay(9.0), Decay(None, "why"), Decay(8.0)]) == Decay(None, "why")


def test_a_heal_that_did_not_hold_is_known_by_any_that_asked_for_it(world: World) -> None:
    fire(world, "a", "b")
    world.consider()
    world.clock.now += 15
    world.verifier.signal = Signal.CLEARED
    world.consider()
    assert last(world).outcome is Outcome.HEALED

    world.clock.now += 5
    world.verifier.signals = {"a": Signal.FIRING}
    world.consider()

    assert last(world).state is State.PENDING
    assert world.runs()[0].relapsed_at == world.clock.now


# -- its bounds


def crowd(number: int) -> list[str]:
    return [f"i{each:02}" for each in range(number)]


def test_no_more_are_asked_than_are_proven(world: World) -> None:
    fire(world, *crowd(PROVEN + 3))

    world.consider()

    run = last(world)
    assert run.plan is not None
    assert len(asked_by(run)) == PROVEN
    assert run.plan.unproven == 3
    assert decided(world).detail == "at least 3 more of its alerts were not asked about"
    world.verifier.signal = Signal.CLEARED
    world.consider()
    assert last(world).reason.endswith("; further alerts of the target are not looked at")


def test_of_more_than_are_asked_about_it_is_not_said_that_they_are_over(world: World) -> None:
    everyone = crowd(MOST + 5)
    world.verifier.signals = dict.fromkeys(everyone[5:], Signal.CLEARED)
    fire(world, *everyone)

    assert world.consider() == NOW + 10
    assert world.verdict() == ("wait", "condition_unknown")
    assert f"more than {MOST} alerts ask for this target" in decided(world).detail
    assert len(world.verifier.asked) == MOST

    world.clock.now += 10
    fire(world, everyone[0])
    world.consider()
    assert world.spy.calls == ["run one"], "what is said again is asked about first"


def test_one_of_many_that_fires_is_acted_on_and_the_rest_is_said_not_to_be_asked(
    world: World,
) -> None:
    everyone = crowd(MOST + 5)
    world.verifier.signals = dict.fromkeys(everyone[:-1], Signal.CLEARED)
    fire(world, *everyone)

    world.consider()

    assert world.spy.calls == ["run one"]
    detail = decided(world).detail
    assert f"and {MOST - 6} more" in detail
    assert detail.endswith("at least 1 more of its alerts were not asked about")


def test_after_a_heal_what_is_not_asked_about_is_over_too(world: World) -> None:
    everyone = crowd(MOST + 5)
    fire(world, *everyone)
    world.consider()
    world.clock.now += 15
    world.verifier.signal = Signal.CLEARED
    world.consider()

    assert world.consider() is None
    assert world.verdict() == ("deny", "resolved")


def test_no_more_are_named_than_one_can_read(world: World) -> None:
    everyone = crowd(12)
    world.verifier.signals = dict.fromkeys(everyone[:11], Signal.CLEARED)
    fire(world, *everyone)

    world.consider()

    detail = decided(world).detail
    assert detail.count("resolved") == 5
    assert detail.endswith("and 6 more")


def test_while_prometheus_cannot_be_asked_it_is_waited_for_once(world: World) -> None:
    world.verifier.signal, world.verifier.doubt = Signal.UNKNOWN, SignalDoubt.BLIND
    fire(world, *crowd(6))

    world.consider()

    assert world.verdict() == ("wait", "condition_unknown")
    assert len(world.verifier.asked) == 1


def test_who_acts_blind_acts_for_an_alert_that_is_not_silenced(journal: Journal) -> None:
    world = World(journal, strategy(when_blind=WhenBlind.ACT))
    world.verifier.signal, world.verifier.doubt = Signal.UNKNOWN, SignalDoubt.BLIND
    world.silences = {"b": "silence abc"}
    fire(world, "a", "b")

    world.consider()

    assert asked_by(last(world)) == {"a"}
    assert len([at for _, at in world.verifier.asked if not at]) == 1, "it is waited for once"


def test_while_alertmanager_cannot_be_asked_it_is_waited_for_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.silence_unknown = "Alertmanager cannot be asked: Connection refused"
    fire(world, *crowd(6))

    world.consider()

    assert world.verdict() == ("wait", "silence_unknown")
    assert len(world.verifier.asked) == 1


# -- who only watches


@pytest.mark.parametrize("how", ["observe", "dry run", "approve"])
@pytest.mark.parametrize("in_the_way", ["silenced", "monitoring_suspect"])
def test_who_only_watches_is_not_blind_to_what_would_be_in_the_way(
    journal: Journal, how: str, in_the_way: str
) -> None:
    mode = {"observe": Mode.OBSERVE, "approve": Mode.APPROVE}.get(how, Mode.AUTO)
    world = World(journal, strategy(mode=mode))
    world.dry_run = how == "dry run"
    world.fire()
    if in_the_way == "silenced":
        world.silenced = "silence abc"
    else:
        world.verifier.suspicion = "its scrape fails"

    world.consider()

    assert world.verdict() == ("wait", in_the_way)

    world.silenced = world.verifier.suspicion = ""
    world.clock.now += 10
    world.consider()
    expected = {"observe": "observe_only", "dry run": "dry_run", "approve": "awaiting_approval"}
    assert world.verdict()[1] == expected[how]


def test_what_else_is_in_the_way_asks_alertmanager_nothing(world: World) -> None:
    """A storm of those that have to wait anyway does not reach Alertmanager."""
    world.set(engine=EngineSettings(max_concurrent_runs=1))
    world.fire()
    world.consider()
    world.verifier.signal = Signal.CLEARED
    world.consider()
    world.verifier.signal = Signal.FIRING
    world.silenced = "silence abc"

    world.consider()

    assert world.verdict() == ("wait", "grace_period")


# -- their names


@pytest.mark.parametrize(
    ("alerts", "names"),
    [
        ([{"alertname": "A", "service": "s"}], ["A"]),
        (
            [{"alertname": "A", "i": "1"}, {"alertname": "A", "i": "2"}],
            ['i="1"', 'i="2"'],
        ),
        (
            [{"alertname": "A", "i": "1"}, {"alertname": "B"}],
            ['alertname="A", i="1"', 'alertname="B"'],
        ),
        ([{"i": "1"}, {}], ['i="1"', "the one without these labels"]),
        ([{"i": "x" * 500}, {"i": "y"}], [f'i="{"x" * 156}…', 'i="y"']),
    ],
)
def test_alerts_are_told_apart_by_what_they_do_not_share(
    alerts: list[dict[str, str]], names: list[str]
) -> None:
    assert apart(alerts) == names
