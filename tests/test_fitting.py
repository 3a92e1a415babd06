"""Labels that no alert of a rule ever has: told with the nearest that it has, or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from receiver.clients.prometheus import Prometheus
from receiver.doctor.fitting import problems
from receiver.errors import UpstreamError
from receiver.policy.promql import Rule
from receiver.policy.relabel import Relabel, Sending
from receiver.policy.strategy import Strategy
from receiver.settings import PrometheusSettings
from tests.chain import Exporter, start_prometheus, wait_until
from tests.factories import parse_matcher, strategy

PLAIN = Rule(name="HighLatency", query="latency > 1", labels={"severity": "warning"})
SUMMED = Rule(name="HighLatency", query="sum by (job) (latency) > 1")
OTHER = Rule(name="Other", query="sum by (pod) (latency) > 1")
HERE = Sending()
SERIES = frozenset({"__name__", "instance", "job", "service"})


class Source:
    def __init__(self, series: frozenset[str] | None, sending: Sending | None) -> None:
        self.series = series
        self.told = sending

    def sending(self) -> Sending | None:
        return self.told

    def label_names(self, selectors: Iterable[str]) -> frozenset[str]:
        assert set(selectors) <= {"latency"}
        if self.series is None:
            raise UpstreamError("Connection refused")
        return self.series


def wanting(*target: str, match: Iterable[str] = ("alertname=HighLatency",)) -> Strategy:
    return strategy(target=target, match=tuple(map(parse_matcher, match)))


def told(
    one: Strategy,
    *rules: Rule,
    series: frozenset[str] | None = SERIES,
    sending: Sending | None = HERE,
) -> list[str]:
    return [problem for _, problem in problems([one], rules, Source(series, sending))]


@pytest.mark.parametrize(
    ("wrong", "rule", "says", "right"),
    [
        (wanting("instnace"), PLAIN, ("the label 'instnace' of its `target`, so none asks for it; "
         "did you mean 'instance'?"), wanting("instance")),
        (wanting("instance"), SUMMED, ("the label 'instance' of its `target`, so none asks for it; "
         "known: job"), wanting("job")),
        (wanting(match=["alertname=HighLatency", "sevrity=warning"]), PLAIN,
         "the label 'sevrity' of its `match`, so none asks for it; did you mean 'severity'?",
         wanting(match=["alertname=HighLatency", "severity=warning"])),
        (wanting(match=["alertname=HighLatency", "severity=wraning"]), PLAIN,
         ('no alert of HighLatency has severity="wraning", so none asks for it; '
         "did you mean 'warning'?"), wanting(match=["alertname=HighLatency", "severity=warning"])),
    ],
)  # fmt: skip
def test_a_label_that_no_alert_has_is_told_and_the_remedy_works(
    wrong: Strategy, rule: Rule, says: str, right: Strategy
) -> None:
    (said,) = told(wrong, rule)
    assert said.endswith(says)
    assert told(right, rule) == []


@pytest.mark.parametrize(
    ("rules", "series", "sending"),
    [
        ([PLAIN], None, HERE),  # cannot be asked
        ([PLAIN], frozenset[str](), HERE),  # nothing is measured yet
        ([PLAIN], SERIES, None),  # what is added on the way is not known
        ([PLAIN], SERIES, Sending(chains=None)),
        ([PLAIN], SERIES, Sending({"rack": "r1"})),
        ([PLAIN], SERIES, Sending(chains=((Relabel(target_label="rack"),),))),
        ([PLAIN], SERIES, Sending(chains=((Relabel(action="labelmap"),),))),
        ([Rule(name="HighLatency", query="up", labels={"rack": "{{ $value }}"})], SERIES, HERE),
        ([PLAIN], SERIES | {"rack"}, HERE),
        ([PLAIN, Rule(name="HighLatency", query="rate(]")], SERIES, HERE),  # of another language
        ([OTHER], SERIES, HERE),  # that there is no rule is told elsewhere
        ([], SERIES, HERE),
    ],
)
def test_it_is_silent_where_it_cannot_know(
    rules: list[Rule], series: frozenset[str] | None, sending: Sending | None
) -> None:
    assert told(wanting("rack"), *rules, series=series, sending=sending) == []


def test_one_rule_that_has_it_is_enough() -> None:
    one = wanting("pod", match=['alertname=~"HighLatency|Other"'])
    assert told(one, SUMMED, OTHER, series=SERIES | {"pod"}) == []
    assert len(told(one, SUMMED, series=SERIES | {"pod"})) == 1
    any_service = wanting("pod", match=['service=~".*"'])
    assert told(any_service, SUMMED, OTHER, series=SERIES | {"pod"}) == []


RULES = """
groups:
  - name: tests
    rules:
      - {alert: HighLatency, expr: latency > 1}
"""


def test_a_real_prometheus_tells_which_labels_there_are(tmp_path: Path) -> None:
    with Exporter() as exporter:
        exporter.set("latency", 0.5, service="shop")
        targets = {"shop": [exporter.address]}
        with start_prometheus(tmp_path / "prometheus", targets=targets, rules=RULES) as program:
            prometheus = Prometheus(PrometheusSettings(url=program.url))
            wait_until(lambda: prometheus.query("latency"))

            ((_, said),) = problems([wanting("instnace")], prometheus.rules(), prometheus)
            assert said.endswith("did you mean 'instance'?")
            right = wanting("instance", "service", "job")
            assert list(problems([right], prometheus.rules(), prometheus)) == []
            assert prometheus.label_names(["no_such", "latency"]) == {
                "__name__", "instance", "job", "service",
            }  # fmt: skip
