"""Heals that help for seconds only, on a real Prometheus: it is told, and ends."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from receiver.clients.prometheus import Prometheus
from receiver.settings import PrometheusSettings
from tests.acceptance.server import PATIENCE, Promheal, alert
from tests.chain import Exporter, start_prometheus, wait_until

RULES = """groups: [{name: g, rules: [{alert: Slow, expr: latency_seconds > 1}]}]"""


@pytest.mark.slow
def test_heals_that_last_for_seconds_are_told_and_end(tmp_path: Path) -> None:
    strategy = {
        "match": ['alertname="Slow"'],
        "target": ["service"],
        "grace_period": "1s",
        "budget": [{"runs": 100, "per": "1h"}],
        "verify": {"within": "30s"},
        "breaker": {"failures": 2, "open_for": "1h"},
        "actions": [{"action": "command", "argv": ["true"]}],
    }
    with (
        Exporter() as exporter,
        start_prometheus(tmp_path, targets={"j": [exporter.address]}, rules=RULES) as program,
        Promheal(tmp_path / "p", {"slow": strategy}, prometheus={"url": program.url}) as promheal,
    ):
        prometheus = Prometheus(PrometheusSettings(url=program.url))

        def falls_ill() -> None:
            exporter.set("latency_seconds", 3.0, service="shop")
            wait_until(lambda: prometheus.query("latency_seconds > 1"), within=PATIENCE)
            promheal.post(alert("Slow", service="shop", started=time.time()))

        def acted(number: int) -> list[dict[str, Any]]:
            return promheal.until(
                "slow", lambda runs: sum(r["actedAt"] is not None for r in runs) >= number, "acted"
            )

        for number in (1, 2):
            falls_ill()
            acted(number)
            exporter.set("latency_seconds", 0.2, service="shop")
            runs = promheal.finished("slow", number)
            assert [run["outcome"] for run in runs] == ["healed"] * number
        falls_ill()
        wait_until(lambda: promheal.metric("relapses_total", strategy="slow") == 2, within=PATIENCE)

        status = promheal.get("/api/status")
        assert status["status"] == "warning"
        assert 'WARNING: Circuit breaker target:service="shop"' not in str(status["issues"])
        assert "WARNING: Circuit breaker strategy:slow is OPEN" in status["issues"]
        assert (
            'WARNING: 2 heals of slow on service="shop" did not hold in the last 1h'
            in status["issues"]
        )
        assert promheal.metric("strategy_effectiveness_ratio", strategy="slow") == 0.0
        runs = promheal.runs("slow")
        assert [run["relapsedAt"] is not None for run in runs] == [True, True, False]
        promheal.until("slow", lambda runs: runs[-1]["reason"] == "breaker_open", "it is stopped")
