"""Guards, reloads and the end, on a promheal that runs: no new notification wakes anybody here."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from receiver.policy.decide import GUARDS
from tests.acceptance.server import (
    PATIENCE,
    Promheal,
    Spies,
    alert,
    alive,
    ask,
    only_in_a_file,
    resolved,
    strategy,
)
from tests.chain import start_prometheus, wait_until

GRACE = 2.0
BUDGET = 20.0
"""Seconds in which two runs are allowed."""


class Windows:
    """An alert under real windows, told once. Begun first, and looked at last."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.spies = Spies(folder / "spies")
        self.server = stack.enter_context(
            Promheal(
                folder,
                {
                    "x": strategy(
                        self.spies.step("x"),
                        match="X",
                        grace_period=f"{GRACE:g}s",
                        budget=[{"runs": 2, "per": f"{BUDGET:g}s"}],
                    )
                },
                engine={"resync": "1h"},
            )
        )
        assert self.server.post(alert("X")).status == 202


@pytest.fixture(scope="module", autouse=True)
def windows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Windows]:
    with ExitStack() as stack:
        yield Windows(stack, tmp_path_factory.mktemp("windows"))


@pytest.fixture
def spies(tmp_path: Path) -> Spies:
    return Spies(tmp_path / "spies")


def test_a_pending_run_is_dropped_with_evidence_when_its_alert_ends(
    tmp_path: Path, spies: Spies
) -> None:
    strategies = {"x": strategy(spies.step("x"), match="X", grace_period="5s")}
    with Promheal(tmp_path, strategies, engine={"resync": "1h"}) as server:
        one = alert("X")
        server.post(one)
        server.until("x", lambda runs: len(runs) == 2, "wants to act again")
        over = resolved(one)
        assert server.post(over).json() == {"opened": 0, "repeated": 0, "closed": 1}
        _, dropped = server.finished("x", 2)
        assert dropped["outcome"] == "cancelled"
        assert dropped["actedAt"] is None
        ended = over["endsAt"]
        said = f"http://alertmanager.example:9093 said that it ended at {ended}"
        assert said in dropped["reason"]
        assert dropped["decisions"][-1]["reason"] == "resolved"
        wait_until(lambda: time.time() > dropped["createdAt"] + 6, within=PATIENCE)
        assert spies.starts() == ["x"]
        assert server.metric("heals_total", strategy="x", outcome="cancelled") == 1


def test_an_alert_that_prometheus_does_not_confirm_is_not_acted_on(
    tmp_path: Path, spies: Spies
) -> None:
    """Prometheus has the rule and the data, and never returned this alert: unknown is not yes."""
    with start_prometheus(tmp_path / "prometheus") as prometheus:
        target = prometheus.url.removeprefix("http://")
        prometheus_of_itself = start_prometheus(
            tmp_path / "watching",
            targets={"prometheus": [target]},
            rules="groups: [{name: g, rules: [{alert: X, expr: up == 0}]}]\n",
        )
        with prometheus_of_itself as watching:
            strategies = {"x": strategy(spies.step("x"), match="X")}
            with Promheal(tmp_path, strategies, prometheus={"url": watching.url}) as server:
                wait_until(
                    lambda: ask(f"{watching.url}/api/v1/query?query=up").json()["data"]["result"],
                    within=PATIENCE,
                    what="it is scraped",
                )
                server.post(alert("X", job="prometheus", instance=target))
                wait_until(
                    lambda: server.metric(
                        "decisions_total", strategy="x", verdict="wait", reason="condition_unknown"
                    ),
                    within=PATIENCE,
                    what="it waits",
                )
                assert [run["state"] for run in server.runs()] == ["pending"]
                assert spies.starts() == []


# ── reload ──


def text_of(strategies: dict[str, Any]) -> str:
    return json.dumps({"strategies": strategies}, indent=1) + "\n"


@pytest.mark.parametrize("how", ["post", "sighup"])
def test_a_broken_file_keeps_the_old_one_and_a_good_one_heals_what_fires(
    tmp_path: Path, spies: Spies, how: str
) -> None:
    old = {"x": strategy(spies.step("x"), match="X")}
    new = {**old, "y": strategy(spies.step("y"), match="Y")}
    path = tmp_path / "healing_strategies.yml"
    with Promheal(tmp_path, old, engine={"resync": "1h"}) as server:

        def reload() -> None:
            if how == "post":
                answers.append(ask(f"{server.url}/-/reload", b""))
            else:
                assert server.process is not None
                server.process.send_signal(signal.SIGHUP)

        answers: list[Any] = []
        config = server.metric("config_hash")
        since = server.metric("config_last_reload_success_timestamp_seconds")
        assert server.metric("config_last_reload_successful") == 1
        server.post(alert("Y"))
        assert server.get("/api/alerts")["alerts"][0]["strategies"] == []

        broken = text_of(new).replace('"grace_period"', '"grace_perod"', 1)
        path.write_text(broken)
        line = broken[: broken.index("grace_perod")].count("\n") + 1
        column = broken.splitlines()[line - 1].index('"grace_perod"') + 1
        reload()
        wait_until(
            lambda: server.metric("config_last_reload_successful") == 0,
            within=PATIENCE,
            what="the reload fails",
        )
        if how == "post":
            assert answers[0].status == 400
            error = answers[0].json()["error"]
            assert error["code"] == "invalid_configuration"
            assert f"{path}:{line}:{column}" in error["message"]
            assert "grace_period" in error["message"], "and what was meant"
        assert f"{path}:{line}:{column}" in server.log.read_text()
        assert server.metric("config_hash") == config
        assert server.metric("config_last_reload_success_timestamp_seconds") == since
        assert ask(f"{server.url}/-/ready").status == 200
        # The old one is still in force, for new alerts too.
        server.post(alert("X"))
        server.finished("x")
        assert {run["strategy"] for run in server.runs()} == {"x"}

        worker = server.worker()
        path.write_text(text_of(new))
        reload()
        wait_until(
            lambda: server.metric("config_last_reload_successful") == 1,
            within=PATIENCE,
            what="it is reloaded",
        )
        server.finished("y")
        assert spies.starts() == ["x", "y"]
        if how == "post":
            assert (answers[1].status, answers[1].json()["reloaded"]) == (200, True)
        assert server.metric("config_last_reload_successful") == 1
        assert server.metric("config_hash") != config
        assert server.metric("config_last_reload_success_timestamp_seconds") > since
        assert server.worker() == worker, "in place: no new process"
        assert server.metric("heals_total", strategy="y", outcome="inconclusive") == 1


def test_a_run_under_way_keeps_its_plan_through_a_reload(tmp_path: Path, spies: Spies) -> None:
    spies.hold("first")
    old = {"x": strategy(spies.step("first"), spies.step("second"), match="X")}
    new = {"x": strategy(spies.step("third"), match="X")}
    with Promheal(tmp_path, old) as server:
        server.post(alert("X"))
        spies.started("first")
        server.configure(new)
        assert ask(f"{server.url}/-/reload", b"").status == 200
        spies.release()
        server.finished("x")
        assert spies.starts() == ["first", "second"]


def test_a_flag_that_is_switched_off_stops_what_would_act_next(
    tmp_path: Path, spies: Spies
) -> None:
    what = {"x": strategy(spies.step("x"), match="X")}
    with Promheal(tmp_path, what, flags={"auto_healing": False}) as server:
        server.post(alert("X"))
        wait_until(
            lambda: server.metric(
                "decisions_total", strategy="x", verdict="deny", reason="disabled"
            ),
            within=PATIENCE,
            what="it is denied",
        )
        assert server.runs() == []
        assert server.metric("feature_enabled", flag="auto_healing") == 0
        server.configure(what, flags={"auto_healing": True})
        assert ask(f"{server.url}/-/reload", b"").status == 200
        server.finished("x")
        assert spies.starts() == ["x"]


# ── two of them, and the end ──


def test_of_two_on_one_journal_one_acts_and_the_other_accepts(tmp_path: Path, spies: Spies) -> None:
    only_in_a_file("in PostgreSQL both act: test_many_machines.py")
    what = {"x": strategy(spies.step("x"), match="X")}
    quick = {"resync": "1s"}
    one = Promheal(tmp_path / "one", what, journal=tmp_path / "journal.db", engine=quick)
    two = Promheal(tmp_path / "two", what, journal=tmp_path / "journal.db", engine=quick)
    with one, two.waiting():
        two.wait_ready(503)
        answer = ask(f"{two.url}/-/ready")
        assert "another process acts on this journal" in answer.body
        assert ask(f"{two.url}/-/healthy").status == 200
        assert (one.metric("acting"), two.metric("acting")) == (1, 0)

        # What one of them accepts, the acting one heals, once.
        first = alert("X", n="1")
        assert two.post(first).status == 202
        one.finished("x")
        assert two.post(first).json()["repeated"] == 1
        assert one.post(first).json()["repeated"] == 1
        assert spies.starts() == ["x"]
        assert set(one.alerts()) == set(two.alerts()) == {first["fingerprint"]}
        series = "promheal_notifications_total", frozenset({("code", "202")})
        assert one.metrics()[series] == two.metrics()[series] == 3

        # The one that acts dies; the other one takes its place.
        one.kill9()
        two.wait_ready(200)
        two.post(alert("X", n="2"))
        two.finished("x", 2)
        assert spies.starts() == ["x", "x"]


def test_sigterm_lets_an_action_end_and_begins_nothing_new(tmp_path: Path, spies: Spies) -> None:
    spies.hold("x")
    what = {"x": strategy(spies.step("x"), match="X"), "y": strategy(spies.step("y"), match="Y")}
    server = Promheal(tmp_path, what, engine={"max_concurrent_runs": 1})
    with server:
        server.post(alert("X"))
        event = spies.started("x")
        server.post(alert("Y"))
        server.until("y", len, "is queued")
        server.terminate()
        wait_until(lambda: "Worker exiting" in server.tail(), within=PATIENCE, what="it ends")
        assert alive(event.pid)
        spies.release()
        assert server.ended() == 0
        assert [e.event for e in spies.events()] == ["start", "end"]

        server.start()
        (run,) = server.finished("x")
        assert [(step["state"], step["attempt"]) for step in run["steps"]] == [("done", 1)]
        assert run["outcome"] == "inconclusive"
        server.finished("y")
        assert spies.starts() == ["x", "y"]


def test_an_idle_promheal_ends_at_once(tmp_path: Path) -> None:
    with Promheal(tmp_path, {}) as server:
        start = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - start < 15


# ── what was begun first ──


def test_grace_and_budget_let_it_act_again_without_any_news(windows: Windows) -> None:
    server = windows.server
    first, second, third = server.finished("x", 3)[:3]
    assert second["actedAt"] >= first["finishedAt"] + GRACE
    assert third["actedAt"] >= first["actedAt"] + BUDGET, "two in any twenty seconds"
    assert second["actedAt"] - first["finishedAt"] <= GRACE + 5
    assert third["actedAt"] - first["actedAt"] <= BUDGET + 5

    def reasons(run: dict[str, Any]) -> list[str]:
        return [decision["reason"] for decision in run["decisions"]]

    assert reasons(first) == [""]
    assert reasons(second) == ["grace_period", ""]
    assert reasons(third) == ["grace_period", "budget_exhausted", ""]
    (waited,) = [d for d in third["decisions"] if d["reason"] == "budget_exhausted"]
    assert waited["until"] == pytest.approx(first["actedAt"] + BUDGET, abs=0.01)
    assert waited["detail"] == "2 runs in 20s"
    asked = [answer["guard"] for answer in waited["answers"]]
    assert asked == [name for name, _ in GUARDS]
    assert server.metric("notifications_total", code="202") == 1
    for reason in ("grace_period", "budget_exhausted"):
        assert server.metric("decisions_total", strategy="x", verdict="wait", reason=reason) >= 1
    assert windows.spies.starts()[:3] == ["x"] * 3
    assert server.metric("budget_remaining", strategy="x", window="20s") in {0, 1}
