"""What promheal exports: readable for Prometheus, complete at the start, bounded, and lasting."""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import quantiles

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from receiver.policy.run import Outcome
from receiver.reporting.metrics import TOTALS
from tests.acceptance.server import (
    PATIENCE,
    Promheal,
    Sender,
    Series,
    alert,
    ask,
    notification,
    strategy,
)
from tests.chain import start_prometheus, wait_until
from tests.figures import Record, scaled
from tests.tools import tool

LOG = {"action": "log", "message": "{{ labels.alertname }} of {{ labels.number }}"}
STRATEGIES = {
    "observed": strategy(LOG, match="Observed", mode="observe"),
    "logged": strategy(LOG, match="Logged", budget=[{"runs": 3, "per": "1h"}]),
}
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
MANY = scaled(10_000, 100_000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Promheal]:
    told = {"channels": {"team": {"url": "json://127.0.0.1:9/"}}}
    with Promheal(tmp_path, STRATEGIES, notify=told) as running:
        yield running


def ours(server: Promheal) -> set[Series]:
    return {series for series in server.metrics() if series[0].startswith("promheal_")}


def totals(server: Promheal) -> dict[Series, float]:
    names = {f"promheal_{total.name}_total" for total in TOTALS}
    return {series: value for series, value in server.metrics().items() if series[0] in names}


def test_what_can_come_up_is_there_at_the_start_and_all_totals_are_0(server: Promheal) -> None:
    found = totals(server)
    assert set(found.values()) == {0}
    assert {name for name, _ in found} == {f"promheal_{total.name}_total" for total in TOTALS}
    decisions = [labels for name, labels in found if name == "promheal_decisions_total"]
    heals = [labels for name, labels in found if name == "promheal_heals_total"]
    assert (len(decisions), len(heals)) == (2, len(Outcome)), "one observes, and never heals"
    for strategy_ in STRATEGIES:
        assert math.isnan(server.metric("strategy_effectiveness_ratio", strategy=strategy_))

    # Whatever happens then, only decisions and histograms of strategies come up.
    before = ours(server)
    assert server.post(alert("Observed", number="1"), alert("Logged", number="2")).status == 202
    assert ask(f"{server.url}/webhook", b"nonsense").status == 400
    server.finished("logged")
    wait_until(
        lambda: server.metric("notifications_total", code="400") == 1,
        within=PATIENCE,
        what="the refusal is counted",
    )
    came = {series for series in ours(server) - before if series[0] != "promheal_decisions_total"}
    assert {labels["strategy"] for labels in (dict(labels) for _, labels in came)} == {"logged"}
    assert {name.rpartition("_seconds")[0] for name, _ in came} == {
        "promheal_heal_duration", "promheal_alert_to_action", "promheal_alert_to_clear",
    }  # fmt: skip
    assert server.metric("alert_to_clear_seconds_count", strategy="logged") == 0, (
        "nothing proves it"
    )
    assert before <= ours(server)


def test_promtool_finds_nothing_to_say_about_our_metrics(server: Promheal) -> None:
    server.post(alert("Logged", number="1"))
    server.finished("logged")
    text = ask(f"{server.url}/metrics").body
    checked = subprocess.run(
        [tool("promtool"), "check", "metrics"],
        input=text.encode(),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_openmetrics_is_understood_and_says_the_same(server: Promheal) -> None:
    server.post(alert("Logged", number="1"))
    server.finished("logged")
    again = {"strategy": "logged", "verdict": "wait", "reason": "grace_period"}
    wait_until(lambda: server.metric("decisions_total", **again), what="it is decided again")
    body = ask(f"{server.url}/metrics", accept=OPENMETRICS).body
    families = list(text_string_to_metric_families(body))  # type: ignore[no-untyped-call]
    same = {
        (sample.name, frozenset(sample.labels.items()))
        for family in families
        for sample in family.samples
    }
    assert {one for one in same if one[0].startswith("promheal_")} == ours(server)


def test_durations_lead_to_the_run_that_took_so_long(server: Promheal) -> None:
    server.post(alert("Logged", number="1"))
    (run,) = server.finished("logged")
    body = ask(f"{server.url}/metrics", accept=OPENMETRICS).body
    families = text_string_to_metric_families(body)  # type: ignore[no-untyped-call]
    told = {
        (sample.name, sample.exemplar.labels["run_id"])
        for family in families
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert told == {
        (f"promheal_{name}_seconds_bucket", str(run["id"]))
        for name in ("heal_duration", "alert_to_action", "action_duration")
    }
    assert "run_id" not in ask(f"{server.url}/metrics").body


def test_prometheus_scrapes_it(server: Promheal, tmp_path: Path) -> None:
    target = server.url.removeprefix("http://")
    with start_prometheus(tmp_path / "prometheus", targets={"promheal": [target]}) as prometheus:
        query = f"{prometheus.url}/api/v1/query?query=promheal_build_info"
        (found,) = wait_until(
            lambda: ask(query).json()["data"]["result"], within=PATIENCE, what="it is scraped"
        )
        assert found["metric"]["instance"] == target
        assert found["value"][1] == "1"


def test_many_different_alerts_add_no_series(server: Promheal, record_property: Record) -> None:
    before = ours(server)
    bodies = [
        json.dumps(
            notification(
                *(
                    alert(
                        "Observed" if number % 100 == 0 else f"Alert{number}",
                        number=str(number),
                        instance=f"host-{number}:9100",
                    )
                    for number in range(first, first + 500)
                ),
                groupKey=f"group {first}",
                externalURL=f"http://alertmanager-{first}.example:9093",
            )
        ).encode()
        for first in range(0, MANY, 500)
    ]

    def send(bodies_: list[bytes]) -> list[int]:
        sender = Sender(server)
        try:
            return [sender.post(body) for body in bodies_]
        finally:
            sender.close()

    with ThreadPoolExecutor(4) as pool:
        answers = [
            code for codes in pool.map(send, (bodies[n::4] for n in range(4))) for code in codes
        ]
    assert answers == [202] * len(bodies)
    wait_until(
        lambda: (
            server.metric(
                "decisions_total", strategy="observed", verdict="deny", reason="observe_only"
            )
            >= MANY / 100
        ),
        within=PATIENCE,
        what="all are decided",
    )
    assert server.get("/api/status")["alerts"]["firing"] == MANY
    assert server.metric("alerts_firing", strategy="observed") == MANY / 100
    record_property("label sets", MANY)
    record_property("series added", len(ours(server) ^ before))
    assert ours(server) == before
    took = []
    for _ in range(scaled(10, 200)):
        start = time.monotonic()
        server.ask("/metrics")
        took.append(time.monotonic() - start)
    record_property("p99 of a scrape, ms", 1e3 * quantiles(took, n=100, method="inclusive")[98])


@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_totals_survive_a_restart(server: Promheal, end: str) -> None:
    server.post(alert("Logged", number="1"), alert("Logged", number="2"), alert("Other"))
    server.post(alert("Logged", number="1"))
    server.finished("logged", 2)
    before = totals(server)
    assert server.metric("heals_total", strategy="logged", outcome="inconclusive") == 2
    getattr(server, end)()
    server.start()
    after = totals(server)
    decided = "promheal_decisions_total"
    assert {s: v for s, v in after.items() if s[0] != decided} == {
        s: v for s, v in before.items() if s[0] != decided
    }
    # What fires is looked at again at the start, which is a decision more.
    assert [series for series in before if after[series] < before[series]] == []
    assert server.metric("alerts_deduplicated_total", reason="repeat") == 1
    assert server.metric("budget_remaining", strategy="logged", window="1h") == 2
