from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from receiver.doctor.provable import problems
from receiver.policy.promql import Rule
from receiver.policy.strategy import Strategy, Verify
from tests.chain import free_port, start_prometheus
from tests.factories import parse_matcher, strategy

METRICSQL = "rate(errors) > 1_000_000 default 0"
KNOWN = Rule(name="HighLatency", query="latency > 1")
READS_IT_NOT = Rule(name="HighLatency", query=METRICSQL)
OTHER = Rule(name="Other", query=METRICSQL)
QUERY = Verify(query="up == 0")


def named(*matchers: str, **changes: Any) -> Strategy:
    return strategy(match=tuple(map(parse_matcher, matchers)), **changes)


@pytest.mark.parametrize(
    ("one", "rules", "trusted", "found"),
    [
        (strategy(), [KNOWN], (), []),
        # No rule, and none that anybody could name.
        (strategy(), [OTHER], (), ["no rule is called 'HighLatency'", "its alerts wait"]),
        (strategy(when="up"), [OTHER], (), ["no alert asks for it", "no heal is ever proven"]),
        (strategy(verify=QUERY), [OTHER], (), ["so no alert asks for it"]),
        (strategy(), [], (), ["has no alerting rules, so its alerts wait"]),
        (strategy(verify=QUERY), [], (), []),
        (strategy(), None, (), ["has no rules API", "prometheus.trusted_senders"]),
        (strategy(), None, ("ours",), []),
        (strategy(when="up"), None, (), ["no heal is ever proven: give it a `verify.query`"]),
        (strategy(verify=QUERY), None, (), []),
        # A rule in another language.
        (strategy(), [READS_IT_NOT], (), ["cannot be read as PromQL", "give it a `verify.query`"]),
        (strategy(verify=QUERY), [READS_IT_NOT], (), []),
        (named('alertname=~"High.*"'), [READS_IT_NOT], (), ["cannot be read as PromQL"]),
        (named('alertname=~"High.*"', 'alertname!="HighLatency"'), [READS_IT_NOT], (), []),
        (named('severity="critical"'), [READS_IT_NOT], (), []),
    ],
)  # fmt: skip
def test_tells_which_alerts_cannot_be_confirmed_or_proven(
    one: Strategy, rules: list[Rule] | None, trusted: tuple[str, ...], found: list[str]
) -> None:
    told = [problem for _, problem in problems([one], rules, trusted)]
    assert len(told) == bool(found)
    for text in found:
        assert text in told[0]


RULES = """
groups:
  - name: tests
    rules:
      - {alert: Known, expr: up == 0}
"""


class NoRules(BaseHTTPRequestHandler):
    """Stands in for a server that answers queries alone: every real one has a rules API."""

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        answer = {"status": "success", "data": {"resultType": "vector", "result": []}}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def without_rules() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), NoRules)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class Files:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def asked(self, command: str, settings: dict[str, Any], *more: str) -> tuple[int, str]:
        step = {"action": "log", "message": "x"}
        strategies = {
            name: {"match": [f"alertname={name}"], "actions": [step]}
            for name in ("Known", "Unknown")
        }
        for name, content in (
            ("promheal.yml", settings),
            ("healing_strategies.yml", {"strategies": strategies}),
            ("services.yml", {"services": {}}),
        ):
            (self.folder / name).write_text(json.dumps(content))
        done = subprocess.run(
            [*(sys.executable, "-m", "receiver", command), *more,
             f"--config.file={self.folder}/promheal.yml"],
            capture_output=True, text=True, check=False, timeout=120, cwd=self.folder,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_check_asks_prometheus_when_it_is_told_to(files: Files, tmp_path: Path) -> None:
    with start_prometheus(tmp_path / "prometheus", rules=RULES) as program:
        settings = {"prometheus": {"url": program.url}}
        code, said = files.asked("check", settings, "--prometheus")
        assert code == 3
        assert "strategy Unknown: no rule is called 'Unknown'" in said
        assert "strategy Known" not in said
        assert files.asked("check", settings)[0] == 0, "else it asks nobody"


def test_check_that_cannot_ask_says_so(files: Files) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    code, said = files.asked("check", {"prometheus": {"url": url}}, "--prometheus")
    assert code == 1
    assert f"{url}: cannot be asked: /api/v1/rules: Connection refused" in said
    code, said = files.asked("check", {}, "--prometheus")
    assert code == 2
    assert "promheal.yml names none; write `prometheus: {url: …}`" in said


def test_a_server_that_has_no_rules_api_is_told_by_check_and_doctor(
    files: Files, without_rules: str
) -> None:
    bare = {"prometheus": {"url": without_rules}}
    trusting = {"prometheus": {"url": without_rules, "trusted_senders": ["ruler"]}}

    code, said = files.asked("check", bare, "--prometheus")
    assert code == 3
    for name in ("Known", "Unknown"):
        assert f"strategy {name}: Prometheus has no rules API, so its alerts wait" in said
    assert files.asked("check", trusting, "--prometheus")[0] == 0

    said = files.asked("doctor", bare)[1]
    assert "has no rules API, so alerts are confirmed only by a strategy's `when`" in said
    said = files.asked("doctor", trusting)[1]
    assert "alerts of ruler are asked by their own link" in said
