"""The life of a run, held to a model that knows only what the documentation says of it.

Two strategies of three steps each want the same target. Every call of an action does what the
script says, `dies` among it: kill -9 in the middle of it. promheal also dies before and after any
commit, and people cancel at any moment. The model is told all that, and predicts each call, each
step, each outcome and when to look again.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from receiver.actions import Later
from receiver.errors import ActionError, RefusedError
from receiver.healing import control, execution, settling
from receiver.journal import open_journal
from receiver.policy.breaker import Breaker
from receiver.policy.life import TABLE, LifeEvent, Transition, transition
from receiver.policy.run import Run, State
from receiver.policy.signal import Signal
from receiver.policy.target import Key
from tests.factories import alert, notification, resolved
from tests.figures import Record
from tests.machines.run_model import (
    APPROVAL,
    AT_MOST,
    GRACE,
    HOLDING,
    LATER,
    STALE,
    START,
    WITHIN,
    Act,
    Death,
    Killed,
    Model,
    Script,
    Step,
    Wish,
)
from tests.machines.run_server import NAMES, Mortal, Prometheus, Scripted, Server, configured

STEPS: Final = 10_000
EXAMPLES: Final = 205
LENGTH: Final = 60

TARGET: Final = 'service="checkout"'
MEMORY: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Nothing here dies so that fsync matters, and a slow disk would make minutes of it."""

done: Counter[str] = Counter()


def script(*whats: str, cancelled: int) -> st.SearchStrategy[list[Act]]:
    """What the next calls do; one in *cancelled* is one during which a person cancels."""
    one = st.builds(
        Act, st.sampled_from(whats), st.sampled_from([False] * (cancelled - 1) + [True])
    )
    return st.lists(one, max_size=5)


acts = script(
    "works", "works", "works", "cures", "cures", "fails", "fails", "raises", "skips",
    "later", "later", "dies", "dies", cancelled=10,
) | st.permutations([Act("dies"), Act("skips"), Act("later")])  # fmt: skip
undos = script("works", "works", "works", "fails", "raises", "dies", "dies", cancelled=4)
wishes = st.builds(
    Wish,
    st.tuples(
        *[st.builds(Step, st.sampled_from([True] * 4 + [False]), st.booleans(), st.booleans())] * 3
    ),
    st.sampled_from([False, False, False, True]),
    st.sampled_from([0.0, 0.0, 0.0, 150.0, 300.0, None]),
)
names = st.sampled_from(NAMES)
signals = st.sampled_from([Signal.FIRING, Signal.FIRING, Signal.CLEARED, Signal.UNKNOWN])
questions = st.sampled_from([0, 0, 0, 0, 0, 1, 2])
mostly = st.sampled_from([True, True, True, False])


class Lives(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY)
        self.model = Model()
        self.script = Script()
        self.calls: list[str] = []
        self.answers: list[str] = []
        self.again: Counter[str] = Counter()
        """Calls of a step, but for those that its own `Later` asked for."""
        self.considered = NAMES[0]
        self.faults: list[str] = []
        self.ended: dict[int, Run] = {}
        self.server = self.made(Prometheus(), START)

    def made(self, verifier: Prometheus, now: float) -> Server:
        journal = Mortal(open_journal(f"sqlite:///{self.folder.name}/journal.db"))
        server = Server(journal, verifier, now, Scripted(self.does))
        server.strategies = configured(self.model.wish)
        verifier.meanwhile = self.meanwhile
        verifier.remember(self.model.wish.remembers)
        return server

    def teardown(self) -> None:
        done["inconclusive, and a failure"] += self.model.doubts_counted
        done["relapsed, and took back"] += self.model.taken_back
        self.server.journal.close()
        self.folder.cleanup()

    def key(self, name: str) -> Key:
        return Key(name, TARGET)

    # -- what happens while promheal works

    def does(self, run: int, phase: str, said: str) -> dict[str, Any] | Later:
        act = self.script.next_call(phase)
        self.server.clock.now += 1.0
        self.calls.append(said)
        self.again[said] += 1
        states = [str(one.state) for one in self.server.runs() if one.state in HOLDING]
        if states != ["acting" if phase == "run" else "rolling_back"]:
            self.faults.append(f"{said} while {states}")  # what is raised here is a step's failure
        if act.cancelled:
            done[f"cancelled when {'acting' if phase == 'run' else 'rolling_back'}"] += 1
            self.cancel_run(run)
        done[f"{phase} {act.what}"] += 1
        match act.what:
            case "cures":
                self.server.verifier.signal = Signal.CLEARED
            case "fails":
                raise ActionError("it failed")
            case "raises":
                raise ZeroDivisionError("of course")
            case "dies":
                raise Killed
            case "later":
                self.again[said] -= 1
                return Later(self.server.clock.now + LATER)
            case "skips":
                done["begun anew, and then nothing to do"] += self.again[said] > 1
                return {"skipped": "nothing to do"}
            case _:
                pass
        return {"did": said}

    def meanwhile(self) -> None:
        """Prometheus is being asked."""
        if self.script.is_asked():
            key = self.key(self.considered)
            run = self.server.journal.read(lambda t: t.unfinished(key))
            if run is not None:
                done["cancelled while Prometheus was asked"] += 1
                self.cancel_run(run.id)

    def cancel_run(self, run: int) -> None:
        mortal = self.server.mortal
        fuse, mortal.commits = mortal.commits, None  # it is not this commit at which it dies
        try:
            self.server.control.cancel(run, by="anna", reason="stop")
        except RefusedError:
            self.answers.append("refused")
        else:
            self.answers.append("accepted")
        mortal.commits = fuse

    # -- what arrives

    @rule()
    def notify(self) -> None:
        self.pass_time(0.5)
        model = self.model
        if not model.fires:
            model.fires, model.first_seen = True, model.now
        model.seen = model.now
        self.server.intake.admit(notification(alert(starts_at=model.first_seen)))

    @rule()
    def resolve(self) -> None:
        self.server.intake.admit(notification(resolved(alert(), ends_at=self.model.now)))
        self.model.fires = False
        self.pass_time(1.0)

    @rule(seconds=st.sampled_from([0.5, 5.0, 30.0, 31.0, 100.0, 3_599.0, 3_600.0, 6_000.0]))
    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)

    @rule(signal=signals)
    def prometheus_says(self, signal: Signal) -> None:
        self.server.verifier.signal, self.model.signal = signal, str(signal)

    @rule(reachable=mostly)
    def prometheus_answers(self, *, reachable: bool) -> None:
        """When it says nothing, that is so because it cannot be asked, or has no data."""
        self.server.verifier.unasked, self.model.reachable = not reachable, reachable

    @precondition(lambda self: self.model.holds() is None)
    @rule(name=names)
    def nobody_can_tell(self, name: str) -> None:
        """It is said to fire, and Prometheus cannot tell."""
        self.prometheus_says(Signal.UNKNOWN)
        self.notify()
        self.consider(name)

    @rule(runs=acts, undos=undos, asked=questions)
    def rehearse(self, runs: list[Act], undos: list[Act], asked: int) -> None:
        self.script, self.model.script = Script(runs, undos, asked), Script(runs, undos, asked)

    @rule(wish=wishes)
    def reload(self, wish: Wish) -> None:
        self.model.wish = wish
        self.server.strategies = configured(wish)
        self.server.verifier.remember(wish.remembers)

    def pass_time(self, seconds: float) -> None:
        self.model.now += seconds
        self.server.clock.now += seconds

    # -- people

    @precondition(lambda self: self.model.lives)
    @rule(which=st.integers(0, 9))
    def cancel(self, which: int) -> None:
        lives = [one for one in self.model.lives if one.outcome is None or which == 0]
        if not lives:
            return
        life = lives[which % len(lives)]
        done[f"cancelled when {life.state}"] += 1
        self.server.woken.clear()
        self.cancel_run(life.id)
        self.model.cancel(life)
        if life.cancel and self.answers[-1] == "accepted":
            assert self.key(life.name) in self.server.woken

    @precondition(lambda self: self.model.pending())
    @rule(yes=mostly)
    def answer(self, *, yes: bool) -> None:
        (life, *_) = self.model.pending()
        control = self.server.control
        try:
            (control.approve if yes else control.reject)(life.id, by="ben", reason="looked at it")
        except RefusedError:
            assert life.waits_for != "awaiting_approval"
            return
        assert life.waits_for == "awaiting_approval"
        done["approved" if yes else "rejected by a person"] += 1
        if yes:
            life.approved_at = self.model.now
        else:
            self.model.noes[life.name] = self.model.now
            self.model.finish(life, "cancelled")

    # -- the engine

    @rule()
    def restart(self) -> None:
        before = self.server
        before.journal.close()
        self.server = self.made(before.verifier, before.clock.now)
        self.server.reconciler.resync()

    @rule(name=names)
    def consider(self, name: str) -> None:
        self.look_at(name)

    @rule(name=names, commit=st.integers(1, 12), after=st.booleans())
    def die(self, name: str, commit: int, *, after: bool) -> None:
        # A question whose answer is lost is asked again: only the first of them is the same one.
        asked = self.script.asked if self.script.asked == 1 else 0
        self.script.asked = self.model.script.asked = asked
        self.server.mortal.commits, self.server.mortal.after = commit, after
        held = self.model.holds()
        self.look_at(name if held is None else held.name)

    @precondition(lambda self: self.model.holds() is None)
    @rule(name=names, wish=wishes, runs=acts, undos=undos, asked=questions, anew=mostly)
    def insist(
        self,
        name: str,
        wish: Wish,
        runs: list[Act],
        undos: list[Act],
        asked: int,
        *,
        anew: bool,
    ) -> None:
        """It fires, and nothing is in the way but people, who may say yes."""
        self.pass_time(GRACE)
        if anew:
            self.resolve()
        self.notify()
        self.prometheus_says(Signal.FIRING)
        self.reload(wish)
        self.rehearse(runs, undos, asked)
        self.consider(name)
        waiting = [life for life in self.model.pending() if life.waits_for == "awaiting_approval"]
        if waiting and anew:
            self.answer(yes=True)
            self.consider(waiting[0].name)

    @precondition(lambda self: self.model.holds() is None)
    @rule(
        name=names,
        how=st.sampled_from(["fails", "raises"]),
        undo=st.sampled_from(["works", "fails", "raises"]),
        answer=st.sampled_from(["yes", "no", "late"]),
    )
    def it_fails(self, name: str, how: str, undo: str, answer: str) -> None:
        """If undoing fails too, the next run is a person's to decide, whatever the mode."""
        self.insist(name, Wish(), [Act(how)], [Act(undo)], 0, anew=True)
        self.insist(name, Wish(), [], [], 0, anew=False)
        if answer == "late":
            self.pass_time(APPROVAL)
        elif self.model.pending():
            self.answer(yes=answer == "yes")
        self.consider(name)

    @precondition(lambda self: self.model.holds() is None)
    @rule(
        name=names,
        remembers=st.sampled_from([None, 0.0, 300.0, 300.0]),
        signal=st.sampled_from([Signal.FIRING, Signal.UNKNOWN]),
        reachable=mostly,
        times=st.integers(1, 5),
    )
    def nothing_proves_it(
        self, name: str, remembers: float | None, signal: Signal, times: int, *, reachable: bool
    ) -> None:
        """And then it fires on: for the old reasons, as far as anybody knows."""
        for _ in range(times):
            self.insist(name, Wish(remembers=remembers), [], [], 0, anew=True)
            self.pass_time(AT_MOST)
            self.prometheus_says(signal)
            self.prometheus_answers(reachable=reachable)
            self.consider(name)
            self.pass_time(GRACE)
            self.prometheus_says(Signal.FIRING)
            self.consider(name)
            if self.model.holds() is not None:
                return

    @precondition(lambda self: self.model.holds() is None)
    @rule(name=names, seconds=st.sampled_from([1.0, GRACE, 599.0, 600.0]), told=st.booleans())
    def it_heals_for_so_long(self, name: str, seconds: float, *, told: bool) -> None:
        """Either the next firing is told, or only Prometheus knows of it."""
        self.insist(name, Wish(), [Act("cures")], [], 0, anew=True)
        self.pass_time(seconds)
        if told:
            self.resolve()
            self.notify()
        self.prometheus_says(Signal.FIRING)
        self.consider(name)

    @precondition(lambda self: self.model.holds() is not None)
    @rule(seconds=st.sampled_from([0.0, LATER, WITHIN, WITHIN]), signal=signals)
    def carry_on(self, seconds: float, signal: Signal) -> None:
        """The time comes for which it waits."""
        held = self.model.holds()
        assert held is not None
        self.pass_time(seconds)
        self.prometheus_says(signal)
        self.consider(held.name)

    @rule(name=names)
    def forget(self, name: str) -> None:
        """Nobody says anything any more, and Prometheus cannot tell."""
        self.pass_time(STALE + 1.0)
        self.prometheus_says(Signal.UNKNOWN)
        self.consider(name)

    def look_at(self, name: str) -> None:
        self.considered = name
        self.server.woken.clear()
        again, died = self.alive(name)
        while died:
            done["died"] += 1
            self.restart()
            wanted = self.server.journal.read(lambda t: t.keys())
            assert set(self.server.woken) >= wanted, "a start brings up all that is under way"
            death = self.found(name)
            if death is not None:
                done[f"died in a {death.phase}"] += 1
                try:
                    self.model.consider(name, death, len(self.calls))
                except Killed:
                    return
                raise AssertionError(f"it died in {death}, where nothing was to be done")
            if len(self.finished()) > sum(life.outcome is not None for life in self.model.lives):
                break  # after the last that there was to be done
            again, died = self.alive(name)  # between two steps: it makes no difference
        self.server.mortal.commits = None
        predicted = self.model.consider(name, None, len(self.calls))
        if died:
            return
        assert again == predicted
        assert {self.key(one) for one in self.model.woken} <= set(self.server.woken)
        if self.model.decided is not None:
            assert self.server.verdict(self.key(name)) == self.model.decided
            done[" ".join(self.model.decided).strip()] += 1
            if self.model.decided == ("wait", "grace_period"):
                assert again is not None
                last = max(life.ended for life in self.model.acted())
                done["waits until it has forgotten"] += again > last + GRACE

    def alive(self, name: str) -> tuple[float | None, bool]:
        try:
            return self.server.consider(self.key(name)), False
        except Killed:
            return None, True

    def found(self, name: str) -> Death | None:
        """Return the step in which it died, if it was in one."""
        run = self.server.journal.read(lambda t: t.unfinished(self.key(name)))
        phase = {"acting": "run", "rolling_back": "rollback"}.get("" if run is None else run.state)
        for one in () if run is None else run.steps:
            if one.phase == phase and one.state == "started":
                return Death(phase, one.index, one.attempt)
        return None

    # -- always

    def finished(self) -> list[Run]:
        return [run for run in self.server.runs() if run.outcome is not None]

    @invariant()
    def it_is_as_predicted(self) -> None:
        model = self.model
        assert self.server.clock.now == model.now
        assert self.calls == model.calls
        assert self.answers == model.answers
        assert not self.faults
        runs = self.server.runs()
        assert len(runs) == len(model.lives)
        for run, life in zip(runs, model.lives, strict=True):
            assert (run.id, run.strategy, run.state, run.outcome, run.until) == (
                life.id, life.name, life.state, life.outcome, life.until,
            ) or run.state == "verifying", (run, life)  # fmt: skip
            assert (run.state, run.cancel != "") == (life.state, life.cancel)
            assert (run.doubt, run.forgets_at, run.relapsed_at) == (
                life.doubt, life.forgets_at, life.relapsed_at,
            ), (run, life)  # fmt: skip
            assert {(s.phase, s.index): (s.state, s.attempt) for s in run.steps} == {
                place: (found.state, found.attempts) for place, found in life.steps.items()
            }
        breakers = self.server.journal.read(lambda t: t.breakers())
        for kind, row in model.rows.items():
            name = {"main": "self-healing-main", "target": f"target:{TARGET}"}.get(kind)
            counted = breakers.get(name or f"strategy:{kind}", Breaker())
            assert counted.failures == row.failures, (kind, counted, row)

    @invariant()
    def promises_are_kept(self) -> None:
        """Those of the documentation, asked of the journal alone."""
        done["steps"] += 1
        runs = self.server.runs()
        assert sum(run.state in HOLDING for run in runs) <= 1, "one holds the target"
        for run in runs:
            if run.id in self.ended:
                before, self.ended[run.id] = self.ended[run.id], run
                if run.relapsed_at != before.relapsed_at:
                    assert before.relapsed_at is None
                    assert run.outcome == "healed"
                    done["relapsed"] += 1
                    before = msgspec.structs.replace(before, relapsed_at=run.relapsed_at)
                assert run == before, "what has ended never changes, but that it may not have held"
            elif run.outcome is not None:
                self.ended[run.id] = run
                self.judge(run)
            done[f"state {run.state}"] += run.outcome is None
            for one in run.steps if run.outcome is None else ():
                done[f"step {one.state}"] += 1

    def judge(self, run: Run) -> None:
        done[f"outcome {run.outcome}"] += 1
        done[f"doubt {run.doubt}"] += run.doubt is not None
        states = {(one.phase, one.index): one.state for one in run.steps}
        done.update(f"step {state}" for state in states.values())
        assert "started" not in states.values(), "what began has an end, or is declared unknown"
        for said, times in self.again.items():
            number, what, index = said.split()[:3]
            if int(number) != run.id:
                continue
            assert run.plan is not None
            repeatable = run.plan.steps[int(index)].params["repeatable"]
            assert times <= 1 or repeatable, f"{said}: {times} times"
            if (
                what == "run"
                and run.plan.rollback
                and run.outcome not in {"healed", "inconclusive"}
            ):
                self.undone(run, int(index))

    def undone(self, run: Run, index: int) -> None:
        states = {(str(one.phase), one.index): str(one.state) for one in run.steps}
        assert run.plan is not None
        if states["run", index] == "skipped" or not run.plan.steps[index].params["undoable"]:
            return
        undoing = states["rollback", index]
        assert undoing == "done" or (
            undoing in {"failed", "unknown"} and run.outcome == "rollback_failed"
        )


EXPECTED: Final = (
    *(f"state {one}" for one in ("pending", "acting", "waiting", "verifying", "rolling_back")),
    *(f"step {one}" for one in ("started", "done", "failed", "skipped", "unknown")),
    *(f"outcome {one}" for one in ("healed", "ineffective", "inconclusive", "failed", "rolled_back",
                                   "rollback_failed", "cancelled", "unknown")),
    *(f"run {one}" for one in ("works", "cures", "fails", "raises", "skips", "later", "dies")),
    *(f"rollback {one}" for one in ("works", "fails", "raises", "dies")),
    *(f"cancelled when {one}" for one in (*HOLDING, "pending", "finished")),
    *(f"doubt {one}" for one in ("unknown", "old_data", "unasked")), "relapsed",
    "relapsed, and took back",
    "inconclusive, and a failure", "waits until it has forgotten", "wait condition_unknown",
    "cancelled while Prometheus was asked", "approved", "rejected by a person",
    "begun anew, and then nothing to do", "died", "died in a run", "died in a rollback",
    "allow", "wait busy", "wait grace_period", "wait awaiting_approval",
    "deny rejected", "deny resolved", "deny stale", "deny approval_expired",
    *(f"{state}: {event}" for state, event in TABLE if event is not LifeEvent.UNPLANNABLE),
)  # fmt: skip


@pytest.mark.slow
def test_every_run_goes_as_the_documentation_says(
    monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    done.clear()

    def counted(state: State, event: LifeEvent, **facts: Any) -> Transition:
        done[f"{state}: {event}"] += 1
        return transition(state, event, **facts)

    for module in (control, execution, settling):
        monkeypatch.setattr(module, "transition", counted)

    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=LENGTH,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],  # to shrink one would take minutes
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )

    record_property("steps", done["steps"])
    assert done["steps"] >= STEPS
    rare = {what: done[what] for what in EXPECTED if done[what] < 3}
    assert not rare, (rare, done)
