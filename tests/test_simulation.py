"""A promheal in virtual time: the live parts, in a world that a script describes."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.actions import Actions
from receiver.config.files import LoadedConfig
from receiver.policy.matcher_syntax import parse_item
from receiver.policy.run import Outcome, Run
from receiver.policy.strategy import Mode, Strategies, Strategy, Verify
from receiver.services import Inventory
from receiver.settings import AlertmanagerSettings, EngineSettings, PrometheusSettings, Settings
from receiver.simulation.course import EMPTY, AlertCourse, Course, course_of
from receiver.simulation.script import Heals, Script, ScriptedAction, ScriptedAlert
from receiver.simulation.series import parse_series
from receiver.simulation.upstream import SimulatedSilence
from receiver.simulation.world import VirtualWorld
from tests.factories import NOW, Spy, step, strategy
from tests.figures import scaled

START = NOW // 60 * 60
FIRING = "0x3 1x200"
"""It begins to fire a minute after the beginning, and goes on for 50 minutes."""


def course(text: str) -> Course:
    return course_of(parse_series(text), 15.0)


def firing(service: str = "checkout", text: str = FIRING, **more: Any) -> ScriptedAlert:
    labels = {"alertname": "HighLatency", "service": service}
    return ScriptedAlert(labels=labels, course=course(text), **more)


def world(
    *alerts: ScriptedAlert,
    strategies: tuple[Strategy, ...] = (),
    actions: tuple[ScriptedAction, ...] = (),
    skips: bool = False,
    **engine: Any,
) -> VirtualWorld:
    configured = Settings(
        prometheus=PrometheusSettings(url="http://prometheus.example"),
        alertmanager=AlertmanagerSettings(url="http://alertmanager.example"),
        engine=EngineSettings(**engine),
    )
    loaded = LoadedConfig(
        settings=configured,
        strategies=Strategies(strategies or (strategy(),)),
        inventory=Inventory({}),
        hash="abc",
        files=(),
    )
    script = Script(interval=15.0, alerts=alerts, actions=actions)
    return VirtualWorld(loaded, script, actions=Actions([Spy()]), start=START, skips=skips)


def runs(of: VirtualWorld) -> list[Run]:
    found = of.journal.read(lambda t: [t.run(run.id) for run in reversed(t.runs(limit=99))])
    return [run for run in found if run is not None]


def told(of: VirtualWorld) -> list[tuple[float, str]]:
    return [(call.at - START, call.text) for call in of.stage.calls]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1 2", [1.0, 2.0, None]),
        ("1x2", [1.0, 1.0, 1.0, None]),
        ("-2+4x2", [-2.0, 2.0, 6.0, None]),
        ("1-2x1", [1.0, -1.0, None]),
        ("4 _x2 stale", [4.0, None, None, EMPTY, None]),
    ],
)
def test_a_series_is_as_promtool_reads_it(text: str, values: list[object]) -> None:
    found = course_of(parse_series(text), 15.0)

    assert [found.at(15.0 * number) for number in range(len(values))] == values


@pytest.mark.parametrize("text", ["", "1x", "x3", "1+x3y", "1x9999999", "1+infx3"])
def test_what_is_no_series_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|finite"):
        parse_series(text)


def test_a_course_is_known_at_its_evaluations() -> None:
    found = AlertCourse(course("0x3 1x3"), 15.0)
    assert [found.at(time) for time in (59.9, 60.0, 74.0, 119.9, 120.0)] == [0.0, 1, 1, 1, None]
    assert [found.next_change(time) for time in (0.0, 60.0, 120.0)] == [60.0, 120.0, inf]

    found.heal(70.0, 20.0)

    assert [found.at(time) for time in (70.0, 75.0, 89.9, 90.0)] == [1, 0.0, 0.0, 1]
    assert found.next_change(60.0) == 75.0
    assert found.next_change(75.0) == 90.0


def test_it_heals_and_proves_by_an_evaluation_after_the_action() -> None:
    one = world(firing(heals=(Heals(action="spy", after=40.0),)))

    one.run(START + 3600)

    (run,) = runs(one)
    assert told(one) == [(60.0, "spy")]
    assert (run.outcome, run.acted_at, run.finished_at) == (
        Outcome.HEALED, START + 60, START + 105,
    )  # fmt: skip


def test_a_heal_that_works_at_once_is_not_proven_by_older_data() -> None:
    one = world(
        firing(heals=(Heals(action="spy"),)), actions=(ScriptedAction(action="spy", takes=3),)
    )

    one.run(START + 600)

    (run,) = runs(one)
    assert run.finished_at == START + 78, "the first look with an evaluation after 63 s"


def test_an_alert_that_nothing_heals_is_acted_on_as_often_as_its_budget_lets() -> None:
    one = world(firing())

    one.run(START + 3600)

    acted = [run.outcome for run in runs(one) if run.acted_at is not None]
    assert acted == [Outcome.INEFFECTIVE] * 3
    assert [text for _, text in told(one)].count("spy") == 3


def test_an_action_takes_its_time_and_a_slot() -> None:
    alerts = [firing(f"s{number}", heals=(Heals(action="spy"),)) for number in range(3)]
    slow = ScriptedAction(action="spy", takes=9.0)
    one = world(*alerts, actions=(slow,), max_concurrent_runs=2)

    one.run(START + 3600)

    assert [at for at, _ in told(one)] == [60.0, 60.0, 69.0]
    assert {run.outcome for run in runs(one)} == {Outcome.HEALED}


def test_an_action_that_takes_longer_than_it_may_fails() -> None:
    one = world(firing(), actions=(ScriptedAction(action="spy", takes=60.0),))

    one.run(START + 75)

    run = runs(one)[0]
    assert run.steps[0].error == "did not end within 10s"
    assert run.steps[0].finished_at == START + 70


@pytest.mark.parametrize(
    ("repeatable", "attempt", "outcome"),
    [(True, 2, Outcome.HEALED), (False, 1, Outcome.UNKNOWN)],
)
def test_killed_in_the_middle_of_an_action_it_takes_up_the_run(
    *, repeatable: bool, attempt: int, outcome: Outcome
) -> None:
    params = Spy.Params(repeatable=repeatable, undo="none")
    one = world(
        firing(heals=(Heals(action="spy"),)),
        strategies=(strategy(actions=(step(params=params),)),),
    )
    one.stage.kill_in.add("spy")

    one.run(START + 200)

    run = runs(one)[0]
    assert one.lives == 2
    assert (run.steps[0].attempt, run.outcome) == (attempt, outcome)


def test_killed_while_an_action_takes_its_time_it_begins_it_anew() -> None:
    params = Spy.Params(repeatable=True)
    one = world(
        firing(heals=(Heals(action="spy"),)),
        strategies=(strategy(actions=(step(params=params),)),),
        actions=(ScriptedAction(action="spy", takes=8.0),),
    )
    one.call(START + 65, one.restart)

    one.run(START + 600)

    assert [at for at, _ in told(one)] == [60.0, 65.0]
    assert runs(one)[0].steps[0].finished_at == START + 68, "as it began at 60 s"


def test_while_prometheus_is_down_nothing_is_done_and_afterwards_it_is() -> None:
    one = world(firing(heals=(Heals(action="spy"),)))
    one.upstream.prometheus_down = True
    one.call(START + 300, lambda: setattr(one.upstream, "prometheus_down", False))

    one.run(START + 290)
    assert told(one) == []
    one.run(START + 600)
    assert [at for at, _ in told(one)] == [300.0]


def test_a_silence_holds_back_the_notification_and_the_action() -> None:
    one = world(firing())
    matchers = parse_item('service="checkout"')
    one.upstream.silences.append(SimulatedSilence(matchers, START + 120))

    one.run(START + 119)
    assert one.journal.read(lambda t: t.open_episodes(limit=9)) == []
    one.run(START + 121)
    assert [at for at, _ in told(one)] == [120.0]


def test_alertmanager_repeats_and_says_the_end() -> None:
    one = world(firing(text="0x3 1x2000 0x20"), strategies=(strategy(mode=Mode.OBSERVE),))

    one.run(START + 60 + 4 * 3600)
    (episode,) = one.journal.read(lambda t: t.open_episodes(limit=9))
    assert episode.notifications == 2
    assert episode.last_seen == START + 60 + 4 * 3600

    one.run(START + 9 * 3600)
    assert one.journal.read(lambda t: t.open_episodes(limit=9)) == []


@settings(max_examples=scaled(15, 1_000), deadline=None)
@given(data=st.data())
def test_leaving_out_looks_changes_no_outcome(data: st.DataObject) -> None:
    parts = data.draw(st.lists(st.sampled_from(["0x9", "1x12", "1x40", "_x2"]), min_size=1))
    after = data.draw(st.sampled_from([0.0, 20.0, 47.0, 200.0, 400.0]))
    lasts = data.draw(st.sampled_from([60.0, 900.0, inf]))
    takes = data.draw(st.sampled_from([0.0, 7.0]))
    hold = data.draw(st.sampled_from([0.0, 45.0]))

    def ended(*, skips: bool) -> list[tuple[str, Outcome | None]]:
        one = world(
            firing(text=" ".join(["0x3", *parts]), heals=(
                Heals(action="spy", after=after, lasts=lasts),
            )),
            strategies=(strategy(verify=Verify(hold=hold)),),
            actions=(ScriptedAction(action="spy", takes=takes),),
            skips=skips,
        )  # fmt: skip
        one.run(START + 3600)
        return [(run.target, run.outcome) for run in runs(one) if run.acted_at is not None]

    assert ended(skips=True) == ended(skips=False)


def test_between_two_changes_it_looks_once() -> None:
    def looks(*, skips: bool) -> int:
        one = world(firing(), skips=skips)
        one.run(START + 400)
        return len(one.journal.read(lambda t: t.observations(1)))

    assert looks(skips=False) > 20
    assert looks(skips=True) == 2, "the first, and that at the deadline"


def test_the_same_world_twice_is_the_same_to_the_byte() -> None:
    def dump() -> str:
        one = world(firing(), firing("cart", heals=(Heals(action="spy", after=20.0),)))
        one.run(START + 7200)
        return repr([runs(one), one.journal.read(lambda t: t.latest_decisions(limit=999))])

    assert dump() == dump()
