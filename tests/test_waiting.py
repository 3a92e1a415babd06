"""A heal is judged when its rule can tell, on a real journal, with a clock that the test moves.

A rule with a window fires on after the best of heals, as long as what was before it is in there.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from receiver.journal import Journal, Stats
from receiver.policy.decay import Decay
from receiver.policy.run import FAILURES, Doubt, Outcome, State
from receiver.policy.signal import Signal
from receiver.policy.strategy import Budget, Strategy, Verify
from receiver.policy.target import Key
from receiver.reporting.journal_metrics import effectiveness
from tests.factories import NOW, strategy
from tests.world import KEY, World

SCRAPE = 60.0
HOUR = 3600.0


def patient(**verify: Any) -> Strategy:
    return strategy(budget=(Budget(runs=100, per=HOUR),), verify=Verify(**verify))


class Windowed:
    """A world whose rule looks back for so many seconds, and whose heals work at once, or never."""

    def __init__(
        self, journal: Journal, window: float | None, *, works: bool = True, **verify: Any
    ) -> None:
        self.world = World(journal, patient(**verify))
        self.window = window
        self.works = works
        self.world.verifier.alert_decay = Decay(window, "it cannot be read", SCRAPE)

    def until(self, end: float) -> None:
        """Consider whenever that is wanted, and each minute as the resync does."""
        world = self.world
        while world.clock.now < end:
            acted = [at for call, at in self.acted if call == "run one"]
            old = acted and self.works and self.window is not None
            healed = old and world.clock.now >= acted[-1] + (self.window or 0.0) + SCRAPE
            world.verifier.signal = Signal.CLEARED if healed else Signal.FIRING
            before = len(world.spy.calls)
            then = world.consider()
            self.acted += [(call, world.clock.now) for call in world.spy.calls[before:]]
            resync = world.clock.now + 60
            world.clock.now = max(world.clock.now + 1, min(then or resync, resync))

    acted: list[tuple[str, float]]

    def play(self, seconds: float) -> tuple[list[str], list[str]]:
        """Return what was done, and how the runs ended."""
        self.acted = []
        self.world.fire()
        self.until(NOW + seconds)
        ended = [str(run.outcome) for run in self.world.runs() if run.outcome and run.acted_at]
        return [call.partition(" ")[0] for call, _ in self.acted], ended


@pytest.mark.parametrize("window", [0, 120, 270, 310, 600, 900, 3500])
def test_a_good_heal_of_a_rule_with_a_window_is_neither_undone_nor_repeated(
    journal: Journal, window: float
) -> None:
    assert Windowed(journal, window).play(2 * HOUR) == (["run"], ["healed"])


def test_a_rule_that_needs_longer_than_is_waited_proves_nothing_and_says_what_to_do(
    journal: Journal,
) -> None:
    windowed = Windowed(journal, HOUR)

    assert windowed.play(2 * HOUR) == (["run"], ["inconclusive"])

    run = windowed.world.runs()[0]
    assert run.verify_from is not None
    assert run.finished_at == run.verify_from + HOUR
    assert run.doubt is Doubt.OLD_DATA
    assert "this rule needs 1h1m to forget what was before the action" in run.reason
    assert "write a `verify.query`" in run.reason


def test_with_more_time_the_same_rule_proves_it(journal: Journal) -> None:
    assert Windowed(journal, HOUR, at_most=2 * HOUR).play(3 * HOUR) == (["run"], ["healed"])


@pytest.mark.parametrize(("window", "after"), [(0.0, 300.0), (310.0, 400.0), (900.0, 990.0)])
def test_a_useless_action_is_ineffective_when_nothing_old_counts(
    journal: Journal, window: float, after: float
) -> None:
    windowed = Windowed(journal, window, works=False)

    did, ended = windowed.play(after + 10)

    assert (did, ended) == (["run", "undo"], ["ineffective"])
    run = windowed.world.runs()[0]
    assert run.verify_from == NOW
    assert run.finished_at == NOW + after
    looks = journal.read(lambda t: t.observations(run.id))
    reach = NOW + window + SCRAPE
    assert all(("from before the action counts" in one.detail) is (one.at < reach) for one in looks)


def test_while_nobody_knows_how_far_back_it_looks_nothing_is_called_ineffective(
    journal: Journal,
) -> None:
    windowed = Windowed(journal, None, works=False)

    assert windowed.play(310) == (["run"], ["inconclusive"])

    assert "it cannot be read; write a `verify.query`" in windowed.world.runs()[0].reason


def test_a_proof_by_a_query_of_one_s_own_waits_only_for_that_and_then_for_the_rule(
    journal: Journal,
) -> None:
    """Proven at once: but the alert fires on for its two hours, and that is no reason to act."""
    world = World(journal, patient(query="latency > 1"))
    world.verifier.alert_decay = Decay(2 * HOUR, scrape=SCRAPE)
    world.verifier.query_decay = Decay(0.0, scrape=15.0)
    world.fire()
    world.consider()
    (run,) = world.runs()
    assert run.plan is not None
    assert (run.plan.decay, run.plan.alert_decay) == (0.0, 2 * HOUR)
    world.clock.now += 20
    world.verifier.signal = Signal.CLEARED
    world.consider()
    assert world.runs()[0].outcome is Outcome.HEALED

    world.verifier.signal = Signal.FIRING
    for _ in range(119):
        until = world.consider()
        assert world.verdict() == ("wait", "grace_period")
        assert until == NOW + 2 * HOUR + 15.0
        world.clock.now += 60
    assert world.spy.calls == ["run one"]
    assert world.totals("relapses") == {}

    world.clock.now = NOW + 2 * HOUR + 15
    world.consider()
    assert world.spy.calls == ["run one"] * 2, "it fires, and nothing old can be why"


def test_an_alert_that_ended_and_fires_anew_is_not_waited_for(journal: Journal) -> None:
    world = World(journal, patient(query="latency > 1"))
    world.verifier.alert_decay = Decay(2 * HOUR, scrape=SCRAPE)
    world.fire()
    world.consider()
    world.clock.now += 20
    world.verifier.signal = Signal.CLEARED
    world.consider()
    world.clock.now += 1200
    world.verifier.signal = Signal.FIRING
    world.fire(starts_at=world.clock.now - 1)

    world.consider()

    assert world.spy.calls == ["run one"] * 2


def test_who_waits_for_the_target_is_told_until_when(journal: Journal) -> None:
    other = msgspec.structs.replace(patient(), name="other")
    world = World(journal, patient(), other)
    world.verifier.alert_decay = Decay(900.0, scrape=SCRAPE)
    world.fire()
    world.consider()
    world.consider(Key("other", KEY[1]))

    decision = journal.read(lambda t: t.last_decision(Key("other", KEY[1])))
    assert decision is not None
    assert decision.reason == "busy"
    assert decision.detail == "run 1 holds the target; its proof takes until 08:16:30 UTC at most"


# --- held, not blinked ----------------------------------------------------------------------------


def verifying(world: World) -> bool:
    return world.runs()[-1].state is State.VERIFYING


def look(world: World, signal: Signal, after: float) -> None:
    world.clock.now = NOW + after
    world.verifier.signal = signal
    world.consider()


def test_every_look_must_find_it_cleared_for_so_long(journal: Journal) -> None:
    world = World(journal, patient(hold=60.0))
    world.fire()
    world.consider()
    look(world, Signal.CLEARED, 15)
    look(world, Signal.CLEARED, 60)
    assert verifying(world)
    look(world, Signal.FIRING, 70)  # it blinks
    look(world, Signal.CLEARED, 80)
    look(world, Signal.UNKNOWN, 100)
    look(world, Signal.CLEARED, 110)
    look(world, Signal.CLEARED, 169)
    assert verifying(world)
    look(world, Signal.CLEARED, 170)

    (run,) = world.runs()
    assert (run.outcome, run.finished_at) == (Outcome.HEALED, NOW + 170)


def test_what_holds_at_the_deadline_is_waited_for_and_what_ends_after_it_is_not(
    journal: Journal,
) -> None:
    world = World(journal, patient(hold=60.0))
    world.fire()
    world.consider()
    look(world, Signal.CLEARED, 299)
    look(world, Signal.CLEARED, 310)
    assert verifying(world)
    look(world, Signal.FIRING, 320)
    (run,) = world.runs()
    assert run.outcome is Outcome.INEFFECTIVE


# --- relapses -------------------------------------------------------------------------------------


def heal(world: World, *, grace: float = 300.0) -> None:
    """Act on what fires as soon as may be, and prove it."""
    before = len(world.spy.calls)
    world.verifier.signal = Signal.FIRING
    world.consider()
    if len(world.spy.calls) == before:
        world.clock.now += grace
        world.consider()
    world.clock.now += 2
    world.verifier.signal = Signal.CLEARED
    world.consider()


def test_what_fires_again_soon_after_a_heal_is_a_relapse_counted_once(journal: Journal) -> None:
    world = World(journal, patient())
    world.fire()
    heal(world)
    world.clock.now += 30
    world.verifier.signal = Signal.FIRING

    world.fire(starts_at=world.clock.now - 1)
    for _ in range(3):
        world.consider()
        world.clock.now += 1
        world.fire(starts_at=world.clock.now - 10)

    (run, *_) = world.runs()
    assert run.outcome is Outcome.HEALED
    assert run.relapsed_at == NOW + 32
    assert world.totals("relapses") == {("latency",): 1}
    breakers = journal.read(lambda t: t.breakers())
    assert {name: one.failures for name, one in breakers.items()} == {
        "strategy:latency": 1,
        f"target:{KEY[1]}": 1,
    }, "the main one is for everything failing"
    assert journal.read(lambda t: t.dormancy()).failures == 0


def test_the_same_firing_counts_when_prometheus_says_that_it_is_true_again(
    journal: Journal,
) -> None:
    """Nobody has told its end: `group_interval` and `keep_firing_for` swallow short ones."""
    world = World(journal, patient())
    world.fire()
    heal(world)
    world.consider()
    assert world.totals("relapses") == {}, "what the notification said is old"

    world.clock.now += 60
    world.verifier.signal = Signal.UNKNOWN
    world.consider()
    assert world.totals("relapses") == {}, "unknown is not yes"

    world.verifier.signal = Signal.FIRING
    world.consider()
    assert world.totals("relapses") == {("latency",): 1}


def test_while_it_is_paused_what_is_told_counts_and_what_is_not_asked_does_not(
    journal: Journal, tmp_path: Path
) -> None:
    world = World(journal, patient())
    world.fire()
    heal(world)
    world.pause_file = tmp_path / "paused"
    world.pause_file.touch()
    world.clock.now += 10
    world.consider()
    assert world.totals("relapses") == {}

    world.fire(starts_at=world.clock.now - 1)
    world.consider()
    assert world.totals("relapses") == {("latency",): 1}


@pytest.mark.parametrize(("after", "relapse", "counted"), [
    (599, 600.0, True), (601, 600.0, False), (31, 30.0, False), (1, 0.0, False),
])  # fmt: skip
def test_a_relapse_is_soon(journal: Journal, after: float, relapse: float, counted: bool) -> None:
    world = World(journal, patient(relapse=relapse))
    world.fire()
    heal(world)
    world.clock.now += after
    world.verifier.signal = Signal.FIRING
    world.fire(starts_at=world.clock.now - 0.5)
    world.consider()
    assert bool(world.totals("relapses")) is counted


def test_the_alerts_that_were_proven_may_relapse_and_no_other_of_their_target(
    journal: Journal, tmp_path: Path
) -> None:
    """The run had waited for one alert, and began for a newer one too."""
    world = World(journal, patient())
    first, second, other = (
        {"alertname": "HighLatency", "service": "checkout", "instance": name} for name in "abc"
    )
    world.pause_file = tmp_path / "paused"
    world.pause_file.touch()
    world.fire(labels=first)
    world.consider()
    world.pause_file.unlink()
    world.clock.now += 1
    world.fire(labels=second)
    heal(world, grace=0.0)

    world.verifier.signal = Signal.FIRING
    world.clock.now += 1
    world.fire(labels=other, starts_at=NOW)  # before the heal, and told only now
    world.consider()
    assert world.totals("relapses") == {}, "of this one nothing was proven"

    world.clock.now += 1
    world.fire(labels=second)
    world.consider()
    assert world.totals("relapses") == {("latency",): 1}


def test_a_relapse_that_was_told_in_time_counts_however_late_it_is_looked_at(
    journal: Journal,
) -> None:
    world = World(journal, patient())
    world.fire()
    heal(world)
    world.clock.now += 30
    world.fire(starts_at=world.clock.now - 1)
    world.clock.now += 7200
    world.verifier.signal = Signal.FIRING
    world.consider()
    assert world.totals("relapses") == {("latency",): 1}


def test_heals_that_last_for_seconds_open_the_breaker_of_the_target(journal: Journal) -> None:
    world = World(journal, msgspec.structs.replace(patient(), grace_period=1.0))
    world.fire()
    heal(world)
    reasons = []
    for _ in range(9):
        world.clock.now += 30
        world.fire(starts_at=world.clock.now - 1)
        world.verifier.signal = Signal.FIRING
        until = world.consider()
        reasons.append(world.verdict()[1])
        if reasons[-1]:
            world.clock.now = until or world.clock.now
            world.consider()
        world.clock.now += 2
        world.verifier.signal = Signal.CLEARED
        world.consider()

    assert reasons[:4] == [""] * 4
    assert reasons[4] == "breaker_open", "the fifth heal that did not hold"
    assert reasons[-1] == "breaker_permanent_open"
    assert len(world.spy.calls) == 7, "two trials among them"
    assert {run.outcome for run in world.runs() if run.acted_at} == {Outcome.HEALED}
    assert world.totals("relapses") == {("latency",): 7}


# --- inconclusive ---------------------------------------------------------------------------------


def useless(world: World, times: int, *, signal: Signal = Signal.UNKNOWN) -> None:
    """So many runs that nobody can prove, each as soon as may be."""
    done = len(world.runs())
    world.verifier.signal = Signal.FIRING
    for _ in range(times * 50):
        until = world.consider()
        run = world.runs()[-1]
        world.verifier.signal = signal if run.state is State.VERIFYING else Signal.FIRING
        finished = [one for one in world.runs() if one.outcome is not None]
        if len(finished) >= done + times:
            return
        world.clock.now = max(world.clock.now + 1, until or 0.0)


def failures(world: World) -> dict[str, int]:
    breakers = world.journal.read(lambda t: t.breakers())
    return {name.partition(":")[0]: one.failures for name, one in breakers.items()}


def test_from_the_third_in_a_row_on_each_that_proves_nothing_is_a_failure(
    journal: Journal,
) -> None:
    world = World(journal, patient())
    world.fire()
    useless(world, 2)
    assert failures(world) == {}
    useless(world, 1)
    assert failures(world) == {"strategy": 1, "target": 1}
    useless(world, 2)
    assert failures(world) == {"strategy": 3, "target": 3}
    assert journal.read(lambda t: t.dormancy()).failures == 0
    assert {run.outcome for run in world.runs()} == {Outcome.INCONCLUSIVE}
    assert {run.doubt for run in world.runs()} == {Doubt.UNKNOWN}


def test_a_useless_action_that_nothing_can_prove_is_stopped(journal: Journal) -> None:
    world = World(journal, patient())
    world.fire()
    useless(world, 20)
    assert world.verdict()[1] == "breaker_permanent_open"
    assert len(world.spy.calls) == 2 + 5 + 2, "two that say nothing, five failures, two trials"


@pytest.mark.parametrize("proof", [Signal.CLEARED, Signal.FIRING])
def test_a_proof_either_way_ends_the_row(journal: Journal, proof: Signal) -> None:
    world = World(journal, patient(relapse=0.0))
    world.fire()
    useless(world, 2)
    useless(world, 1, signal=proof)
    before = failures(world)
    useless(world, 2)
    assert failures(world) == before


def test_a_prometheus_that_is_away_counts_neither_way(journal: Journal) -> None:
    world = World(journal, patient())
    world.fire()
    world.verifier.unasked = True
    useless(world, 5)
    assert failures(world) == {}
    assert {run.doubt for run in world.runs()} == {Doubt.UNASKED}
    world.verifier.unasked = False
    useless(world, 2)
    world.verifier.unasked = True
    useless(world, 1)
    assert failures(world) == {}, "not even as the third"
    world.verifier.unasked = False
    useless(world, 1)
    assert failures(world) == {"strategy": 1, "target": 1}


def test_rows_of_two_targets_are_two_rows(journal: Journal) -> None:
    world = World(journal, patient())
    other = Key("latency", 'service="other"')
    world.fire()
    useless(world, 2)
    world.fire(labels={"alertname": "HighLatency", "service": "other"})
    world.verifier.signal = Signal.FIRING
    world.consider(other)
    world.verifier.signal = Signal.UNKNOWN
    world.clock.now += 400
    world.consider(other)
    assert failures(world) == {}


def test_the_number_is_the_strategy_s(journal: Journal) -> None:
    thresholds = msgspec.structs.replace(strategy().breaker, inconclusive=1)
    world = World(journal, msgspec.structs.replace(patient(), breaker=thresholds))
    world.fire()
    useless(world, 1)
    assert failures(world) == {"strategy": 1, "target": 1}


def test_heals_that_did_not_hold_are_no_effect(journal: Journal) -> None:
    world = World(journal, patient())
    world.fire()
    heal(world)
    snapshot = journal.read(lambda t: t.stats())
    assert effectiveness(snapshot, "latency") == 1.0
    world.clock.now += 30
    world.verifier.signal = Signal.FIRING
    world.consider()
    assert effectiveness(journal.read(lambda t: t.stats()), "latency") == 0.0


def ended(relapses: float = 0.0, **outcomes: float) -> Stats:
    """A snapshot of a journal in which so many runs of each outcome have ended."""
    totals: dict[tuple[str, tuple[str, ...]], float] = {
        ("heals", ("latency", outcome)): number for outcome, number in outcomes.items()
    }
    return Stats(
        totals={**totals, ("heals", ("other", "healed")): 50, ("relapses", ("latency",)): relapses},
        ages={}, firing={}, open_alerts=0, in_progress={}, states={}, waiting={}, workers=(),
        without_worker=0, size_bytes=0,
    )  # fmt: skip


@pytest.mark.parametrize("outcome", sorted(FAILURES))
def test_every_failure_counts_against_a_strategy(outcome: Outcome) -> None:
    assert effectiveness(ended(healed=1, **{outcome: 9}), "latency") == 0.1


@pytest.mark.parametrize("outcome", sorted({*Outcome} - FAILURES - {Outcome.HEALED}))
def test_what_proves_nothing_says_nothing_of_a_strategy(outcome: Outcome) -> None:
    assert effectiveness(ended(healed=9, failed=1, **{outcome: 90}), "latency") == 0.9
    assert math.isnan(effectiveness(ended(**{outcome: 90}), "latency"))


def test_the_effect_is_never_less_than_none() -> None:
    assert effectiveness(ended(healed=1, failed=1, relapses=3), "latency") == 0.0
    assert effectiveness(ended(healed=4, failed=4, relapses=1), "latency") == 3 / 8
