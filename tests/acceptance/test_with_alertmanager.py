"""With a real Alertmanager and a real Prometheus: told, healed, proven, or not proven."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Self

import pytest

from tests.acceptance.server import (
    PATIENCE,
    Promheal,
    Spies,
    alert,
    as_prometheus,
    ask,
    routing,
    strategy,
)
from tests.chain import Exporter, Program, start_alertmanager, start_prometheus, wait_until

YOUNG: Final = 100.0
"""Seconds for a proof by series that had one sample only: nobody knows how often they are scraped,
so a minute is taken."""
RULES: Final = """
groups:
  - name: sickness
    rules:
      - alert: Sick
        expr: sick > 0
        labels: {severity: critical}
"""
INTERVAL: Final = 10.0
"""The group_interval in seconds. For as long, and not less, a delivery is tried again."""
SLOW: Final = 25.0
"""Seconds that the slow action takes."""


class Switchboard:
    """What the action `http` calls: notes what was called, and does what is asked for there."""

    def __init__(self, does: Mapping[str, Callable[[], object]] = {}) -> None:
        self.does = dict(does)
        self.called: list[str] = []
        board = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                name = self.path.strip("/")
                board.called.append(name)
                board.does.get(name, lambda: None)()
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def step(self, name: str, *, undo: str = "") -> dict[str, Any]:
        more = {"undo": {"url": f"{self.url}/{undo}"}} if undo else {}
        return {"action": "http", "url": f"{self.url}/{name}", **more}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def sick(
    service: str, *actions: Mapping[str, Any], within: str, at_most: str = "1h"
) -> dict[str, Any]:
    proof = {"within": within, "settle": "1s", "at_most": at_most}
    found = strategy(*actions, match="Sick", target=["service"], verify=proof)
    return {**found, "match": [*found["match"], f'service="{service}"']}


class Chain:
    """Exporters, Prometheus, Alertmanager, promheal, and what promheal's actions call."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.exporter = stack.enter_context(Exporter())
        self.mortal = stack.enter_context(Exporter())
        self.board = stack.enter_context(
            Switchboard(
                {
                    "cure": lambda: self.exporter.set("sick", 0, service="curable"),
                    "blind": self.blind,
                    "kill": self.mortal.down,
                }
            )
        )
        step = self.board.step
        self.server = Promheal(folder / "promheal", {})
        self.alertmanager = stack.enter_context(
            start_alertmanager(folder / "alertmanager", webhook=f"{self.server.url}/webhook")
        )
        self.prometheus = stack.enter_context(
            start_prometheus(
                folder / "prometheus",
                targets={"main": [self.exporter.address], "mortal": [self.mortal.address]},
                rules=RULES,
                alertmanagers=(self.alertmanager.url.removeprefix("http://"),),
            )
        )
        self.server.configure(
            {
                "cure": sick("curable", step("cure"), within="40s"),
                "nothing": sick(
                    "stubborn",
                    step("first", undo="undo-first"),
                    step("second", undo="undo-second"),
                    within="4s",
                ),
                # Of a series with one sample nobody knows how often it is scraped.
                "kill": sick("dying", step("kill"), within="6s", at_most="6s"),
                "blind": sick("blind", step("blind"), within="6s", at_most="6s"),
            },
            prometheus={"url": self.prometheus.url, "timeout": "3s"},
            http={"allow": [f"{self.board.url}/"]},
        )
        stack.enter_context(self.server)

    def blind(self) -> None:
        """The action works, and then nobody is there to say so."""
        self.exporter.set("sick", 0, service="blind")
        self.prometheus.stop()


@contextmanager
def chain_in(folder: Path) -> Iterator[Chain]:
    with ExitStack() as stack:
        yield Chain(stack, folder)


@pytest.fixture(scope="module")
def chain(slow: Slow, down: Down, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with chain_in(tmp_path_factory.mktemp("chain")) as running:
        for service in ("curable", "stubborn"):
            running.exporter.set("sick", 1, service=service)
        running.mortal.set("sick", 1, service="dying")
        yield running


def fire(alertmanager: Program, *alerts: Mapping[str, Any], ended: bool = False) -> None:
    """Tell Alertmanager of alerts, as Prometheus does."""
    answer = ask(f"{alertmanager.url}/api/v2/alerts", as_prometheus(alerts, ended=ended))
    assert answer.status == 200, answer


class Slow:
    """An action of 25 s, told again and again meanwhile. Begun first, and looked at last."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.spies = Spies(folder / "spies")
        step = self.spies.step("slow", seconds=SLOW)
        self.server = stack.enter_context(
            Promheal(folder / "promheal", {"slow": strategy(step, match="Slow")})
        )
        alertmanager = stack.enter_context(
            start_alertmanager(
                folder / "alertmanager",
                config=routing(
                    f"{self.server.url}/webhook",
                    group_interval=f"{INTERVAL:g}s",
                    repeat_interval="5s",
                ),
            )
        )
        self.alert = alert("Slow")
        fire(alertmanager, self.alert)


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slow]:
    with ExitStack() as stack:
        yield Slow(stack, tmp_path_factory.mktemp("slow"))


class Down:
    """A promheal that is down for three group intervals. Begun first, and looked at last."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.spies = Spies(folder / "spies")
        what = {"x": strategy(self.spies.step("x"), match="X")}
        self.server = stack.enter_context(Promheal(folder / "promheal", what))
        alertmanager = stack.enter_context(
            start_alertmanager(
                folder / "alertmanager",
                config=routing(f"{self.server.url}/webhook", group_interval=f"{INTERVAL:g}s"),
            )
        )
        before, short = alert("X", n="before"), alert("X", n="short")
        during = [alert("X", n="1"), alert("X", n="2")]
        fire(alertmanager, before)
        self.server.finished("x")
        assert self.server.stop() == 0
        self.until = time.time() + 3 * INTERVAL + 1
        fire(alertmanager, *during, short)
        fire(alertmanager, short, ended=True)
        self.firing = {one["fingerprint"] for one in (before, *during)}


@pytest.fixture(scope="module")
def down(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Down]:
    with ExitStack() as stack:
        yield Down(stack, tmp_path_factory.mktemp("down"))


def test_an_alert_fires_is_healed_proven_and_resolved(chain: Chain) -> None:
    server = chain.server
    (run,) = server.finished("cure")
    assert run["outcome"] == "healed", run
    assert run["reason"] == "no longer returned: its condition is false"
    assert [step["state"] for step in run["steps"]] == ["done"]
    assert run["alert"]["expression"] == "sick > 0"
    # It was proven by samples of after the action, and decided by what Prometheus said before it.
    assert run["observations"][-1]["verdict"] == "cleared"
    assert run["observations"][-1]["at"] > run["verifyFrom"]
    wait_until(
        lambda: "curable" not in {a["labels"]["service"] for a in server.alerts().values()},
        within=PATIENCE,
        what="Alertmanager says that it is over",
    )
    assert chain.board.called.count("cure") == 1
    assert len(server.runs("cure")) == 1
    assert server.metric("heals_total", strategy="cure", outcome="healed") == 1
    assert server.metric("alert_to_clear_seconds_count", strategy="cure") == 1
    assert server.metric("strategy_effectiveness_ratio", strategy="cure") == 1


@pytest.mark.slow
def test_an_action_that_does_nothing_is_ineffective_and_undone_in_reverse(chain: Chain) -> None:
    run = chain.server.finished("nothing", within=YOUNG)[0]
    assert run["outcome"] == "ineffective", run
    assert run["finishedAt"] >= run["verifyFrom"] + 4.0
    ours = ["first", "second", "undo-second", "undo-first"]
    assert [name for name in chain.board.called if name in ours] == ours
    phases = [(step["phase"], step["index"], step["state"]) for step in run["steps"]]
    assert phases == [
        ("run", 0, "done"),
        ("run", 1, "done"),
        ("rollback", 1, "done"),
        ("rollback", 0, "done"),
    ]
    assert {look["verdict"] for look in run["observations"]} == {"firing"}
    assert chain.server.metric("rollbacks_total", strategy="nothing", outcome="done") == 1
    # It still fires, and is tried again after the grace period.
    (again,) = chain.server.runs("nothing")[1:]
    assert (again["state"], again["reason"]) == ("pending", "grace_period")


def test_an_exporter_that_died_of_the_action_proves_nothing(chain: Chain) -> None:
    """Its series are gone, so the expression returns nothing, and Alertmanager says resolved."""
    run = chain.server.finished("kill", within=YOUNG)[0]
    assert chain.board.called.count("kill") == 1
    assert run["outcome"] == "inconclusive", run
    assert "no sample since" in run["reason"]
    wait_until(
        lambda: "dying" not in {a["labels"]["service"] for a in chain.server.alerts().values()},
        within=PATIENCE,
        what="Alertmanager says that it is over",
    )
    assert chain.server.metric("heals_total", strategy="kill", outcome="healed") == 0


@pytest.mark.slow
def test_without_prometheus_after_the_action_nothing_is_proven(tmp_path: Path) -> None:
    with chain_in(tmp_path) as chain:
        chain.exporter.set("sick", 1, service="blind")
        run = chain.server.finished("blind", within=YOUNG)[0]
        assert chain.board.called == ["blind"]
        assert run["outcome"] == "inconclusive", run
        assert run["steps"][0]["state"] == "done"
        assert run["finishedAt"] >= run["verifyFrom"] + 6.0
        assert {look["verdict"] for look in run["observations"]} == {"unknown"}
        assert chain.server.metric("heals_total", strategy="blind", outcome="healed") == 0


def test_what_max_alerts_cut_off_is_fetched_from_alertmanager(tmp_path: Path) -> None:
    spies = Spies(tmp_path / "spies")
    what = {"x": strategy(spies.step("x"), match="X")}
    server = Promheal(tmp_path / "promheal", {})
    alerts = [alert("X", n=str(number)) for number in range(5)]
    config = routing(f"{server.url}/webhook", group_by=["alertname"], max_alerts=2, group_wait="1s")
    with start_alertmanager(tmp_path / "alertmanager", config=config) as alertmanager:
        server.configure(what, alertmanager={"url": alertmanager.url})
        with server:
            fire(alertmanager, *alerts)
            server.finished("x", 5)
            expected = {one["fingerprint"] for one in alerts}
            assert set(server.alerts()) == expected
            started = [event.fingerprint for event in spies.events() if event.event == "start"]
            assert sorted(started) == sorted(expected)
            assert "max_alerts of the receiver should be 0" in server.tail()


def test_an_action_that_outlasts_the_group_interval_is_one_run(slow: Slow) -> None:
    """Whoever acts before answering is sent the same again, and acts again."""
    (run,) = slow.server.finished("slow")
    assert run["outcome"] == "inconclusive"
    assert run["finishedAt"] - run["actedAt"] >= SLOW
    fingerprint = slow.alert["fingerprint"]
    wait_until(
        lambda: slow.server.alerts()[fingerprint]["notifications"] >= 3,
        within=PATIENCE,
        what="it was sent three times",
    )
    assert slow.spies.starts() == ["slow"]
    assert len([run for run in slow.server.runs() if run["actedAt"]]) == 1
    assert slow.server.metric("notifications_total", code="202") >= 3
    for code in ("400", "413", "415", "503"):
        assert slow.server.metric("notifications_total", code=code) == 0


@pytest.mark.slow
def test_after_three_group_intervals_down_all_that_still_fires_is_handled_once(down: Down) -> None:
    server = down.server
    time.sleep(max(0.0, down.until - time.time()))
    server.start()
    server.finished("x", 3)
    # Alertmanager tries again as it did, and may say once more what it had said.
    wait_until(lambda: time.time() > server.ready_at + INTERVAL + 2, within=PATIENCE)
    assert set(server.alerts()) == down.firing
    acted = [event.fingerprint for event in down.spies.events() if event.event == "start"]
    assert sorted(acted) == sorted(down.firing)
    assert len([run for run in server.runs("x") if run["actedAt"]]) == 3
