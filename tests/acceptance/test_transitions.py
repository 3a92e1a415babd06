"""Every way into a stop and out of it, as a person sees it: curl and jq before a real promheal."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from tests.acceptance.server import (
    PATIENCE,
    RESUMED,
    Promheal,
    Spies,
    alert,
    resolved,
    strategy,
)
from tests.acceptance.terminal import Said, Terminal, Ward, ward_in
from tests.chain import wait_until

UNTOLD: Final = {"resync": "1h"}
"""Nothing is looked at again without a reason."""
NEVER: Final = {"failures": 100}
"""A breaker that is not what is tested."""
QUICK: Final = {"first": "50ms", "most": "50ms"}
SOON: Final = {"within": "30s"}
FALSE: Final = {"action": "command", "argv": ["/bin/false"]}
RESUME, PAUSE = "/api/system/heal/resume", "/api/system/heal/pause"


def keen(*actions: dict[str, Any], match: str = "X", **keys: Any) -> dict[str, Any]:
    """A strategy that tries again at once, as often as it is let."""
    eager = {"target": ["service"], "grace_period": "100ms", "budget": []}
    return strategy(*actions, match=match, **{**eager, **keys})


@pytest.fixture
def spies(tmp_path: Path) -> Spies:
    return Spies(tmp_path / "spies")


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with ward_in(tmp_path_factory.mktemp("ward")) as found:
        yield found


def breaker(terminal: Terminal, name: str, program: str) -> str:
    chosen = f".breakers[] | select(.name == {json.dumps(name)})"
    return terminal.get("/api/breakers").jq(f"{chosen} | {program}")


def until_breaker(terminal: Terminal, name: str, program: str, within: float = PATIENCE) -> None:
    chosen = f".breakers[] | select(.name == {json.dumps(name)})"
    terminal.until(f"{chosen} | {program}", path="/api/breakers", within=within)


def reset(terminal: Terminal, name: str, **fields: Any) -> Said:
    return terminal.post(f"/api/breakers/{quote(name, safe='')}/reset", **fields)


# ── dormancy ──


@pytest.mark.slow
def test_ten_targets_that_fail_make_it_dormant_until_a_person_resumes_it_with_a_reason(
    tmp_path: Path, ward: Ward, spies: Spies
) -> None:
    spies.fail("try")
    at_once = {"max_concurrent_runs": 32, "storm": {"targets": 100}}
    server = Promheal(
        tmp_path / "promheal",
        {"x": keen(spies.step("try"), ward.cure(), match="Sick", breaker=NEVER, verify=SOON)},
        prometheus={"url": ward.prometheus},
        engine={**UNTOLD, **at_once, "backoff": QUICK, "target_breaker": NEVER},
    )
    terminal = Terminal(server.url)
    *ill, last = ward.infect(*(f"ill-{number}" for number in range(11)))
    with server:
        one_fails_and_nothing_is_stopped_by_it(terminal, ill[0])
        five_fail_and_the_main_breaker_opens(terminal, ill[1:5])

        # A reset begins the count anew, and lets all ten try at once.
        terminal.fire(*ill[5:])
        terminal.until('.waiting == {"breaker_open": 10}')
        spies.hold("try")
        tried = len(spies.starts())
        assert reset(terminal, "self-healing-main").status == 200
        spies.started("try", tried + 10)
        assert terminal.status(".selfHealing.consecutiveFailures") == "0"

        # Ten: nothing acts any more, by itself or after a reset.
        spies.release()
        terminal.until(".selfHealing.isDormant")
        dormant(terminal, failures=10)
        assert reset(terminal, "self-healing-main").status == 200
        terminal.until('.waiting == {"dormant": 10}')

        # What arrives is taken and shown, and waits.
        terminal.fire(last)
        terminal.until('.waiting == {"dormant": 11}')
        assert terminal.get("/api/alerts").jq(".alerts | length") == "11"

        # Neither a restart nor a crash wakes it.
        assert server.stop() == 0
        server.start()
        dormant(terminal, failures=10)
        server.kill9()
        server.start()
        dormant(terminal, failures=10)
        assert terminal.status(".waiting.dormant") == "11"
        acted = len(spies.starts())
        assert terminal.status(".selfHealing.failedHealings") == str(acted)

        # A person does, who has to say why.
        (spies.folder / "fail" / "try").unlink()
        refused_without_a_reason(terminal)
        dormant(terminal, failures=10)
        began = time.monotonic()
        answer = terminal.post(RESUME, reason="the registry is back")
        assert (answer.status, answer.jq(".dormancyEnded")) == (200, "true")
        terminal.until(".selfHealing.successfulHealings == 11")
        assert time.monotonic() - began < RESUMED + 15, "untold, and long before the resync"
        assert terminal.status(".status") == "healthy"
        assert terminal.status("[.issues, .recommendations]") == "[[],[]]"
        assert terminal.status("[.selfHealing | .isDormant, .dormantReason]") == "[false,null]"
        assert terminal.status("[.circuitBreakers[].state] | unique") == '["CLOSED"]'
        assert terminal.status(".selfHealing.consecutiveFailures") == "0"
        assert len(spies.starts()) == acted + 11
        told = terminal.get("/api/audit").jq(".audit[0] | [.action, .object, .reason, .detail]")
        assert told == '["resume","all","the registry is back","dormancy"]'
        assert terminal.post(RESUME, reason="once more").status == 409


def one_fails_and_nothing_is_stopped_by_it(terminal: Terminal, ill: dict[str, Any]) -> None:
    """However often it does."""
    terminal.fire(ill)
    terminal.until(".selfHealing.failedHealings > 10")
    assert terminal.status(".selfHealing.consecutiveFailures") == "1"
    assert terminal.status("[.circuitBreakers[].state] | unique") == '["CLOSED"]'
    assert terminal.status("[.needs[].reason]") == '["failed"]'


def five_fail_and_the_main_breaker_opens(terminal: Terminal, more: list[dict[str, Any]]) -> None:
    """And it is told how far it has come."""
    terminal.fire(*more)
    terminal.until(".selfHealing.consecutiveFailures == 5")
    assert terminal.status(".status") == "warning"
    warnings = json.loads(terminal.status(".issues"))
    assert "WARNING: Self-Healing has 5 consecutive failures" in warnings
    assert "WARNING: Circuit breaker self-healing-main is OPEN" in warnings
    approaching = "System approaching Dormant Mode threshold (10 failures)"
    assert approaching in json.loads(terminal.status(".recommendations"))
    assert terminal.status(".selfHealing.isDormant") == "false"


def refused_without_a_reason(terminal: Terminal) -> None:
    for wrong in ({}, {"reason": ""}, {"reason": " \t "}, {"reason": 7}):
        answer = terminal.send(RESUME, wrong)
        assert (answer.status, answer.jq(".error.code")) == (400, "bad_request"), wrong


def dormant(terminal: Terminal, *, failures: int) -> None:
    """It says so in the sentences of the operations guide."""
    assert terminal.status(".status") == "critical"
    assert terminal.status(".selfHealing.dormantReason") == (
        "Exceeded maximum consecutive failures (10)"
    )
    assert terminal.status(".selfHealing.consecutiveFailures") == str(failures)
    assert terminal.status(".issues[0]") == "CRITICAL: Self-Healing Engine in DORMANT mode"
    assert terminal.status(".recommendations[0]") == (
        "Call POST /api/system/heal/resume with valid reason"
    )


# ── breakers ──


def test_a_breaker_opens_half_opens_and_opens_for_good(tmp_path: Path, spies: Spies) -> None:
    spies.fail("try")
    name = "strategy:x"
    server = Promheal(
        tmp_path / "promheal",
        {"x": keen(spies.step("try"), breaker={"open_for": "1s"})},
        engine={**UNTOLD, "backoff": QUICK, "main_breaker": NEVER, "target_breaker": NEVER},
    )
    terminal = Terminal(server.url)
    with server:
        assert breaker(terminal, name, ".state") == "CLOSED"
        terminal.fire(alert("X", service="a"))

        # Five in a row: OPEN, and a time at which one may try.
        until_breaker(terminal, name, ".trips == 1")
        spies.hold("try")
        assert breaker(terminal, name, "[.failureCount, .permanentOpenReason]") == "[5,null]"
        fifth = json.loads(terminal.get("/api/runs?state=finished").jq(".runs[0].finishedAt"))
        opened = json.loads(breaker(terminal, name, ".until"))
        assert opened == pytest.approx(fifth + 1, abs=0.1)

        # HALF_OPEN: one tries, and who comes meanwhile waits for it.
        until_breaker(terminal, name, '.state == "HALF_OPEN" and .trial')
        spies.started("try", 6)
        trial = breaker(terminal, name, ".trial")
        assert terminal.get(f"/api/runs/{trial}").jq(".state") == "acting"
        acted = json.loads(terminal.get(f"/api/runs/{trial}").jq(".actedAt"))
        assert acted >= opened
        terminal.fire(alert("X", service="b"))
        terminal.until('.waiting == {"breaker_open": 1}')
        spies.release()

        # It fails: OPEN anew, and so does the next one: PERMANENT_OPEN, at the third trip.
        until_breaker(terminal, name, '.state == "PERMANENT_OPEN"')
        permanent(terminal, name)
        for state, times in (("OPEN", 2), ("PERMANENT_OPEN", 1), ("CLOSED", 0)):
            assert server.metric("breaker_transitions_total", breaker=name, to=state) == times
        assert len(spies.starts()) == 7
        terminal.until('.waiting == {"breaker_permanent_open": 2}')

        # Neither its time nor a crash changes that.
        server.kill9()
        server.start()
        time.sleep(1.5)
        permanent(terminal, name)
        assert len(spies.starts()) == 7

        # A reset needs both: force and a reason.
        for short in ({}, {"force": True}, {"force": True, "reason": " "}, {"reason": "repaired"}):
            answer = reset(terminal, name, **short)
            assert (answer.status, answer.jq(".error.code")) == (409, "conflict"), short
            assert "force: true and a non-empty reason" in answer.jq(".error.message")
        permanent(terminal, name)
        (spies.folder / "fail" / "try").unlink()
        spies.hold("try")
        answer = reset(terminal, name, force=True, reason="the disk was full")
        assert answer.status == 200
        assert answer.jq("[.state, .failureCount, .trips, .until, .permanentOpenReason]") == (
            '["CLOSED",0,0,null,null]'
        )
        spies.started("try", 9)  # both targets, at once and untold
        assert terminal.status("[.circuitBreakers[].state] | unique") == '["CLOSED"]'
        told = terminal.get("/api/audit").jq(".audit[0] | [.action, .object, .reason, .detail]")
        assert told == ('["reset breaker","strategy:x","the disk was full","was PERMANENT_OPEN"]')


def permanent(terminal: Terminal, name: str) -> None:
    chosen = f".circuitBreakers[] | select(.name == {json.dumps(name)})"
    assert terminal.status(f"{chosen} | .state") == "PERMANENT_OPEN"
    assert terminal.status(f"{chosen} | .permanentOpenReason") == (
        "Exceeded permanent failure threshold"
    )
    assert terminal.status(".status") == "critical"
    assert f"CRITICAL: Circuit breaker {name} is PERMANENT_OPEN" in terminal.status(".issues[]")


@pytest.mark.slow
def test_a_breaker_with_the_default_settings_tries_again_after_a_minute(tmp_path: Path) -> None:
    server = Promheal(tmp_path, {"x": keen(FALSE)}, engine={**UNTOLD, "backoff": QUICK})
    terminal = Terminal(server.url)
    names = ("strategy:x", 'target:service="a"')
    with server:
        terminal.fire(alert("X", service="a"))
        for name in names:
            until_breaker(terminal, name, '.state == "OPEN"')
        finished = "/api/runs?state=finished"
        fifth = json.loads(terminal.get(finished).jq(".runs[0].finishedAt"))
        assert terminal.get(finished).jq(".runs | length") == "5"
        for name in names:
            until = json.loads(breaker(terminal, name, ".until"))
            assert until == pytest.approx(fifth + 60, abs=0.1)
        for name in names:
            until_breaker(terminal, name, ".trips == 2", within=75)
            assert breaker(terminal, name, "[.state, .failureCount]") == '["OPEN",6]'
        trial = json.loads(terminal.get(finished).jq(".runs[0] | [.actedAt, .finishedAt]"))
        assert fifth + 60 <= trial[0] < fifth + 62
        assert terminal.get(finished).jq(".runs | length") == "6"
        main = breaker(terminal, "self-healing-main", "[.state, .failureCount]")
        assert main == '["CLOSED",1]', "one target has failed"
        again = json.loads(breaker(terminal, "strategy:x", ".until"))
        assert again == pytest.approx(trial[1] + 60, abs=0.1)


def test_a_trial_that_heals_closes_the_breaker(tmp_path: Path, ward: Ward, spies: Spies) -> None:
    spies.fail("try")
    quick = {"open_for": "2s"}
    server = Promheal(
        tmp_path / "promheal",
        {"x": keen(spies.step("try"), ward.cure(), match="Sick", breaker=quick, verify=SOON)},
        prometheus={"url": ward.prometheus},
        engine={**UNTOLD, "backoff": QUICK, "target_breaker": quick},
    )
    terminal = Terminal(server.url)
    (ill,) = ward.infect("closing")
    with server:
        terminal.fire(ill)
        until_breaker(terminal, "strategy:x", '.state == "OPEN"')
        (spies.folder / "fail" / "try").unlink()
        opened = 'map(select(.state == "OPEN").name) | sort'
        names = json.loads(terminal.status(f".circuitBreakers | {opened}"))
        assert names == ["strategy:x", 'target:service="closing"']
        terminal.until(".selfHealing.successfulHealings == 1")
        assert terminal.get("/api/runs").jq(".runs[0].outcome") == "healed"
        assert len(spies.starts()) == 6
        closed = terminal.status(".circuitBreakers | map([.state, .failureCount, .trips]) | unique")
        assert closed == '[["CLOSED",0,0]]'
        assert terminal.status("[.status, .selfHealing.consecutiveFailures]") == '["healthy",0]'


# ── what a person switches ──


@pytest.mark.parametrize(
    ("written", "scope"),
    [
        ("all", "all"),
        ("strategy:x", "strategy:x"),
        ('target:service="a"', 'target:service="a"'),
        ("target:a", 'target:service="a"'),
        ('target:service=~"a.*"', 'target:service=~"a.*"'),
    ],
)
def test_a_pause_stops_what_is_in_its_scope_until_it_is_resumed(
    tmp_path: Path, spies: Spies, written: str, scope: str
) -> None:
    strategies = {
        name: keen(spies.step(name), match=name.upper(), grace_period="1h") for name in ("x", "y")
    }
    server = Promheal(tmp_path / "promheal", strategies, engine=UNTOLD)
    terminal = Terminal(server.url)
    with server:
        assert terminal.post(PAUSE, scope=written).status == 400
        if scope.startswith("target:"):
            assert terminal.post(PAUSE, scope=written, reason="never seen").status == 404
        paused = terminal.post(PAUSE, scope=written, reason="a migration", evenIfUnknown=True)
        assert paused.status == 201
        covered = '["x"]' if scope == "strategy:x" else '["x","y"]'
        assert paused.jq(".covers.strategies") == covered
        assert paused.jq("[.scope, .reason, .until]") == json.dumps(
            [scope, "a migration", None], separators=(",", ":")
        )
        assert terminal.get("/api/pauses").jq(".pauses[].scope") == scope
        assert terminal.status(".status") == "warning"
        assert "a migration" in terminal.status(".issues[]")
        terminal.fire(alert("X", service="a"), alert("Y", service="b"))
        terminal.until(f".waiting.paused == {2 if scope == 'all' else 1}")
        if scope != "all":
            spies.started("y")
        assert "x" not in spies.starts()

        assert terminal.post(PAUSE, scope="target:servce=a", reason="r").status == 404
        resumed = terminal.post(RESUME, scope=written, reason="it is over")
        assert (resumed.status, resumed.jq(".dormancyEnded")) == (200, "false")
        assert resumed.jq(".pausesLifted[].scope") == scope
        spies.started("x")
        spies.started("y")
        terminal.until(".waiting.paused == null")
        assert terminal.status('.needs[] | select(.reason == "paused")') == ""
        assert terminal.post(RESUME, scope=written, reason="again").status == 409
        assert terminal.post(PAUSE, scope="strategy:nobody", reason="r").status == 404


def test_a_pause_ends_by_itself_at_its_time(tmp_path: Path, spies: Spies) -> None:
    server = Promheal(
        tmp_path / "promheal", {"x": keen(spies.step("x"), grace_period="1h")}, engine=UNTOLD
    )
    terminal = Terminal(server.url)
    with server:
        paused = terminal.post(PAUSE, reason="a short one", for_="2s")
        until = json.loads(paused.jq(".until"))
        assert until == pytest.approx(json.loads(paused.jq(".since")) + 2)
        terminal.fire(alert("X", service="a"))
        terminal.until('.waiting == {"paused": 1}')
        assert json.loads(terminal.get("/api/runs").jq(".runs[0].until")) == pytest.approx(until)
        spies.started("x")
        acted = json.loads(terminal.get("/api/runs").jq("[.runs[] | select(.actedAt)][0].actedAt"))
        assert until <= acted < until + 2
        assert terminal.status(".pauses") == "[]"
        assert terminal.status('.needs[] | select(.reason == "paused")') == ""


def test_the_pause_file_stops_everything_without_any_request(tmp_path: Path, spies: Spies) -> None:
    server = Promheal(
        tmp_path / "promheal", {"x": keen(spies.step("x"), grace_period="1h")}, engine=UNTOLD
    )
    terminal = Terminal(server.url)
    file = server.folder / "promheal.paused"
    with server:
        file.write_text("the database is being moved\nsecond line\n")
        terminal.fire(alert("X", service="a"))
        terminal.until('.waiting == {"paused": 1}')
        said = terminal.status('.needs[] | select(.reason == "paused") | [.title, .advice]')
        assert json.loads(said) == [f"everything is paused, since {file} exists", f"Remove {file}"]
        waits = terminal.get("/api/decisions").jq(".decisions[0].detail")
        assert waits == f"{file} exists: the database is being moved"
        server.kill9()
        server.start()
        terminal.until('.waiting == {"paused": 1}')
        assert spies.starts() == []

        file.unlink()
        spies.started("x")  # within ten seconds, without a request
        assert terminal.status('.needs[] | select(.reason == "paused")') == ""


def test_a_run_waits_for_approval_and_a_person_says_yes_or_no(tmp_path: Path, spies: Spies) -> None:
    server = Promheal(
        tmp_path / "promheal",
        {"x": keen(spies.step("x"), mode="approve", grace_period="1h")},
        engine=UNTOLD,
    )
    terminal = Terminal(server.url)
    with server:
        yes, no = alert("X", service="yes"), alert("X", service="no")
        terminal.fire(yes, no)
        terminal.until('.waiting == {"awaiting_approval": 2}')
        assert spies.starts() == []
        run = {
            service: terminal.get("/api/runs").jq(
                f'.runs[] | select(.target == "service=\\"{service}\\"") | .id'
            )
            for service in ("yes", "no")
        }
        asked = json.loads(terminal.get(f"/api/runs/{run['yes']}").jq("[.askedAt, .until]"))
        assert asked[1] == pytest.approx(asked[0] + 3600)

        assert terminal.post(f"/api/runs/{run['yes']}/approve").status == 400
        assert terminal.post("/api/runs/999/approve", reason="r").status == 404
        approved = terminal.post(f"/api/runs/{run['yes']}/approve", reason="seen, go on")
        assert (approved.status, approved.jq(".id")) == (200, run["yes"])
        spies.started("x")
        rejected = terminal.post(f"/api/runs/{run['no']}/reject", reason="it is being replaced")
        assert rejected.status == 200
        assert rejected.jq("[.state, .outcome]") == '["finished","cancelled"]'
        assert "it is being replaced" in rejected.jq(".reason")
        assert terminal.post(f"/api/runs/{run['no']}/approve", reason="now yes").status == 409

        # The no is for this firing: a repetition does not ask again, the next firing does.
        terminal.fire(no)
        assert terminal.post("/-/reload").status == 200
        assert terminal.get("/api/runs").jq(
            '[.runs[] | select(.target == "service=\\"no\\"")] | length'
        ) == "1"  # fmt: skip
        terminal.fire(resolved(no))
        terminal.fire(alert("X", service="no", started=time.time() + 1))
        terminal.until(".waiting.awaiting_approval == 1")
        events = [event.fingerprint for event in spies.events() if event.event == "start"]
        assert events == [yes["fingerprint"]]


@pytest.mark.parametrize("held", ["first", "last"])
def test_a_run_that_is_cancelled_does_no_further_step_and_undoes_what_it_did(
    tmp_path: Path, spies: Spies, held: str
) -> None:
    spies.hold(held)
    steps = spies.step("first", undo="undo"), spies.step("last")
    server = Promheal(tmp_path / "promheal", {"x": keen(*steps)}, engine=UNTOLD)
    terminal = Terminal(server.url)
    with server:
        terminal.fire(alert("X", service="a"))
        spies.started(held)
        assert terminal.post("/api/runs/1/cancel").status == 400
        cancelled = terminal.post("/api/runs/1/cancel", reason="the wrong machine")
        assert (cancelled.status, cancelled.jq(".state")) == (200, "acting")
        assert terminal.post("/api/runs/1/cancel", reason="really").status == 409
        spies.release()
        terminal.until('.state == "finished"', path="/api/runs/1")
        assert terminal.get("/api/runs/1").jq(".outcome") == "cancelled"
        assert spies.starts() == ["first", *["last"] * (held == "last"), "undo"]
        assert terminal.post("/api/runs/1/cancel", reason="again").status == 409
        # What fires now is left alone, though its grace period was short.
        terminal.until('.decisions[0].reason == "rejected"', path="/api/decisions")
        assert terminal.status("[.waiting, .selfHealing.failedHealings]") == "[{},0]"


def test_the_background_tasks_are_paused_resumed_deleted_and_cleaned_up(tmp_path: Path) -> None:
    server = Promheal(tmp_path, {}, engine={"resync": "1s"})
    terminal = Terminal(server.url)
    shown = ".backgroundTasks | [.totalTasks, .activeTasks]"
    with server:
        assert terminal.status(shown) == "[3,3]"
        resynced = '.backgroundTasks.tasks[] | select(.id == "resync")'
        terminal.until(f"{resynced} | .lastRun and .nextRun")
        paused = terminal.post("/api/tasks/pause", reason="the disk is slow")
        assert paused.jq("[.tasks[].paused] | unique") == "[true]"
        assert terminal.status(shown) == "[3,0]"
        assert terminal.status(f"{resynced} | .nextRun") == "null"
        assert "background tasks are paused: resync" in terminal.status(".issues[]")
        assert "Call POST /api/tasks/resume" in terminal.status(".recommendations[]")
        runs = terminal.status(f"{resynced} | .runs")
        time.sleep(1.5)
        assert terminal.status(f"{resynced} | .runs") == runs
        assert terminal.post("/api/tasks/resume").status == 200
        terminal.until(f"{resynced} | .runs > {runs}")
        assert terminal.status("[.needs[].reason]") == '["no_strategy"]'

        assert terminal.delete("/api/tasks/nobody").status == 404
        assert terminal.delete("/api/tasks/retention?reason=later").jq(".removed") == "retention"
        assert terminal.delete("/api/tasks/retention").status == 404
        assert terminal.status(shown) == "[2,2]"
        cleaned = terminal.post("/api/tasks/cleanup")
        assert cleaned.jq("[.removed, .registered]") == '[[],["retention"]]'
        assert terminal.status(shown) == "[3,3]"


def test_every_flag_is_switched_in_env_local_by_a_reload_without_a_restart(
    tmp_path: Path, spies: Spies
) -> None:
    def early(name: str, **keys: Any) -> dict[str, Any]:
        return keen(spies.step(name), match=name.upper(), grace_period="1h", **keys)

    server = Promheal(
        tmp_path / "promheal",
        {"x": early("x"), "y": early("y", preventive=True)},
        engine=UNTOLD,
    )
    terminal = Terminal(server.url)
    local = server.folder / ".env.local"

    def switch(**variables: str) -> None:
        local.write_text("".join(f"FEATURE_{name}={text}\n" for name, text in variables.items()))
        assert terminal.post("/-/reload").jq(".reloaded") == "true"

    with server:
        worker = server.worker()
        switch(AUTO_HEALING_ENABLED="false", PROCESS_MONITORING_ENABLED="off")
        assert terminal.get("/api/flags").jq(".flags | [.auto_healing, .process_monitoring]") == (
            "[false,false]"
        )
        assert terminal.status(".selfHealing.enabled") == "false"
        assert "WARNING: auto healing is switched off" in terminal.status(".issues[]")
        assert "process_monitor" not in terminal.get("/api/tasks").jq(".tasks[].id")
        terminal.fire(alert("X", service="a"))
        terminal.until('.decisions[0].reason == "disabled"', path="/api/decisions")
        assert terminal.get("/api/runs").jq(".runs") == "[]"

        # On: what fires is considered at once, though nobody tells of it again.
        switch(AUTO_HEALING_ENABLED="true")
        spies.started("x")
        assert "process_monitor" in terminal.get("/api/tasks").jq(".tasks[].id")

        # Preventive strategies act only when they are wanted.
        terminal.fire(alert("Y", service="early"))
        terminal.until('.decisions[0].reason == "disabled"', path="/api/decisions")
        switch(PREVENTIVE_HEALING_ENABLED="yes")
        spies.started("y")

        # Without detection alerts are recorded, and no strategy is asked for them.
        switch(AUTO_DETECTION_MONITORING="0")
        assert "auto detection is switched off" in terminal.status(".issues[]")
        terminal.fire(alert("X", service="b"))
        assert terminal.status(".alerts.firing") == "3"
        switch(AUTO_DETECTION_MONITORING="1")
        spies.started("x", 2)

        # A typing error changes nothing, and is told.
        local.write_text("FEATURE_AUTO_HEALING_ENABLED=flase\n")
        refused = terminal.post("/-/reload")
        assert refused.status == 400
        assert "write true or false" in refused.jq(".error.message")
        assert terminal.get("/api/flags").jq(".flags.auto_healing") == "true"
        assert server.worker() == worker, "it is the same process all the time"


# ── a storm ──


@pytest.mark.slow
@pytest.mark.parametrize("told", [True, False], ids=["ends-are-told", "ends-are-swallowed"])
def test_of_fifty_targets_ill_at_once_few_are_treated_at_a_time_and_all_are_healed(
    tmp_path: Path, ward: Ward, spies: Spies, told: bool
) -> None:
    """No other news and no resync: who is proven well makes room for the next."""
    most, number = 10, 50
    spies.hold("x")
    what = keen(spies.step("x"), ward.cure(), match="Sick", grace_period="1h", verify=SOON)
    server = Promheal(
        tmp_path / "promheal",
        {"x": what},
        prometheus={"url": ward.prometheus},
        engine={**UNTOLD, "max_concurrent_runs": 32},
    )
    terminal = Terminal(server.url)
    alerts = ward.infect(*(f"storm-{told}-{one}" for one in range(number)))
    with server:
        terminal.fire(*alerts)
        terminal.until(f".waiting.storm == {number - most}")
        spies.started("x", most)
        terminal.until(f".runs.acting == {most}")
        assert server.metric("storm_active", strategy="x") == 1
        assert terminal.get("/api/runs?state=pending").jq("[.runs[].reason] | unique") == (
            '["storm"]'
        )
        assert len(spies.starts()) == most

        spies.release()
        ill = {one["labels"]["service"]: one for one in alerts}

        def tell() -> bool:
            """Say of who is well that its alert has ended, as Alertmanager does."""
            for service in set(ill) - {path.name for path in ward.ill.iterdir()}:
                terminal.fire(resolved(ill.pop(service)))
            return not ill

        if told:
            wait_until(tell, within=PATIENCE, what="all are well")
        terminal.until(f".selfHealing.successfulHealings == {number}")
        assert {one["fingerprint"] for one in alerts} == {
            event.fingerprint for event in spies.events()
        }
        assert len(spies.starts()) == number, "each of them once"
        assert list(ward.ill.iterdir()) == []
        assert at_once(terminal) <= most
        assert terminal.status("[.status, .waiting]") == '["healthy",{}]'
        assert server.metric("storm_active", strategy="x") == 0


def at_once(terminal: Terminal) -> int:
    """How many runs there were at most between their first step and their proof."""
    acted = "[.runs[] | select(.actedAt) | [.actedAt, .finishedAt]]"
    spans = json.loads(terminal.get("/api/runs?limit=500").jq(acted))
    changes = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most
