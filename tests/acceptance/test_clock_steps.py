"""A person or NTP sets the wall clock of promheal's machine: nothing that it measures may move.

The server is the real one. Its own times begin at the real time and are never wrong here, so they
are compared with this process's clock, which nobody sets.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from tests.acceptance.server import (
    PATIENCE,
    Answer,
    Promheal,
    Spies,
    alert,
    alive,
    only_in_a_file,
    stamp,
    strategy,
)
from tests.acceptance.wall import Misled, Wall
from tests.chain import wait_until

HOUR: Final = 3_600.0
DAY: Final = 86_400.0
STEPS: Final = {"+1h": HOUR, "-1h": -HOUR, "+1d": DAY, "-1d": -DAY}
OPEN_FOR: Final = 2.0
"""Seconds from a trip of the breaker to its trial, and that a short pause lasts."""
BEAT: Final = 0.5
"""Seconds from one resync to the next."""
LATE: Final = 10.0
"""Seconds that a busy machine may be late with anything; little beside any step."""
LONG: Final = {
    "budget": ("budget_exhausted", HOUR),
    "grace": ("grace_period", HOUR),
    "paused": ("paused", HOUR / 2),
    "asked": ("awaiting_approval", HOUR / 2),
}
"""Why the strategies of these names have to wait, and how long: no longer than any step."""
NEVER: Final = {"failures": 10_000}
ENGINE: Final = {
    "resync": f"{BEAT * 1000:.0f}ms",
    "approval": "30m",
    "backoff": {"first": "50ms", "most": "50ms"},
    "dormant_after": 10_000,
    "main_breaker": NEVER,
    "target_breaker": NEVER,
    "storm": {"targets": 100},
}


def tell(server: Promheal, path: str, **fields: Any) -> Answer:
    """Send an object; `for_` is sent as `for`."""
    body = {name.rstrip("_"): value for name, value in fields.items()}
    return server.ask(path, json.dumps(body).encode())


def pause(server: Promheal, name: str, seconds: float) -> float:
    """Pause a strategy; return when that ends."""
    answer = tell(
        server,
        "/api/system/heal/pause",
        scope=f"strategy:{name}",
        reason="a test",
        for_=f"{seconds:g}s",
    )
    assert answer.status == 201
    until: float = answer.json()["until"]
    assert until == pytest.approx(time.time() + seconds, abs=LATE)
    return until


def waiting(server: Promheal) -> dict[str, tuple[str, float]]:
    """Why each strategy waits, and until when."""
    return {run["strategy"]: (run["reason"], run["until"]) for run in server.runs(state="pending")}


def last_logged(server: Promheal) -> float:
    """By the time that stands before it."""
    lines = [line for line in server.tail().splitlines() if line.startswith("ts=")]
    return datetime.fromisoformat(lines[-1].split()[0].removeprefix("ts=")).timestamp()


class Bound:
    """A promheal that is bound by every kind of time that there is."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.spies = spies = Spies(folder / "spies")
        spies.fail("trial")
        spies.hold("trial")
        eager = {"grace_period": "50ms", "budget": []}
        self.server = stack.enter_context(
            Misled(
                folder / "promheal",
                {
                    "budget": strategy(
                        spies.step("budget"),
                        match="Budget",
                        **{**eager, "budget": [{"runs": 1, "per": "1h"}]},
                    ),
                    "grace": strategy(spies.step("grace"), match="Grace", budget=[]),
                    "paused": strategy(spies.step("paused"), match="Paused"),
                    "asked": strategy(spies.step("asked"), match="Asked", mode="approve"),
                    "broken": strategy(
                        spies.step("trial"),
                        match="Broken",
                        breaker={
                            "failures": 1,
                            "open_for": f"{OPEN_FOR:g}s",
                            "permanent_after": 10_000,
                        },
                        **eager,
                    ),
                    "brief": strategy(spies.step("brief"), match="Brief"),
                    "fresh": strategy(spies.step("fresh"), match="Fresh"),
                },
                engine=ENGINE,
            )
        )
        pause(self.server, "paused", LONG["paused"][1])
        names = ("Budget", "Grace", "Paused", "Asked", "Broken")
        assert self.server.post(*(alert(name) for name in names)).status == 202
        wait_until(
            lambda: (
                {name: why for name, (why, _) in self.kept().items()}
                == {name: why for name, (why, _) in LONG.items()}
            ),
            within=PATIENCE,
            what="all of them wait",
        )
        self.ends = {name: until for name, (_, until) in self.kept().items()}
        now = time.time()
        for name, (_, seconds) in LONG.items():
            assert now + seconds - PATIENCE < self.ends[name] < now + seconds

    def kept(self) -> dict[str, tuple[str, float]]:
        """What waits for long, why, and until when."""
        return {name: why for name, why in waiting(self.server).items() if name in LONG}

    def breaker(self) -> dict[str, Any]:
        every = self.server.get("/api/breakers")["breakers"]
        (found,) = [one for one in every if one["name"] == "strategy:broken"]
        return dict(found)

    def trip(self) -> float:
        """Let the trial that is held fail; return when the next one may begin."""
        ended = sum(event.event == "end" for event in self.spies.events("trial"))
        self.spies.started("trial", ended + 1)
        self.spies.release("trial")
        opened = wait_until(
            lambda: now if (now := self.breaker())["state"] == "OPEN" else None,
            within=PATIENCE,
            what="the breaker opens",
        )
        self.spies.hold("trial")
        until: float = opened["until"]
        assert until == pytest.approx(time.time() + OPEN_FOR, abs=OPEN_FOR)
        return until

    def resync(self) -> dict[str, Any]:
        """The background task."""
        (found,) = [t for t in self.server.get("/api/tasks")["tasks"] if t["id"] == "resync"]
        return dict(found)


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bound]:
    with ExitStack() as stack:
        yield Bound(stack, tmp_path_factory.mktemp("bound"))


# ── the clock that is set ──


@pytest.mark.parametrize("step", ["+1d", "-1d"])
def test_the_wall_clock_of_a_misled_process_steps_and_nothing_else_does(
    tmp_path: Path, step: str
) -> None:
    """Else libfaketime is to blame for what fails below, and not promheal."""
    wall = Wall(tmp_path)
    up = time.clock_gettime(time.CLOCK_BOOTTIME)
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("clocks.py"))],
        env={**os.environ, **wall.environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        before = json.loads(process.stdout.readline())
        wall.set(STEPS[step])
        after, waits = json.loads(process.communicate("\n", timeout=PATIENCE)[0])
    assert up <= before[0] <= after[0] <= time.clock_gettime(time.CLOCK_BOOTTIME)
    moved = [now - then for now, then in zip(after[1:], before[1:], strict=True)]
    assert moved == pytest.approx([0, STEPS[step], STEPS[step]], abs=0.1)
    assert len(waits) == 5
    assert all(0.99 <= wait < 1 + LATE for wait in waits), waits


# ── what must not move with it ──


@pytest.mark.parametrize("way", ["while it runs", "SIGTERM", "kill -9"])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_of_the_wall_clock_ends_nothing_early_and_nothing_late(
    bound: Bound, step: str, way: str
) -> None:
    server, spies, lead = bound.server, bound.spies, STEPS[step]
    server.wall.set(0)
    began = {name: len(spies.starts(name)) for name in ("trial", "brief", "fresh")}
    opens = bound.trip()
    lifts = pause(server, "brief", OPEN_FOR)
    assert server.post(alert("Brief", n=f"{step} {way}")).status == 202

    if way == "while it runs":
        server.wall.set(lead)
    else:
        if way == "kill -9":
            server.kill9()
        else:
            assert server.stop() == 0
        server.wall.set(lead)
        server.start()
    stepped, resyncs = time.time(), bound.resync()["runs"]
    assert server.metric("clock_lead_seconds") == pytest.approx(lead, abs=1)
    breaker = bound.breaker()
    assert (breaker["until"], breaker["trips"] > 0) == (opens, True)

    # Webhooks are answered and acted on, whatever time Prometheus and Alertmanager have now.
    fresh = alert("Fresh", n=f"{step} {way}", started=stepped + lead - 60)
    assert server.post(fresh).json() == {"opened": 1, "repeated": 0, "closed": 0}
    event = spies.started("fresh", began["fresh"] + 1)
    assert stepped <= event.at < stepped + LATE
    assert last_logged(server) == pytest.approx(time.time() + lead, abs=LATE)
    over = {**fresh, "status": "resolved", "endsAt": stamp(time.time() + lead)}
    assert server.post(over).json() == {"opened": 0, "repeated": 0, "closed": 1}

    # What binds for a short time does so for that time.
    trial = spies.started("trial", began["trial"] + 1)
    assert opens <= trial.at < max(opens, server.ready_at) + LATE
    state = wait_until(
        lambda: now if (now := bound.breaker())["trial"] else None, what="the trial is known"
    )
    assert (state["state"], state["until"]) == ("HALF_OPEN", opens)
    brief = spies.started("brief", began["brief"] + 1)
    assert lifts <= brief.at < max(lifts, server.ready_at) + LATE

    # Background tasks go on at their interval.
    wait_until(lambda: bound.resync()["runs"] >= resyncs + 2, within=LATE, what="two resyncs")
    task, now = bound.resync(), time.time()
    assert task["runs"] - resyncs <= (now - stepped) / BEAT + 1
    assert task["lastRun"] == pytest.approx(now, abs=LATE)
    assert task["nextRun"] == pytest.approx(task["lastRun"] + BEAT, abs=0.001)

    # What binds for long still does, and will for as long as was said.
    kept = bound.kept()
    assert set(kept) == set(LONG)
    for name, (why, until) in kept.items():
        assert why == LONG[name][0]
        assert until == pytest.approx(bound.ends[name], abs=0.5)
    pauses = {one["scope"]: one["until"] for one in server.get("/api/pauses")["pauses"]}
    assert pauses == {"strategy:paused": bound.ends["paused"]}
    assert [len(spies.starts(name)) for name in LONG] == [1, 1, 0, 0]
    assert server.metric("budget_remaining", strategy="budget", window="1h") == 0


def test_a_yes_begins_what_has_waited_for_it_through_all_of_that(bound: Bound) -> None:
    (run,) = [run for run in bound.server.runs(state="pending") if run["strategy"] == "asked"]
    answer = tell(bound.server, f"/api/runs/{run['id']}/approve", reason="seen")
    assert answer.status == 200
    bound.spies.started("asked")


def test_a_question_that_nobody_answers_expires_at_its_time_though_the_clock_is_set_back(
    tmp_path: Path,
) -> None:
    spies = Spies(tmp_path / "spies")
    what = {"x": strategy(spies.step("x"), match="X", mode="approve")}
    with Misled(tmp_path / "promheal", what, engine={**ENGINE, "approval": "3s"}) as server:
        server.post(alert("X"))
        (asking,) = server.until("x", lambda runs: runs and runs[0]["askedAt"], "it is asked")
        until = asking["askedAt"] + 3
        assert time.time() < until < time.time() + 3
        server.wall.set(-HOUR)
        server.kill9()
        server.wall.set(-DAY)
        server.start()
        assert server.metric("clock_lead_seconds") == pytest.approx(-DAY, abs=1)
        (run,) = server.finished("x")
        assert (run["outcome"], run["decisions"][-1]["reason"]) == ("cancelled", "approval_expired")
        assert until <= run["finishedAt"] < max(until, server.ready_at) + LATE
        assert spies.starts() == []


def test_an_action_may_end_though_the_clock_is_set_ahead_after_sigterm(tmp_path: Path) -> None:
    spies = Spies(tmp_path / "spies")
    spies.hold("x")
    what = {"x": strategy(spies.step("x"), match="X")}
    with Misled(tmp_path / "promheal", what, engine=ENGINE) as server:
        server.post(alert("X"))
        event = spies.started("x")
        server.terminate()
        wait_until(lambda: "Worker exiting" in server.tail(), within=PATIENCE, what="it ends")
        server.wall.set(HOUR)
        time.sleep(1)
        assert alive(event.pid)
        spies.release()
        assert server.ended() == 0
        assert [one.event for one in spies.events()] == ["start", "end"]


def test_a_promheal_that_has_lost_its_clock_regains_a_budget_so_these_tests_can_fail(
    tmp_path: Path,
) -> None:
    only_in_a_file("with PostgreSQL all go by the server's clock")
    spies = Spies(tmp_path / "spies")
    keys = {"budget": [{"runs": 1, "per": "1h"}], "grace_period": "50ms"}
    what = {"x": strategy(spies.step("x"), match="X", **keys)}
    with Misled(tmp_path / "promheal", what, engine=ENGINE) as server:
        server.post(alert("X"))
        wait_until(
            lambda: waiting(server).get("x", ("",))[0] == "budget_exhausted", within=PATIENCE
        )
        assert server.stop() == 0
        assert server.sql("delete from clock") == 1
        server.wall.set(DAY)
        server.start()
        assert server.metric("clock_lead_seconds") == pytest.approx(0, abs=1)
        server.post(alert("X", started=time.time() + DAY - 60))
        spies.started("x", 2)
