from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from bench.decay import main
from receiver.policy.decay import DEPTH, SCRAPE, Decay, Recording, decay, recordings
from receiver.policy.promql import Rule

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0

NOT_AT_ALL = [
    "up == 0",
    'up{job="shop"} == 0',
    "node_filesystem_avail_bytes / node_filesystem_size_bytes < 0.1",
    "sum by (service) (queue_length) > 100",
    "max by (service) (latency_seconds) > 1 and on (service) queue_length > 0",
    "time() - process_start_time_seconds < 300",
    "time() - backup_last_success_timestamp_seconds > 86400",
    'absent(up{job="shop"})',
    "count(up == 0) by (job) / count(up) by (job) > 0.5",
    "vector(1)",
    "1 > bool 0",
    "label_replace(up == 0, 'host', '$1', 'instance', '(.*):.*')",
    "histogram_quantile(0.99, latency_seconds_bucket) > 1",
    "topk(5, memory_bytes) > 1e9",
    "quantile by (service) (0.9, latency_seconds) > 1",
    "certificate_not_after - time() < 86400 * 14",
    "replicas_available < replicas_wanted unless on (deployment) deployment_paused == 1",
    "queue_length offset -5m > 10",
    "queue_length @ end() > 10",
    "predict_value > scalar(limit_value)",
]
BACK = [
    ("rate(errors_total[5m]) > 1", 5 * MINUTE),
    ("rate(errors_total[90s]) > 1", 90.0),
    ("sum by (service) (rate(errors_total[2m])) / sum by (service) (rate(hits_total[10m])) > 0.1",
     10 * MINUTE),
    ("increase(restarts_total[1h]) > 3", HOUR),
    ("changes(process_start_time_seconds[15m]) > 2", 15 * MINUTE),
    ("avg_over_time(latency_seconds[30m]) > 1", 30 * MINUTE),
    ("predict_linear(free_bytes[6h], 24 * 3600) < 0", 6 * HOUR),
    ("absent_over_time(heartbeat_total[10m])", 10 * MINUTE),
    ("deriv(queue_length[20m]) > 0 and queue_length > 100", 20 * MINUTE),
    ("resets(requests_total[1h]) > 3 or up == 0", HOUR),
    ("histogram_quantile(0.99, sum by (le) (rate(latency_seconds_bucket[5m]))) > 1", 5 * MINUTE),
    ('(1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m]))) > 0.9', 5 * MINUTE),
    ("-delta(temperature_celsius[10m]) > 5", 10 * MINUTE),
    ("quantile_over_time(0.95, latency_seconds[1d]) > 1", DAY),
    ("max_over_time(ready[5m]) == 0 unless max_over_time(paused[1h]) == 1", HOUR),
    # subqueries: the range and what is read at each step of it
    ("max_over_time(rate(errors_total[5m])[1h:1m]) > 1", HOUR + 5 * MINUTE),
    ("min_over_time((up == 0)[10m:]) == 0", 10 * MINUTE),
    ("avg_over_time(max_over_time(latency_seconds[5m])[30m:5m] ) > 1", 35 * MINUTE),
    # offsets
    ("queue_length > queue_length offset 1h", HOUR),
    ("rate(requests_total[5m]) < 0.5 * rate(requests_total[5m] offset 1w)", 7 * DAY + 5 * MINUTE),
    ("max_over_time(rate(errors_total[5m] offset 2m)[1h:1m] offset 10m) > 1",
     10 * MINUTE + HOUR + 2 * MINUTE + 5 * MINUTE),
    ("rate(errors_total[10m] offset -5m) > 1", 5 * MINUTE),
    ("rate(errors_total[5m] offset -10m) > 1", 0.0),
    # `@ start()` and `@ end()` are now, wherever they stand
    ("rate(errors_total[5m] @ end()) > 1", 5 * MINUTE),
    ("max_over_time((latency_seconds offset 3m @ end())[1h:1m]) > 1", 3 * MINUTE),
    ("max_over_time(latency_seconds[1h:1m] @ start()) > 1", HOUR),
    # functions and aggregations with more than one part
    ("topk(scalar(max_over_time(limit[2m])), latency_seconds)", 2 * MINUTE),
    ("clamp_max(rate(errors_total[4m]), scalar(max_over_time(limit[8m]))) > 1", 8 * MINUTE),
    ("bottomk(3, rate(requests_total[3m])) < 1", 3 * MINUTE),
    ("rate(errors_total[1d2h]) > 1", 26 * HOUR),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "seconds"), [*((each, 0.0) for each in NOT_AT_ALL), *BACK])
def test_how_far_back_an_expression_looks(expression: str, seconds: float) -> None:
    assert decay(expression, {}) == Decay(seconds)


def test_fifty_are_checked_by_hand() -> None:
    assert len({*NOT_AT_ALL, *(expression for expression, _ in BACK)}) >= 50


RECORDINGS = recordings(
    [
        Rule(name="job:errors:rate5m", query="sum by (job) (rate(errors_total[5m]))",
             records=True, interval=30.0),
        Rule(name="job:errors:max1h", query="max_over_time(job:errors:rate5m[1h])",
             records=True, interval=60.0),
        Rule(name="job:queue", query="queue_length", records=True, interval=15.0,
             labels={"from": "shop"}),
        Rule(name="job:queue", query="max_over_time(queue_length[2h])", records=True,
             interval=15.0, labels={"from": "mill"}),
        Rule(name="feeds_itself", query="feeds_itself + up", records=True, interval=1.0),
        Rule(name="unreadable", query="rate(errors_total)", records=True, interval=1.0),
        Rule(name="Slow", query="avg_over_time(latency_seconds[10m]) > 1", interval=60.0,
             keep_firing_for=300.0),
        Rule(name="Down", query="up == 0", interval=60.0),
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [
        ("job:errors:rate5m > 1", 5 * MINUTE + 30),
        ("job:errors:rate5m offset 1h > 1", HOUR + 5 * MINUTE + 30),
        ("job:errors:max1h > 1", HOUR + 60 + 5 * MINUTE + 30),
        ("max_over_time(job:errors:rate5m[10m]) > 1", 15 * MINUTE + 30),
        ('{__name__="job:errors:rate5m"} > 1', 5 * MINUTE + 30),
        ('{"job:errors:rate5m", job="shop"} > 1', 5 * MINUTE + 30),
        ('{__name__=~"job:errors:.*"} > 1', HOUR + 60 + 5 * MINUTE + 30),
        ('{__name__=~"job:(?P<a"} > 1 or up', None),  # no parser of ours; anything may be meant
        ('job:queue{from="shop"} > 1', 15.0),
        ("job:queue > 1", 2 * HOUR + 15),
        ('job:queue{from!="mill"} > 1', 15.0),
        ("queue_length > 1", 0.0),
        # `keep_firing_for` keeps the alert and not its expression, and so what asks for alerts
        ('ALERTS{alertname="Slow", alertstate="firing"} == 1', 10 * MINUTE + 60 + 300),
        ('count(ALERTS{alertname="Down"}) > 3', 60.0),
        ("count(ALERTS) > 3", 10 * MINUTE + 60 + 300),
        ("avg_over_time(latency_seconds[10m]) > 1", 10 * MINUTE),
    ],
)  # fmt: skip
def test_a_recorded_series_is_as_old_as_its_rule(expression: str, seconds: float | None) -> None:
    assert decay(expression, RECORDINGS).seconds == seconds


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("queue_length @ 1609746000 > 1", "fixed time"),
        ("max_over_time((queue_length @ 0)[1h:]) > 1", "fixed time"),
        ("rate(errors_total)", "the expression cannot be read"),
        ("rate(errors_total[5m + 1m]) > 1", "the expression cannot be read"),
        ("x > 1_000_000", "the expression cannot be read"),
        ("unreadable > 1", "the recording rule unreadable cannot be read"),
        ("feeds_itself > 1", f"more than {DEPTH} deep: feeds_itself"),
    ],
)
def test_what_never_forgets_or_cannot_be_read_says_why(expression: str, problem: str) -> None:
    found = decay(expression, RECORDINGS)
    assert found.seconds is None
    assert problem in found.problem
    assert found.reach == inf


def test_without_the_rules_of_prometheus_names_that_only_rules_make_are_not_known() -> None:
    assert decay("rate(errors_total[5m]) > 1", None).seconds == 5 * MINUTE
    for expression in ("job:errors:rate5m > 1", "ALERTS > 0"):
        assert "could not be asked for its rules" in decay(expression, None).problem


def test_recording_rules_may_rest_on_one_another_five_deep() -> None:
    chain = {f"r{n}": (Recording(expression=f"r{n - 1}[1m:]", delay=10.0),) for n in range(1, 9)}
    chain = {
        name: (Recording(expression=f"max_over_time({made[0].expression})", delay=10.0),)
        for name, made in chain.items()
    }
    assert decay(f"r{DEPTH}", chain).seconds == DEPTH * 70.0
    assert decay(f"r{DEPTH + 1}", chain).seconds is None


def test_many_rules_that_rest_on_many_are_each_read_once() -> None:
    width = 60
    wide = {
        f"r{level}_{n}": (
            Recording(expression=" + ".join(f"r{level - 1}_{m}" for m in range(width)), delay=1.0),
        )
        for level in range(1, DEPTH + 1)
        for n in range(width)
    }
    assert decay(f"r{DEPTH}_0", wide).seconds == DEPTH


def test_reach_is_a_scrape_after_what_is_forgotten() -> None:
    assert decay("rate(errors_total[5m])", {}).reach == 300 + SCRAPE
    assert Decay(300.0, scrape=15.0).reach == 315


# --- of a folder ----------------------------------------------------------------------------------

RULES = """
groups:
- name: shop
  interval: 30s
  rules:
  - record: job:errors:rate5m
    expr: sum by (job) (rate(errors_total[5m]))
  - alert: Errors
    expr: job:errors:rate5m > 1
  - alert: Slow
    expr: avg_over_time(latency_seconds[2h]) > 1
  - alert: Down
    expr: up == 0
"""


def test_the_rules_of_a_folder_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "shop.yml").write_text(RULES)

    assert main([str(tmp_path)]) == 0

    said = capsys.readouterr().out
    assert "3 alerting rules of 1 files" in said
    assert "     1  more than 5m" in said
    assert "     1  more than 1h" in said
    assert "      2h  Slow" in said


def test_a_rule_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yml").write_text(RULES.replace("up == 0", "rate(x)"))

    assert main([str(tmp_path)]) == 1
    assert "a.yml: Down: the expression cannot be read" in capsys.readouterr().out


def test_a_folder_without_rules_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert "no file in it ends in" in capsys.readouterr().err
