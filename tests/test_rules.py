"""The shipped rules and the configuration around them, judged by Prometheus' own tools."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from receiver.app import Promheal
from receiver.policy.run import FAILURES, Outcome
from receiver.web.flask_app import create_app
from tests.tools import REPOSITORY, tool

RULES = REPOSITORY / "rules"
RUNBOOKS = REPOSITORY / "docs/runbooks"
PROMETHEUS_YML = REPOSITORY / "configs/prometheus.yml"
ALERTMANAGER_YML = REPOSITORY / "configs/alertmanager.yml"

RULE_FILES = sorted(RULES.glob("*.yml"))
TEST_FILES = sorted((RULES / "tests").glob("*.yml"))

ALERTS = {"HighCPU", "HighLatency", "HighMemory", "LowSuccessRate", "QueueStuck"}
AHEAD = {f"{alert}Ahead" for alert in ALERTS}
"""What will be wrong if it goes on; their runbook is that of what will be."""
ALERTS |= {"CompositeAnomaly"}
RUNBOOK_URL = "https://github.com/promheal/promheal/blob/main/docs/runbooks/{alert}.md"

# What a service exposes on a good day: no failure, no waiting job, an error counter nowhere.
HEALTHY = {
    'process_cpu_seconds_total{service="checkout"}': "0+1x280",
    'process_resident_memory_bytes{service="checkout"}': "100000000x280",
    'http_requests_total{service="checkout",code="200"}': "0+100x280",
    'http_request_duration_seconds_bucket{service="checkout",le="0.1"}': "0+100x280",
    'http_request_duration_seconds_bucket{service="checkout",le="+Inf"}': "0+100x280",
    'http_request_duration_seconds_sum{service="checkout"}': "0+5x280",
    'http_request_duration_seconds_count{service="checkout"}': "0+100x280",
    'queue_jobs_waiting{service="checkout"}': "0x280",
    'queue_jobs_done_total{service="checkout"}': "0+10x280",
}

Yaml = dict[str, Any]

OWN = RULES / "promheal.yml"
OWN_TESTS = RULES / "tests/promheal.yml"


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool(name), *map(str, arguments)],
        cwd=REPOSITORY,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def accepts(name: str, *arguments: str | Path) -> None:
    done = run(name, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def load(path: Path) -> Yaml:
    value = yaml.safe_load(path.read_text())
    assert isinstance(value, dict)
    return value


def rules() -> Iterator[Yaml]:
    """Those about services; promheal's own are about promheal."""
    for path in RULE_FILES:
        if path == OWN:
            continue
        for group in load(path)["groups"]:
            yield from (rule for rule in group["rules"] if "alert" in rule)


def each_rule() -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "rule", [pytest.param(r, id=f"{r['alert']}-{r['labels']['severity']}") for r in rules()]
    )


def selectors(expression: str) -> list[str]:
    found = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(str(node))
        elif isinstance(node, promql_parser.MatrixSelector):
            found.append(str(node.vector_selector))

    promql_parser.walk(promql_parser.parse(expression), visit)
    return sorted(set(found))


# ── the tools ──


def test_promtool_accepts_the_rules() -> None:
    accepts("promtool", "check", "rules", "--lint=all", "--lint-fatal", *RULE_FILES)


@pytest.mark.slow
@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_the_rules_do_what_their_tests_say(path: Path) -> None:
    accepts("promtool", "test", "rules", path)


def test_promtool_accepts_the_configuration() -> None:
    done = run("promtool", "check", "config", "--lint=all", "--lint-fatal", PROMETHEUS_YML)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULE_FILES)} rule files found" in done.stdout


def test_amtool_accepts_the_configuration() -> None:
    accepts("amtool", "check-config", ALERTMANAGER_YML)


def test_amlint_finds_nothing() -> None:
    accepts("amlint", "check", "--strict", "--rules", RULES / "*.yml", ALERTMANAGER_YML)


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ("alertname=HighCPU service=checkout severity=warning", "promheal,team"),
        ("alertname=HighCPU service=checkout severity=critical", "promheal,oncall"),
        ("alertname=Unknown service=checkout", "promheal,team"),
        ("alertname=Unknown severity=critical", "oncall"),
        ("alertname=Unknown", "team"),
        ("alertname=PromhealDormant severity=critical", "oncall"),
        ("alertname=PromhealStorm severity=warning", "team"),
        ("alertname=PromhealWatchdog severity=none", "promheal-heartbeat"),
    ],
)
def test_an_alert_reaches(labels: str, receivers: str) -> None:
    accepts(
        "amtool",
        "config",
        "routes",
        "test",
        f"--config.file={ALERTMANAGER_YML}",
        f"--verify.receivers={receivers}",
        *labels.split(),
    )


# ── what every alert promises ──


def test_every_alert_has_both_severities() -> None:
    found = sorted((rule["alert"], rule["labels"]["severity"]) for rule in rules())
    both = [(alert, level) for alert in ALERTS for level in ("critical", "warning")]
    assert found == sorted([*both, *((alert, "warning") for alert in AHEAD)])


@each_rule()
def test_a_rule_says_what_people_need(rule: Yaml) -> None:
    assert set(rule["labels"]) == {"severity"}
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    sentence = annotations["summary"].replace("{{ $labels.service }}", "x")
    assert re.fullmatch(r"[A-Z][^{}]*[^.]\.", sentence)
    assert "$value" in annotations["description"]
    assert "{{ $labels.service }}" in annotations["description"]
    assert annotations["runbook_url"] == RUNBOOK_URL.format(
        alert=rule["alert"].removesuffix("Ahead")
    )


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_an_alert_has_a_runbook(alert: str) -> None:
    page = (RUNBOOKS / f"{alert}.md").read_text()
    assert page.startswith(f"# {alert}\n")
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
    for block in re.findall(r"^```promql\n(.+?)^```$", page, re.MULTILINE | re.DOTALL):
        for query in block.splitlines():
            promql_parser.parse(query)


@each_rule()
def test_a_rule_is_tested_in_both_directions(rule: Yaml) -> None:
    expected: list[set[str]] = [
        {alert["exp_labels"]["severity"] for alert in case.get("exp_alerts") or []}
        for path in TEST_FILES
        for test in load(path)["tests"]
        for case in test.get("alert_rule_test", ())
        if case["alertname"] == rule["alert"]
    ]
    severity = rule["labels"]["severity"]
    assert any(severity in severities for severities in expected)
    assert any(not severities for severities in expected)


# promheal calls a heal proven when the expression returns nothing and what it rests on is there.
@each_rule()
def test_a_healthy_service_has_samples_for_every_selector(rule: Yaml, tmp_path: Path) -> None:
    queries = selectors(rule["expr"])
    assert queries
    assert all('service!=""' in query for query in queries)

    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in HEALTHY.items()],
        "promql_expr_test": [
            {"expr": rule["expr"], "eval_time": "70m", "exp_samples": []},
            *(
                {
                    "expr": f"group by (service) ({query})",
                    "eval_time": "70m",
                    "exp_samples": [{"labels": '{service="checkout"}', "value": 1}],
                }
                for query in queries
            ),
        ],
    }
    path = tmp_path / "healthy.yml"
    path.write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(RULES / "anomaly.yml")],
                "evaluation_interval": "30s",
                "tests": [test],
            }
        )
    )
    accepts("promtool", "test", "rules", path)


def test_a_tool_that_is_missing_fails_the_test() -> None:
    with pytest.raises(pytest.fail.Exception, match="run make develop"):
        tool("no-such-program")


# ── the rules about promheal itself ──


@pytest.fixture
def service(make_service: Callable[..., Promheal]) -> Promheal:
    return make_service()


def own(kind: str) -> list[Yaml]:
    return [r for group in load(OWN)["groups"] for r in group["rules"] if kind in r]


def each_own() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("rule", [pytest.param(r, id=r["alert"]) for r in own("alert")])


@each_own()
def test_an_alert_about_promheal_says_what_people_need(rule: Yaml) -> None:
    assert re.fullmatch(r"Promheal[A-Z]\w+", rule["alert"])
    assert rule["labels"]["severity"] in {"critical", "warning", "none"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert re.fullmatch(r"[A-Za-z][^{}]*[^.]\.", rule["annotations"]["summary"])
    assert rule["annotations"]["runbook_url"] == RUNBOOK_URL.format(alert=rule["alert"])
    test_an_alert_has_a_runbook(rule["alert"])


@each_own()
def test_an_alert_about_promheal_is_tested_in_both_directions(rule: Yaml) -> None:
    expected = [
        bool(case.get("exp_alerts"))
        for test in load(OWN_TESTS)["tests"]
        for case in test.get("alert_rule_test", ())
        if case["alertname"] == rule["alert"]
    ]
    assert True in expected
    assert False in expected or rule["expr"] == "vector(1)"


def test_every_recording_rule_is_named_by_its_level_and_tested() -> None:
    asked = [
        case["expr"]
        for test in load(OWN_TESTS)["tests"]
        for case in test.get("promql_expr_test", ())
    ]
    for rule in own("record"):
        assert re.fullmatch(r"\w+:promheal_\w+:\w+", rule["record"])
        assert any(expression.startswith(rule["record"]) for expression in asked), rule["record"]


def test_the_rules_count_as_failures_what_the_code_does() -> None:
    counted = {
        rule["record"]: {*selected.split("|")}
        for rule in own("record")
        for selected in re.findall(r'outcome=~"([^"]+)"', rule["expr"])
    }
    assert counted == {
        "strategy:promheal_heals_failed:ratio_increase1h": {*FAILURES},
        "strategy:promheal_heals_judged:increase1h": {Outcome.HEALED, *FAILURES},
    }


def test_the_rules_about_promheal_ask_for_what_it_exposes(service: Promheal) -> None:
    service.metrics.began("latency")  # or it has no histograms
    text = create_app(service).test_client().get("/metrics").text
    exposed = set(re.findall(r"^(\w+)", text, re.MULTILINE))
    of_others = {
        "up",
        "alertmanager_notifications_total",
        "alertmanager_notifications_failed_total",
    }
    asked = {
        re.split(r"[{\s\[]", selector)[0]
        for kind in ("alert", "record")
        for rule in own(kind)
        for selector in selectors(rule["expr"])
    }
    recorded = {rule["record"] for rule in own("record")}
    assert len(asked - recorded) > 10
    assert asked - recorded - of_others <= exposed


def test_promheal_heals_nothing_of_its_own() -> None:
    for rule in own("alert"):
        labels = {"alertname": rule["alert"], **rule["labels"]}
        assert not any("service" in key for key in labels)
        assert 'service!=""' not in rule["expr"]
