from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from receiver.clients.prometheus import Prometheus
from receiver.clock import steady_clock
from receiver.errors import UpstreamError
from receiver.healing.ruleset import KEPT, LONGEST, Ruleset
from receiver.policy.decay import SCRAPE
from receiver.policy.promql import Rule, Sample, Samples
from receiver.policy.relabel import Sending
from receiver.settings import PrometheusSettings
from tests.chain import Exporter, start_prometheus, wait_until
from tests.factories import FakeClock

ALERT = {"alertname": "Slow", "service": "shop", "severity": "page"}


def slow(query: str) -> Rule:
    return Rule(name="Slow", query=query, labels={"severity": "page"})


class Scripted:
    """Stands in for Prometheus: says what the test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.alerting: tuple[Rule, ...] = (
            Rule(name="Slow", query="job:latency:max5m > 1", labels={"severity": "page"}),
        )
        self.recording = (
            Rule(name="job:latency:max5m", query="max_over_time(latency_seconds[5m])",
                 records=True, interval=30.0),
        )  # fmt: skip
        self.counts: dict[str, float] = {}
        self.asked: list[str] = []
        self.away: set[str] = set()

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if what in self.away:
            raise UpstreamError("/api/v1/rules: Connection refused")

    def query(self, expr: str, at: float | None = None) -> Samples:
        self._ask("query")
        self.expr = expr
        return Samples(Sample({"__promheal__": k}, n) for k, n in self.counts.items())

    def rules(self, alertname: str | None = None) -> tuple[Rule, ...]:
        self._ask("rules")
        return tuple(rule for rule in self.alerting if alertname in {None, rule.name})

    def recording_rules(self) -> tuple[Rule, ...]:
        self._ask("recording_rules")
        return self.recording

    def sending(self) -> Sending | None:
        self._ask("sending")
        return None


@pytest.fixture
def source() -> Scripted:
    return Scripted()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ruleset(source: Scripted, clock: FakeClock) -> Ruleset:
    return Ruleset(source, clock)


def test_the_rule_of_prometheus_counts_with_the_rules_that_it_rests_on(ruleset: Ruleset) -> None:
    assert ruleset.decay(ALERT, None).seconds == 330
    assert ruleset.decay(ALERT, "vector(1)").seconds == 330, "not the sender's expression"


def test_the_expression_counts_where_prometheus_has_no_rule(
    ruleset: Ruleset, source: Scripted
) -> None:
    source.alerting = ()
    assert ruleset.decay(ALERT, "rate(x[2m]) > 1").seconds == 120
    assert "its expression" in ruleset.decay(ALERT, None).problem


def test_an_operator_s_query_needs_no_rule(ruleset: Ruleset, source: Scripted) -> None:
    found = ruleset.decay({"service": "shop"}, "rate(x[1m]) > 1", own_query=True)
    assert found.seconds == 60
    assert "rules" not in source.asked


def test_what_alerts_of_other_rules_rest_on(ruleset: Ruleset, source: Scripted) -> None:
    source.alerting += (
        Rule(name="Down", query="min_over_time(up[10m]) == 0", interval=60.0, keep_firing_for=30.0),
    )
    assert ruleset.decay({}, 'ALERTS{alertname="Down"}', own_query=True).seconds == 690


def test_answers_are_kept_for_some_minutes(
    ruleset: Ruleset, source: Scripted, clock: FakeClock
) -> None:
    ruleset.decay(ALERT, None)
    first = len(source.asked)
    clock.now += KEPT - 1
    ruleset.decay(ALERT | {"service": "shop"}, None)
    assert len(source.asked) == first
    clock.now += 1
    ruleset.decay(ALERT, None)
    assert len(source.asked) == 2 * first


def test_what_was_not_answered_is_asked_again(ruleset: Ruleset, source: Scripted) -> None:
    source.away = {"recording_rules"}
    assert "could not be asked for its rules" in ruleset.decay(ALERT, None).problem
    source.away = {"rules"}
    assert "Connection refused" in ruleset.decay(ALERT | {"alertname": "Other"}, None).problem
    source.away = set()
    assert ruleset.decay(ALERT, None).seconds == 330


@pytest.mark.parametrize(
    ("counts", "seconds"),
    [
        ({}, SCRAPE),
        ({"0 30": 30, "0 120": 120, "0 600": 600}, 600 / 599),
        ({"0 30": 2, "0 120": 8, "0 600": 40}, 600 / 39),
        ({"0 600": 10}, 600 / 9),
        ({"0 600": 2}, LONGEST),
        ({"0 600": 1}, SCRAPE),
        ({"0 30": 30, "0 600": 30}, 30 / 29),  # they begin half a minute ago
        ({"0 600": 600, "1 600": 40}, 600 / 39),  # the slower one counts
    ],
)
def test_how_far_samples_are_apart_is_never_said_too_short(
    ruleset: Ruleset, source: Scripted, counts: dict[str, float], seconds: float
) -> None:
    source.counts = counts
    assert ruleset.decay({}, "a > b", own_query=True).scrape == pytest.approx(seconds)


def test_only_the_alert_s_series_are_counted(ruleset: Ruleset, source: Scripted) -> None:
    source.alerting = (
        Rule(name="Slow", query="max by (service) (x) > 1", labels={"severity": "page"}),
    )
    ruleset.decay(ALERT | {"instance": "a"}, None)
    assert 'x{service=~"shop|"}[30s]' in source.expr


def test_prometheus_that_cannot_count_leaves_the_default(
    ruleset: Ruleset, source: Scripted
) -> None:
    source.away = {"query"}
    assert ruleset.decay(ALERT, None).scrape == SCRAPE


# --- a real Prometheus ----------------------------------------------------------------------------

RULES = """groups: [{name: g, rules: [
  {alert: Slow, expr: "job:latency:max1m{service=\\"shop\\"} > 1"},
  {alert: Gone, expr: "nothing_like_it > 1"},
  {record: "job:latency:max1m", expr: "max by (service) (max_over_time(latency_seconds[1m]))"}]}]
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Ruleset]]:
    folder: Path = tmp_path_factory.mktemp("prometheus")
    with Exporter() as exporter:
        exporter.set("latency_seconds", 3.0, service="shop")
        with start_prometheus(folder, targets={"job": [exporter.address]}, rules=RULES) as program:
            prometheus = Prometheus(PrometheusSettings(url=program.url))
            wait_until(lambda: prometheus.query("count_over_time(job:latency:max1m[1m]) >= 8"))
            yield lambda: Ruleset(prometheus, steady_clock())


def test_a_real_one_tells_how_long_its_rule_remembers(real: Callable[[], Ruleset]) -> None:
    found = real().decay({"alertname": "Slow", "service": "shop"}, None)
    assert (found.seconds, found.problem) == (61.0, "")
    # Eight samples or more, one a second, in a window of 30: the true distance or a little more.
    assert 0.9 <= found.scrape <= 30 / 7


def test_a_real_one_without_its_series(real: Callable[[], Ruleset]) -> None:
    found = real().decay({"alertname": "Gone"}, None)
    assert (found.seconds, found.scrape) == (0.0, SCRAPE)
