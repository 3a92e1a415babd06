"""kill -9, wherever it hits: nothing accepted is lost, nothing unrepeatable is done again.

The points are made from outside, by actions that are held in the middle of what they do. Most are
in one promheal, `crashed`: twelve runs, each at another point, are hit by the same stroke. With
`RELIABILITY=full` each is hit twenty times.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import pytest

from tests.acceptance.server import (
    HELD,
    PATIENCE,
    RESUMED,
    Event,
    Promheal,
    Sender,
    Spies,
    Undaunted,
    alert,
    alive,
    notification,
    strategy,
)
from tests.chain import free_port, wait_until
from tests.figures import Record, scaled

Runs = dict[str, list[dict[str, Any]]]
ONE: Final = [{"runs": 1, "per": "1h"}]
LONG: Final = 20.0
"""Seconds for what must last until all runs are at their points."""

KILLS: Final = scaled(1, 20)
"""How often each point is hit."""

HELD_SPIES: Final = (
    "once", "undoable", "again", "second", "second-again", "undo-again", "undo-once", "owner"
)  # fmt: skip


def strategies(spies: Spies) -> dict[str, Any]:
    step = spies.step
    wait = {"action": "wait", "duration": f"{LONG:g}s"}
    return {
        # Killed in the middle of a step.
        "once": strategy(step("once"), match="Once"),
        "undoable": strategy(step("undoable", undo="undo-undoable"), match="Undoable"),
        "again": strategy(step("again", idempotent=True), match="Again"),
        "second": strategy(
            step("first", undo="undo-first"), step("second", undo="undo-second"), match="Second"
        ),
        "second-again": strategy(
            step("first-done"), step("second-again", idempotent=True), match="SecondAgain"
        ),
        # Killed in the middle of a rollback.
        "undo-again": strategy(
            step("fails", undo="undo-again", idempotent=True), match="UndoAgain"
        ),
        "undo-once": strategy(
            step("before", undo="undo-before"),
            step("fails-too", undo="undo-once"),
            match="UndoOnce",
        ),
        # Killed while nothing of it runs.
        "wait": strategy(step("before-wait"), wait, step("after-wait"), match="Wait"),
        "verify": strategy(step("verified"), match="Verify", verify={"within": f"{LONG:g}s"}),
        "grace": strategy(step("in-grace"), match="Grace", grace_period=f"{LONG:g}s"),
        # Killed while it is held up by another one.
        "owner": strategy(step("owner"), match="Owner", target=["host"]),
        "next": strategy(step("next"), match="Next", target=["host"], grace_period="0", budget=ONE),
        "slot": strategy(step("slot"), match="Slot"),
    }


class Crashed:
    """A promheal that was killed and started again, and what was known before and after."""

    def __init__(self, folder: Path) -> None:
        self.spies = Spies(folder / "spies")
        self.spies.hold(*HELD_SPIES)
        self.spies.fail("fails")
        self.spies.fail("fails-too")
        what = {name: {**one, "when_blind": "act"} for name, one in strategies(self.spies).items()}
        self.names = list(what)
        self.server = Undaunted(
            folder,
            what,
            prometheus={"url": f"http://127.0.0.1:{free_port()}"},  # nobody is there
            engine={"max_concurrent_runs": len(HELD_SPIES)},
        )
        self.before: Runs = {}
        self.started_before: list[str] = []
        self.survivors: list[Event] = []
        """Spies that had not ended when promheal was killed."""

    def bring_about(self) -> None:
        server = self.server
        server.post(alert("Grace"))
        server.until("grace", lambda runs: len(runs) == 2, "wants to act again")
        server.post(alert("Verify"), alert("Wait"))
        server.until("verify", lambda runs: runs and runs[0]["state"] == "verifying", "verifies")
        server.until("wait", lambda runs: runs and runs[0]["state"] == "waiting", "waits")
        server.post(
            *(alert(name) for name in ("Once", "Undoable", "Again", "Second", "SecondAgain")),
            *(alert(name) for name in ("UndoAgain", "UndoOnce")),
            alert("Owner", host="h1"),
        )
        for name in HELD_SPIES:
            self.spies.started(name)
        server.post(alert("Slot"), alert("Next", host="h1"))
        server.until("slot", len, "is queued")
        self.alerts_before = set(server.alerts())
        self.totals_before = server.metrics()
        self.before = {
            name: [server.run(run["id"]) for run in server.runs(name)] for name in self.names
        }
        server.kill9()
        self.killed_at = time.time()
        self.started_before = self.spies.starts()
        ended = {event.pid for event in self.spies.events() if event.event == "end"}
        self.survivors = [event for event in self.spies.events() if event.pid not in ended]
        for event in self.survivors:
            wait_until(lambda: not alive(event.pid), what=f"{event.name} is over")
        self.spies.release()
        server.start()

    def run(self, name: str) -> dict[str, Any]:
        """The first run of a strategy, once it is finished."""
        found = self.server.finished(name)[0]
        assert found["id"] == self.before[name][0]["id"], "it is the same run that goes on"
        return found

    def resumed(self, at: float) -> bool:
        """Whether something at that time came soon enough after the start."""
        return at <= self.server.ready_at + RESUMED


@pytest.fixture
def _point(record_property: Record) -> None:
    record_property("points of a run", 1 / KILLS)


a_point = pytest.mark.usefixtures("_point")
"""Of a run's life; each of its tests is one, as often as it is hit."""


@pytest.fixture(scope="module", params=range(KILLS))
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashed]:
    done = Crashed(tmp_path_factory.mktemp("crashed"))
    with done.server:
        done.bring_about()
        yield done


def steps(run: dict[str, Any], phase: str = "run") -> list[tuple[str, int]]:
    """The state and the attempt of each step, in the order of the plan."""
    found = [step for step in run["steps"] if step["phase"] == phase]
    return [(s["state"], s["attempt"]) for s in sorted(found, key=lambda s: int(s["index"]))]


def finished_at(run: dict[str, Any], index: int, phase: str = "run") -> float:
    (found,) = [s for s in run["steps"] if (s["phase"], s["index"]) == (phase, index)]
    return float(found["finishedAt"])


def test_every_run_was_hit_at_its_own_point(crashed: Crashed) -> None:
    """The other tests rest on it."""
    states = {name: runs[0]["state"] for name, runs in crashed.before.items() if runs}
    assert states == {
        **dict.fromkeys(("once", "undoable", "again", "second", "second-again"), "acting"),
        **dict.fromkeys(("undo-again", "undo-once"), "rolling_back"),
        "wait": "waiting",
        "verify": "verifying",
        "grace": "finished",
        "owner": "acting",
        "slot": "pending",  # and "next" stands in the line of its target
    }
    assert {event.name for event in crashed.survivors} == set(HELD_SPIES)
    reasons = {name: crashed.before[name][-1]["reason"] for name in ("grace", "slot")}
    assert reasons == {"grace": "grace_period", "slot": "concurrency"}


def test_nothing_that_was_accepted_is_lost(crashed: Crashed) -> None:
    assert crashed.alerts_before == set(crashed.server.alerts())
    after = {run["id"] for run in crashed.server.runs()}
    assert {run["id"] for runs in crashed.before.values() for run in runs} <= after


def test_no_action_survives_the_promheal_that_started_it(crashed: Crashed) -> None:
    """They were all gone before the start: none got as far as its last word."""
    assert len(crashed.survivors) == len(HELD_SPIES)
    gone = {event.pid for event in crashed.survivors}
    assert [e for e in crashed.spies.events() if e.event == "end" and e.pid in gone] == []


@a_point
def test_killed_in_a_step_that_may_not_be_repeated_its_end_is_unknown(crashed: Crashed) -> None:
    run = crashed.run("once")
    assert (run["outcome"], steps(run)) == ("unknown", [("unknown", 1)])
    assert run["reason"] == "promheal ended during command"
    assert crashed.spies.starts("once") == ["once"]
    assert crashed.resumed(run["finishedAt"])


@a_point
def test_killed_in_a_step_that_can_be_undone_it_is_undone(crashed: Crashed) -> None:
    run = crashed.run("undoable")
    assert (run["outcome"], steps(run)) == ("unknown", [("unknown", 1)])
    assert steps(run, "rollback") == [("done", 1)]
    assert crashed.spies.starts("undoable", "undo-undoable") == ["undoable", "undo-undoable"]
    # What it had come to is not known, and so not said.
    assert crashed.spies.started("undo-undoable").known_exit == "-"
    assert crashed.resumed(crashed.spies.started("undo-undoable").at)


@a_point
def test_killed_in_an_idempotent_step_it_is_repeated(crashed: Crashed) -> None:
    run = crashed.run("again")
    assert (run["outcome"], steps(run)) == ("inconclusive", [("done", 2)])
    assert crashed.spies.starts("again") == ["again", "again"]
    assert crashed.resumed(crashed.spies.started("again", 2).at)


@a_point
def test_killed_in_the_second_step_both_are_undone_in_reverse(crashed: Crashed) -> None:
    run = crashed.run("second")
    assert (run["outcome"], steps(run)) == ("unknown", [("done", 1), ("unknown", 1)])
    assert steps(run, "rollback") == [("done", 1), ("done", 1)]
    order = crashed.spies.starts("first", "second", "undo-first", "undo-second")
    assert order == ["first", "second", "undo-second", "undo-first"]
    assert crashed.spies.started("undo-second").known_exit == "-"
    assert crashed.spies.started("undo-first").known_exit == "0"


@a_point
def test_killed_in_the_second_step_the_first_is_not_repeated(crashed: Crashed) -> None:
    run = crashed.run("second-again")
    assert (run["outcome"], steps(run)) == ("inconclusive", [("done", 1), ("done", 2)])
    order = crashed.spies.starts("first-done", "second-again")
    assert order == ["first-done", "second-again", "second-again"]


@a_point
def test_killed_in_an_idempotent_undoing_it_is_repeated(crashed: Crashed) -> None:
    run = crashed.run("undo-again")
    assert (run["outcome"], steps(run)) == ("rolled_back", [("failed", 1)])
    assert steps(run, "rollback") == [("done", 2)]
    assert crashed.spies.starts("fails", "undo-again") == ["fails", "undo-again", "undo-again"]
    assert crashed.resumed(crashed.spies.started("undo-again", 2).at)


@a_point
def test_killed_in_another_undoing_a_person_must_look_and_the_rest_is_undone(
    crashed: Crashed,
) -> None:
    run = crashed.run("undo-once")
    assert (run["outcome"], steps(run)) == ("rollback_failed", [("done", 1), ("failed", 1)])
    assert steps(run, "rollback") == [("done", 1), ("unknown", 1)]
    order = crashed.spies.starts("before", "fails-too", "undo-once", "undo-before")
    assert order == ["before", "fails-too", "undo-once", "undo-before"]


@a_point
def test_killed_while_it_waits_for_a_slot_it_gets_one(crashed: Crashed) -> None:
    run = crashed.run("slot")
    assert run["outcome"] == "inconclusive"
    assert crashed.spies.starts("slot") == ["slot"]
    # All slots were taken again at the start; they became free when those runs had ended.
    assert crashed.resumed(run["actedAt"] - 5.0)


@a_point
def test_killed_while_another_run_holds_its_target_it_waits_for_that_one(crashed: Crashed) -> None:
    owner, run = crashed.run("owner"), crashed.server.finished("next")[0]
    assert owner["outcome"] == "unknown"
    assert run["outcome"] == "inconclusive"
    assert run["actedAt"] >= owner["finishedAt"]
    assert crashed.spies.starts("owner", "next") == ["owner", "next"]


# ── points that need a promheal of their own ──


@pytest.fixture(params=range(KILLS))
def spies(tmp_path: Path) -> Spies:
    return Spies(tmp_path / "spies")


@a_point
def test_killed_right_after_the_202_the_alert_is_handled_once(tmp_path: Path, spies: Spies) -> None:
    """Whether its action had begun by then is up to chance: it may be repeated, so it is done."""
    server = Undaunted(
        tmp_path, {"x": strategy(spies.step("x", idempotent=True), match="X")}
    ).start()
    one = alert("X")
    assert server.post(one).status == 202
    server.kill9()
    with server:
        assert set(server.alerts()) == {one["fingerprint"]}
        (run,) = server.finished("x")
        assert run["outcome"] == "inconclusive"
        assert len([e for e in spies.events() if e.event == "end"]) == 1


@a_point
def test_killed_twice_in_a_row_the_third_attempt_ends(tmp_path: Path, spies: Spies) -> None:
    spies.hold("x")
    server = Undaunted(tmp_path, {"x": strategy(spies.step("x", idempotent=True), match="X")})
    server.start()
    server.post(alert("X"))
    for attempt in (1, 2):
        event = spies.started("x", attempt)
        server.kill9()
        wait_until(lambda: not alive(event.pid), what="the action is over")
        if attempt == 2:
            spies.release("x")
        server.start()
    with_end = server.finished("x")[0]
    server.stop()
    assert (with_end["outcome"], steps(with_end)) == ("inconclusive", [("done", 3)])
    assert spies.starts() == ["x"] * 3
    assert [event.event for event in spies.events()].count("end") == 1


@a_point
def test_killed_while_it_undoes_what_a_crash_had_left(tmp_path: Path, spies: Spies) -> None:
    """A crash during the recovery from a crash."""
    spies.hold("x", "undo-x")
    server = Undaunted(tmp_path, {"x": strategy(spies.step("x", undo="undo-x"), match="X")}).start()
    server.post(alert("X"))
    spies.started("x")
    server.kill9()
    server.start()
    spies.started("undo-x")
    server.kill9()
    spies.release()
    with server:
        (run,) = server.finished("x")
        assert (run["outcome"], steps(run)) == ("rollback_failed", [("unknown", 1)])
        assert steps(run, "rollback") == [("unknown", 1)]
        assert spies.starts() == ["x", "undo-x"]


@a_point
def test_killed_while_it_ends_after_a_sigterm(tmp_path: Path, spies: Spies) -> None:
    spies.hold("x")
    server = Undaunted(tmp_path, {"x": strategy(spies.step("x"), match="X")}).start()
    server.post(alert("X"))
    event = spies.started("x")
    server.terminate()
    wait_until(lambda: "Worker exiting" in server.tail(), within=60, what="it begins to end")
    assert alive(event.pid)
    server.kill9()
    wait_until(lambda: not alive(event.pid), what="the action is over")
    spies.release()
    with server:
        (run,) = server.finished("x")
        assert (run["outcome"], steps(run)) == ("unknown", [("unknown", 1)])
        assert spies.starts() == ["x"]


def test_killed_in_the_worker_alone_another_one_goes_on(tmp_path: Path, spies: Spies) -> None:
    """As the kernel does when memory is short: gunicorn's arbiter lives and starts another."""
    spies.hold("x")
    strategies = {"x": strategy(spies.step("x", idempotent=True), match="X")}
    with Undaunted(tmp_path, strategies) as server:
        server.post(alert("X"))
        event = spies.started("x")
        os.kill(server.worker(), signal.SIGKILL)
        wait_until(lambda: not alive(event.pid), what="the action is over")
        spies.release()
        server.wait_ready()
        (run,) = server.finished("x")
        assert (run["outcome"], steps(run)) == ("inconclusive", [("done", 2)])


def test_killed_in_the_arbiter_alone_all_of_it_ends(tmp_path: Path, spies: Spies) -> None:
    """An orphan that goes on acting would act beside the next one."""
    with Undaunted(tmp_path, {"x": strategy(spies.step("x"), match="X")}) as server:
        worker = server.worker()
        assert server.process is not None
        server.process.kill()
        server.ended()
        wait_until(lambda: not alive(worker), within=60, what="the worker ends too")
        server.start()
        server.post(alert("X"))
        server.finished("x")


@contextmanager
def refusing(server: Promheal, condition: str) -> Iterator[None]:
    """Have the journal refuse what *condition* says of a run's new row: a point between commits."""
    if server.shared:
        server.sql(
            "create function refuse() returns trigger language plpgsql as "
            "$$ begin raise 'refused by a test'; end $$",
            f"create trigger refuse before update on run for each row when ({condition}) "
            "execute function refuse()",
        )
        yield
        server.sql("drop trigger refuse on run", "drop function refuse")
        return
    server.sql(
        f"create trigger refuse before update on run when {condition} "
        "begin select raise(abort, 'refused by a test'); end"
    )
    yield
    server.sql("drop trigger refuse")


@a_point
def test_killed_between_the_failure_of_a_step_and_what_follows_from_it(
    tmp_path: Path, spies: Spies
) -> None:
    """The step is written down as failed, the rollback has not begun: nothing goes forward."""
    spies.fail("fails")
    step = spies.step
    steps_ = [step("done", undo="undo"), step("fails", idempotent=True), step("never")]
    server = Undaunted(tmp_path, {"x": strategy(*steps_, match="X")}).start()
    with refusing(server, "new.state = 'rolling_back'"):
        server.post(alert("X"))
        wait_until(lambda: "refused by a test" in server.tail(), within=PATIENCE, what="refused")
        server.kill9()
    with server:
        (run,) = server.finished("x")
        assert (run["outcome"], steps(run)) == ("rolled_back", [("done", 1), ("failed", 1)])
        assert steps(run, "rollback") == [("done", 1)]
        assert "ended with exit code 1" in run["reason"]
        assert spies.starts() == ["done", "fails", "undo"]


@a_point
def test_killed_between_the_recovery_of_a_step_and_the_end_of_its_run(
    tmp_path: Path, spies: Spies
) -> None:
    """The second crash finds a step that the first one had made unknown."""
    spies.hold("x")
    server = Undaunted(
        tmp_path, {"x": strategy(spies.step("x"), spies.step("never"), match="X")}
    ).start()
    server.post(alert("X"))
    spies.started("x")
    with refusing(server, "new.state = 'finished'"):
        server.kill9()
        server.start()
        wait_until(lambda: "refused by a test" in server.tail(), within=PATIENCE, what="refused")
        server.kill9()
    spies.release()
    with server:
        (run,) = server.finished("x")
        assert (run["outcome"], steps(run)) == ("unknown", [("unknown", 1)])
        assert run["reason"] == "promheal ended during command"
        assert spies.starts() == ["x"]


# ── at random ──


def hit_at_random(tmp_path: Path, *, alerts: int, kills: int, seed: int) -> None:
    """Post *alerts* while promheal is killed *kills* times; what was answered 202 must be there.

    Sends again what was not answered, as Alertmanager does. Half of the actions may be repeated.
    """
    spies = Spies(tmp_path / "spies")
    chance = random.Random(seed)
    server = Undaunted(
        tmp_path,
        {
            "once": strategy(spies.step("once"), match="Once"),
            "again": strategy(spies.step("again", idempotent=True), match="Again"),
        },
    )
    accepted: set[str] = set()
    done = threading.Event()

    def send(share: int) -> None:
        for number in range(share, alerts, 4):
            one = alert("Once" if number % 2 else "Again", number=str(number))
            body = json.dumps(notification(one)).encode()
            while not done.is_set():
                sender = Sender(server)
                try:
                    if sender.post(body) == 202:
                        accepted.add(one["fingerprint"])
                        break
                except (OSError, HTTPException):
                    time.sleep(0.05)
                finally:
                    sender.close()

    with server, ThreadPoolExecutor(4) as pool:
        try:
            sending = [pool.submit(send, share) for share in range(4)]
            for number in range(1, kills + 1):
                goal = number * alerts // (kills + 1)
                wait_until(lambda: len(accepted) >= goal, within=120, what=f"{goal} are accepted")
                time.sleep(chance.random() * 0.3)
                server.kill9()
                server.start()
            for one in sending:
                one.result(timeout=120)
        finally:
            done.set()
        assert len(accepted) == alerts
        assert set(server.alerts()) == accepted
        targets = {f'fingerprint="{one}"' for one in accepted}

        def runs() -> list[dict[str, Any]]:
            return [run for run in server.runs() if run["actedAt"] is not None]

        wait_until(
            lambda: {r["target"] for r in runs() if r["state"] == "finished"} == targets,
            within=300,
            what="each alert has a run that is finished",
        )
        assert [run for run in runs() if run["state"] in HELD] == []
        assert len(runs()) == alerts, "and not more than one"
        started = [event.fingerprint for event in spies.events("once") if event.event == "start"]
        assert len(started) == len(set(started)), "what may not be repeated was not"
        outcomes = {run["target"]: run["outcome"] for run in runs()}
        assert set(outcomes.values()) <= {"inconclusive", "unknown"}
        again = [run for run in runs() if run["strategy"] == "again"]
        assert {run["outcome"] for run in again} == {"inconclusive"}
        said = {f'fingerprint="{e.fingerprint}"' for e in spies.events() if e.event == "end"}
        assert {target for target, outcome in outcomes.items() if outcome != "unknown"} <= said


def test_five_kills_at_random_lose_nothing(tmp_path: Path, record_property: Record) -> None:
    kills = scaled(5, 500)
    hit_at_random(tmp_path, alerts=scaled(100, 2_000), kills=kills, seed=1)
    record_property("kills at random", kills)


@pytest.mark.slow
def test_twelve_kills_at_random_lose_nothing(tmp_path: Path) -> None:
    hit_at_random(tmp_path, alerts=240, kills=12, seed=2)


# ── what `crashed` goes on with until now ──


@a_point
def test_killed_between_two_steps_the_timer_goes_on_and_does_not_begin_anew(
    crashed: Crashed,
) -> None:
    (before,) = crashed.before["wait"]
    run = crashed.run("wait")
    assert (run["outcome"], steps(run)) == ("inconclusive", [("done", 1)] * 3)
    assert crashed.spies.starts("before-wait", "after-wait") == ["before-wait", "after-wait"]
    until, resumed = before["until"], finished_at(run, 1)
    assert until <= resumed
    assert resumed <= until + RESUMED or crashed.resumed(resumed)


@a_point
def test_killed_while_verifying_it_is_asked_on_until_the_same_deadline(crashed: Crashed) -> None:
    (before,) = crashed.before["verify"]
    run = crashed.run("verify")
    assert run["outcome"] == "inconclusive"
    assert crashed.spies.starts("verified") == ["verified"]
    assert run["verifyFrom"] == before["verifyFrom"]
    deadline = run["verifyFrom"] + LONG
    assert run["finishedAt"] >= deadline
    assert run["finishedAt"] <= deadline + RESUMED or crashed.resumed(run["finishedAt"])
    looks = [look["at"] for look in run["observations"]]
    assert [look["at"] for look in before["observations"]] == looks[: len(before["observations"])]
    assert looks[-1] > crashed.killed_at


@a_point
def test_killed_in_the_grace_period_it_acts_when_that_is_over(crashed: Crashed) -> None:
    first, before = crashed.before["grace"]
    _, second = crashed.server.finished("grace", 2)[:2]
    assert second["id"] == before["id"]
    assert before["until"] == pytest.approx(first["finishedAt"] + LONG, abs=0.01)
    assert second["actedAt"] >= before["until"]
    assert second["actedAt"] <= before["until"] + RESUMED or crashed.resumed(second["actedAt"])


def test_totals_count_on_after_the_crash(crashed: Crashed) -> None:
    crashed.server.finished("grace", 2)
    after = crashed.server.metrics()
    totals = [series for series in after if series[0].endswith("_total")]
    ours = [series for series in totals if series[0].startswith("promheal_")]
    assert len(ours) > 100
    assert [s for s in ours if after[s] < crashed.totals_before.get(s, 0)] == []
    command = "promheal_actions_total", frozenset({("action", "command"), ("outcome", "unknown")})
    assert (crashed.totals_before[command], after[command]) == (0, 5)
