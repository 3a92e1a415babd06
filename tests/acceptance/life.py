"""A life in which everything happens, for what shows it: healed, failed, undone, stopped.

A real Prometheus scrapes promheal each second from before the first event until after the last, and
so has what boards and pictures are drawn from.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from tests.acceptance.server import PATIENCE, Promheal, alert, ask, notification, resolved, strategy
from tests.acceptance.test_with_alertmanager import Switchboard
from tests.boards import Query, filled
from tests.chain import (
    Exporter,
    Program,
    free_port,
    start_alertmanager,
    start_prometheus,
    wait_until,
)
from tests.listener import Listener

RULES = """
groups:
  - name: sickness
    rules:
      - alert: HighLatency
        expr: sick > 0
"""
ALL = {"job": ".+", "instance": ".+", "strategy": ".+"}
"""What the variables of boards stand for at first."""
ONE = {"job": "promheal", "strategy": "high-latency"}
DORMANT_AFTER = 4
BELIEVED = "vector(1)"
"""A `when` for alerts that no rule has."""
FALSE = {"action": "command", "argv": ["/bin/false"]}


class Life(NamedTuple):
    prometheus: Program
    server: Promheal
    began: float
    ended: float

    def asked(self, path: str, **query: Any) -> list[Any]:
        """What Prometheus says to one question."""
        answer = ask(f"{self.prometheus.url}/api/v1/{path}?{urlencode(query)}").json()
        assert answer["status"] == "success", answer
        found: Any = answer["data"]
        return list(found["result"] if isinstance(found, dict) else found)

    def series(self, query: Query, values: Mapping[str, str]) -> list[Any]:
        """What Grafana would get for a panel that shows the whole life."""
        windows = {"__rate_interval": "4s", "__range": f"{int(self.ended - self.began) + 1}s"}
        expr = filled(query.expr, {**values, **windows})
        assert "$" not in expr
        if query.instant:
            return self.asked("query", query=expr, time=self.ended)
        return self.asked("query_range", query=expr, start=self.began, end=self.ended, step=1)


@contextmanager
def eventful_life(folder: Path, *, pause: float = 0.0) -> Iterator[Life]:
    """Live through it, *pause* seconds between events, and leave all running."""
    with ExitStack() as stack:
        exporter = stack.enter_context(Exporter())
        board = stack.enter_context(
            Switchboard({"cure": lambda: exporter.set("sick", 0, service="checkout")})
        )
        team = stack.enter_context(Listener())
        port = free_port()
        alertmanager = stack.enter_context(
            start_alertmanager(folder / "alertmanager", webhook=f"http://127.0.0.1:{port}/webhook")
        )
        prometheus = stack.enter_context(
            start_prometheus(
                folder / "prometheus",
                targets={"services": [exporter.address], "promheal": [f"127.0.0.1:{port}"]},
                rules=RULES,
                alertmanagers=(alertmanager.url.removeprefix("http://"),),
            )
        )
        server = stack.enter_context(
            Promheal(
                folder / "promheal",
                _strategies(board),
                port=port,
                prometheus={"url": prometheus.url, "timeout": "3s"},
                http={"allow": [f"{board.url}/"]},
                backup={"folder": "backups"},
                engine={
                    "dormant_after": DORMANT_AFTER,
                    "backoff": {"first": "1ms", "most": "1s"},
                    "storm": {"targets": 2},
                },
                notify={"channels": {"team": {"url": team.url}}, "on": {"failed": ["team"]}},
            )
        )
        began = time.time()
        _scraped(prometheus)
        for event in (_heal, _observe, _refuse, _storm, _fail):
            event(server, exporter)
            time.sleep(pause)
        # What happened last must have been scraped, twice for what rates are made of.
        time.sleep(3)
        yield Life(prometheus, server, began, time.time())


def _strategies(board: Switchboard) -> Mapping[str, Any]:
    step = board.step
    never = {"failures": 1_000}
    return {
        "high-latency": {
            **strategy(
                step("cure"), match="HighLatency", target=["service"], verify={"within": "40s"}
            ),
            "budget": [{"runs": 3, "per": "1h"}],
        },
        "high-memory": strategy(
            step("restart", undo="start"), FALSE, match="HighMemory", when=BELIEVED, breaker=never
        ),
        "queue-stuck": strategy(
            FALSE, match="QueueStuck", when=BELIEVED, breaker={"failures": 1, "open_for": "10m"}
        ),
        "low-success-rate": strategy(
            step("fallback"), match="LowSuccessRate", when=BELIEVED, mode="observe"
        ),
        "high-cpu": strategy(step("limit"), match="HighCPU", target=["service"], when=BELIEVED),
    }


def _scraped(prometheus: Program) -> None:
    query = f"{prometheus.url}/api/v1/query?query=promheal_build_info"
    wait_until(
        lambda: len(ask(query).json()["data"]["result"]) == 1, within=PATIENCE, what="scraped"
    )
    time.sleep(2)  # a rate wants a sample from before


def _heal(server: Promheal, exporter: Exporter) -> None:
    exporter.set("sick", 1, service="checkout")
    (run,) = server.finished("high-latency")
    assert run["outcome"] == "healed", run


def _observe(server: Promheal, _: Exporter) -> None:
    seen = alert("LowSuccessRate", service="search")
    server.post(seen)
    server.post(seen)
    server.post(resolved(seen))


def _refuse(server: Promheal, _: Exporter) -> None:
    assert server.deliver(b"nonsense").status == 400
    broken = {**alert("HighCPU"), "labels": "none"}
    assert server.deliver(json.dumps(notification(broken)).encode()).status == 202
    assert server.metric("alerts_quarantined_total") == 1


def _storm(server: Promheal, _: Exporter) -> None:
    ill = [alert("HighCPU", service=name) for name in ("cart", "pay", "mail", "geo")]
    server.post(*ill)
    wait_until(
        lambda: server.metric("storm_active", strategy="high-cpu") == 1,
        within=PATIENCE,
        what="a storm",
    )
    time.sleep(2)
    server.post(*map(resolved, ill))


def _fail(server: Promheal, _: Exporter) -> None:
    """Fail once with nothing to undo, which opens a breaker, and then until it goes dormant."""
    server.post(alert("QueueStuck", queue="mail"), alert("PromhealWatchdog"))
    (run,) = server.finished("queue-stuck")
    assert run["outcome"] == "failed", run
    for number in range(1, DORMANT_AFTER):
        ill = alert("HighMemory", service=f"worker-{number}")
        server.post(ill)
        server.until(
            "high-memory",
            lambda runs: sum(run["outcome"] == "rolled_back" for run in runs) == number,
            f"{number} rolled back",
        )
        server.post(resolved(ill))  # three at a time were a storm
        time.sleep(1)
    wait_until(lambda: server.metric("dormant") == 1, within=PATIENCE, what="dormant")
    wait_until(
        lambda: server.metric("notices_total", channel="team", result="sent") > 0,
        within=PATIENCE,
        what="somebody is told",
    )
    server.post(alert("HighMemory", service="last"))
