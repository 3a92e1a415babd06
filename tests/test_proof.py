"""What is asked, and what is said of it, by values and by a real Prometheus."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from receiver.clients.prometheus import Prometheus
from receiver.clients.sending import read_sending
from receiver.errors import UpstreamError
from receiver.healing.ruleset import Ruleset
from receiver.policy.promql import Rule, Samples
from receiver.policy.proof.bind import bind
from receiver.policy.proof.binding import Binding
from receiver.policy.proof.flow import places
from receiver.policy.proof.judgement import Judgement
from receiver.policy.proof.syntax import parse
from receiver.policy.proof.tree import show
from receiver.policy.proof.verifier import look
from receiver.policy.relabel import Sending
from receiver.policy.signal import Signal
from receiver.policy.strategy import Expect
from receiver.settings import PrometheusSettings
from tests.chain import Exporter, Program, start_alertmanager, start_prometheus, wait_until

FIRING, CLEARED, UNKNOWN = Signal.FIRING, Signal.CLEARED, Signal.UNKNOWN

# --- an expression, written out again -------------------------------------------------------------

leaves = st.sampled_from(
    ["a", 'a{x="y\\n"}', "{\"a.b\",c=~'d|e'}", "a offset 5m", "a @ 5", "a @ end()", "1e3", "NaN"]
)


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from(
        ["+", "- on (x)", "and ignoring (x)", "> bool", "/ on (x) group_left (y)", "unless"]
    )
    vectors = inner.filter(lambda text: text not in {"1e3", "NaN"})
    return st.one_of(
        st.builds(lambda op, one: f"{op} ({one})", st.sampled_from(["sum by (x)", "-"]), vectors),
        st.builds(lambda one: f"topk without (x) (3, {one})", vectors),
        st.builds(lambda one: f"max_over_time(({one})[5m:1m] offset 1m)", vectors),
        st.builds(lambda one: f'label_replace({one}, "a", "$1", "b", `(.*)`)', vectors),
        st.builds(lambda op, one, two: f"({one}) {op} ({two})", operators, vectors, vectors),
    )


@given(st.recursive(leaves, _larger, max_leaves=8))
def test_what_is_written_out_reads_the_same(expression: str) -> None:
    tree = parse(expression)

    assert parse(show(tree.root)) == tree


def test_an_expression_is_written_out_with_more_matchers() -> None:
    tree = parse('rate(a[5m]) / on (x) b{y="z"} > 1')

    assert show(tree.root, {0: ('x=~"1|"',), 1: ('x=~"1|"',)}) == (
        '((rate(a{x=~"1|"}[5m])) / on (x) (b{y="z",x=~"1|"})) > (1.0)'
    )


# --- where a selector stands ----------------------------------------------------------------------


def matchers(expression: str, **labels: str) -> list[str]:
    tree = parse(expression)
    at = places(tree.root)
    return [",".join(at[each.index].matchers(labels)) for each in tree.selectors]


@pytest.mark.parametrize(
    ("expression", "matched"),
    [
        ('label_replace(a, "i", "$1", "i", "(.*):.*")', 'i=~"(?:)(?:n)(?::.*)|n"'),
        ('label_replace(a, "i", "${1}", "i", "([^:]+)(?::[0-9]+)?")',
         'i=~"(?:)(?:n)(?:(?::[0-9]+)?)|n"'),
        ('label_replace(a, "i", "$1", "other", "(.*)")', 'other=~"(?:)(?:n)(?:)|n"'),
        # The label may be from elsewhere: then nothing is known of the series.
        ('label_replace(a, "i", "$1", "other", "(.*):.*")', ""),
        ('label_replace(a, "i", "$1-$2", "i", "(.*):(.*)")', ""),
        ('label_replace(a, "i", "x", "i", "(.*)")', ""),
        ('label_replace(a, "i", "$1", "i", "(?:(a)|b)")', ""),
        ('label_join(a, "i", ":", "x", "y")', ""),
        ('count_values("i", a)', ""),
        ("scalar(a)", ""),
        # One that goes through a second time is told by the outer one alone.
        ('label_replace(label_replace(a, "i", "$1", "i", "(.*)x"), "i", "$1", "i", "(.*)y")', ""),
        ('sum by (s) (label_replace(a, "i", "$1", "i", "(.*):.*"))', ""),
    ],
)  # fmt: skip
def test_a_label_that_the_expression_makes_is_asked_for_where_it_is_from(
    expression: str, matched: str
) -> None:
    assert matchers(expression, i="n") == [matched]


@pytest.mark.parametrize(
    ("expression", "signs"),
    [
        ("a > 1", [1]),
        ("a < 1", [-1]),
        ("a == 1", [0]),
        ("1 > a", [-1]),
        ("a - b > 1", [1, -1]),
        ("1 - a / b > 1", [-1, 1]),
        ("a / b < 1", [-1, 1]),
        ("-a > 1", [-1]),
        ("a * -1 > 1", [-1]),
        ("a unless b", [1, -1]),
        ("abs(a) > 1", [0]),
        ("count(a > 1) > 5", [1]),
        ("stddev(a) > 1", [0]),
    ],
)
def test_knows_whether_a_series_drives_its_alert(expression: str, signs: list[int]) -> None:
    tree = parse(expression)
    at = places(tree.root)

    assert [at[each.index].sign for each in tree.selectors] == signs


# --- what Prometheus sends ------------------------------------------------------------------------

CHAINS = [
    [{"source_labels": ["instance"], "regex": "(.*):.*", "target_label": "instance"},
     {"source_labels": ["instance", "job"], "modulus": 7, "target_label": "shard",
      "action": "hashmod"},
     {"regex": "serv(.*)", "replacement": "s$1", "action": "labelmap"}],
    [{"regex": "job|replica", "action": "labeldrop"},
     {"source_labels": ["service", "job"], "separator": "/", "target_label": "${1}x",
      "regex": "(.*)/.*", "replacement": "$1-$$"},
     {"source_labels": ["service"], "target_label": "service", "action": "uppercase"}],
    [{"regex": "alertname|service", "action": "labelkeep"}],
    [{"source_labels": ["service"], "regex": "a", "action": "drop"},
     {"target_label": "replica", "replacement": ""}],
    [{"source_labels": ["service"], "regex": "a", "action": "keep"},
     {"target_label": "service", "replacement": "fixed"}],
]  # fmt: skip


class Sent(NamedTuple):
    """A Prometheus that relabels alerts, and the Alertmanager that they get to."""

    prometheus: Program
    alertmanager: Program
    config: Path

    def relabel(self, chain: list[dict[str, Any]]) -> list[dict[str, str]]:
        """Send all alerts by *chain*, and return the labels of those that came."""
        config = json.loads(self.config.read_text())
        config["alerting"]["alert_relabel_configs"] = chain
        self.config.write_text(json.dumps(config))
        self.prometheus.reload()
        since = datetime.now(UTC) + timedelta(seconds=1)  # what was under way has arrived

        def came() -> list[dict[str, str]]:
            with urllib.request.urlopen(f"{self.alertmanager.url}/api/v2/alerts") as answer:
                alerts = json.load(answer)
            return [
                each["labels"]
                for each in alerts
                if datetime.fromisoformat(each["updatedAt"]) > since
            ]

        found: list[dict[str, str]] = wait_until(came, within=20)
        return found


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    folder = tmp_path_factory.mktemp("sent")
    rules = """
groups:
  - name: tests
    rules:
      - alert: High
        expr: high > 1
        labels: {severity: critical, note: 'of {{ $labels.service }}', gone: ''}
"""
    with Exporter() as exporter, start_alertmanager(folder / "alertmanager") as alertmanager:
        for service in ("a", "b"):
            exporter.set("high", 9, service=service, gone="x")
        with start_prometheus(
            folder,
            targets={"one": [exporter.address]},
            rules=rules,
            alertmanagers=(alertmanager.url.removeprefix("http://"),),
            external_labels={"region": "eu", "service": "external", "replica": "1"},
            resend="1s",
        ) as program:
            wait_until(lambda: len(client(program.url).query("ALERTS")) == 2)
            yield Sent(program, alertmanager, folder / "prometheus.yml")


@pytest.mark.parametrize("chain", CHAINS)
def test_knows_what_prometheus_sends(chain: list[dict[str, Any]], sent: Sent) -> None:
    """Each alert that a real Alertmanager got is of the series that we say, and of no other."""
    came = sent.relabel(chain)
    asking = client(sent.prometheus.url)
    sending = asking.sending()
    assert sending is not None
    series = [sample.labels for sample in asking.query("high > 1")]
    rule = asking.rules("High")[0]
    for labels in came:
        ours = [each for each in series if sending.sends(each, rule.labels, labels)]
        told = labels.get("note", "").removeprefix("of ")
        assert told in {each["service"] for each in ours} if told else ours, labels
        assert not sending.sends(series[0], rule.labels, labels | {"more": "x"})
        assert not sending.may_send(series[0], rule.labels, labels | {"more": "x"})
        without = max(labels.keys() - {"alertname"})
        less = {name: value for name, value in labels.items() if name != without}
        assert all(sending.may_send(each, rule.labels, less) for each in ours)
        assert not any(sending.sends(each, rule.labels, less) for each in ours)


@pytest.mark.parametrize("text", ["", "[]", "a: [", "global: 5", "alerting: {alertmanagers: 3}"])
def test_what_is_no_configuration_says_nothing(text: str) -> None:
    assert read_sending(text) is None


def test_a_label_that_stands_for_a_variable_may_be_anything() -> None:
    assert not Sending({"cluster": "${NAME}"}).conflict({"cluster": "east"})
    assert Sending({"cluster": "west"}).conflict({"cluster": "east"}) == (
        'from another Prometheus: cluster="east", here "west"'
    )


# --- asking ---------------------------------------------------------------------------------------


class Scripted:
    """Answers in turn; an exception is raised."""

    def __init__(self, *answers: Samples | Exception) -> None:
        self._answers = list(answers)
        self.queries: list[tuple[str, float | None]] = []

    def recordings(self) -> Mapping[str, tuple[Rule, ...]]:
        return {}

    def sending(self) -> None:
        return None

    def query(self, expr: str, at: float | None = None) -> Samples:
        self.queries.append((expr, at))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


BINDING = Binding(
    expression="avg by (service) (lat) > 1", labels={"service": "shop"}, fed_at=1_000.0
)


def test_all_that_it_rests_on_is_asked_in_one_query() -> None:
    source = Scripted(Samples())
    look(source, BINDING, since=1_010.0, now=1_030.0)

    assert source.queries == [
        (
            (
                'label_replace((avg by (service) (lat)) > (1.0)\n, "__promheal__", "R", "", "")\n'
                'or label_replace(vector(time()), "__promheal__", "T", "", "")\n'
                'or label_replace(count((time() - timestamp(lat{service=~"shop|"}) < 20.000)), '
                '"__promheal__", "0", "", "")\n'
                'or label_replace(count(lat{service=~"shop|"} @ 1000.000), '
                '"__promheal__", "1", "", "")\n'
                "or label_replace(topk(51, count by (job, instance) "
                '(lat{service=~"shop|"} @ 1000.000 unless '
                '(time() - timestamp(lat{service=~"shop|"}) < 20.000))), '
                '"__promheal__", "2", "", "")\n'
                'or label_replace(sum((avg by (service) (lat{service=~"shop|"})) - (1.0)), '
                '"__promheal__", "3", "", "")'
            ),
            None,
        )
    ]


@pytest.mark.parametrize(
    ("answer", "detail", "unasked"),
    [
        (UpstreamError("/api/v1/query: Connection refused"), "Connection refused", True),
        (Samples(), "did not say for which moment", False),
    ],
)
def test_what_cannot_be_asked_is_unknown(
    answer: Samples | Exception, detail: str, *, unasked: bool
) -> None:
    for said in (
        look(Scripted(answer), BINDING, since=1.0, now=2.0),
        bind(Scripted(answer), {}, "up", None, now=2.0),
    ):
        assert said.signal is UNKNOWN
        assert detail in said.detail
        assert said.unasked is unasked


@pytest.mark.parametrize("expression", ["cpu >", "(" * 5000, "info(a)", "avg(x) keep_metric_names"])
def test_what_cannot_be_read_is_unknown_and_says_what_to_do(expression: str) -> None:
    binding = Binding(expression=expression, labels={}, fed_at=1.0)
    said = look(Scripted(), binding, since=1.0, now=2.0)

    assert said.signal is UNKNOWN
    assert "verify.query" in said.detail


def test_what_is_too_large_to_ask_is_unknown() -> None:
    labels = {"service": "x" * 70_000}
    said = look(Scripted(), Binding(expression="a > 1", labels=labels, fed_at=1.0), since=1, now=2)

    assert said.signal is UNKNOWN
    assert "too much for one query" in said.detail


# --- a real Prometheus ----------------------------------------------------------------------------

RULES = r"""
groups:
  - name: tests
    rules:
      - record: service:late:max
        expr: max by (service) (late)
      - alert: High
        expr: |
          high
            > 5  # as the operator wrote it
        labels: {severity: critical, note: 'of {{ $labels.service }}'}
      - alert: Broken
        expr: left * on() right > 0
"""
WEIRD = 'q"uo\\te\nnew {line}|.*'


class Facts:
    """A Prometheus, and what it knows of its rules, asked anew each time."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus
        self.query = prometheus.query
        self.sending = prometheus.sending

    def recordings(self) -> Mapping[str, tuple[Rule, ...]]:
        return Ruleset(self._prometheus, time.time).makers()


class Chain:
    """A Prometheus that scrapes two exporters each second."""

    def __init__(self, one: Exporter, two: Exporter, program: Program) -> None:
        self.one, self.two, self.program = one, two, program
        self.prometheus = client(program.url)
        self.source = Facts(self.prometheus)

    def alert(
        self, name: str, exporter: Exporter | None = None, /, **labels: str
    ) -> dict[str, str]:
        """As Alertmanager would send it, external label included."""
        own = {} if exporter is None else {
            "instance": exporter.address, "job": "one" if exporter is self.one else "two",
        }  # fmt: skip
        return {"alertname": name, "region": "eu"} | own | labels

    def bound(self, labels: dict[str, str], expression: str) -> Binding:
        def found() -> Binding | None:
            rule = Rule(name=labels["alertname"], query=expression)
            return bind(self.source, labels, expression, rule, now=time.time()).binding

        binding: Binding = wait_until(found, what=f"{expression} is returned")
        return binding

    def look(
        self, binding: Binding, since: float = 0.0, expect: Expect = Expect.EMPTY
    ) -> Judgement:
        return look(self.source, binding, since=since, now=time.time(), expect=expect)

    def wait(self, signal: Signal, look: Callable[[], Judgement]) -> Judgement:
        found: list[Judgement] = []

        def seen() -> bool:
            found.append(look())
            return found[-1].signal is signal

        wait_until(seen, within=10, what=f"{signal}: {found[-1:]}")
        return found[-1]

    def value(self, query: str) -> float | None:
        found = self.prometheus.query(query)
        return found[0].value if found else None


def client(url: str, timeout: float = 5.0) -> Prometheus:
    return Prometheus(PrometheusSettings(url=url, timeout=timeout))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("prometheus")
    with Exporter() as one, Exporter() as two:
        for exporter in (one, two):
            exporter.set("alive", 1)
        one.set("left", 1, service="a")
        one.set("left", 1, service="b")
        one.set("right", 1, service="a")
        one.set("right", 1, service="b")
        one.set("high", 9, service="a")
        one.set("late", 9, service="a")
        one.set("weird", 9, name=WEIRD)
        with start_prometheus(
            folder,
            targets={"one": [one.address], "two": [two.address]},
            rules=RULES,
            external_labels={"region": "eu"},
        ) as program:
            ready = Chain(one, two, program)
            wait_until(lambda: ready.value('up{job="one"}') and ready.value('up{job="two"}'))
            yield ready


def test_fires_then_clears_only_with_a_newer_sample(chain: Chain) -> None:
    alert = chain.alert("High", chain.one, service="a", severity="critical", note="of a")
    (rule,) = wait_until(lambda: [r for r in chain.prometheus.rules("High") if r.health == "ok"])

    firing = bind(chain.source, alert, rule.query, rule, now=time.time())
    assert (firing.signal, firing.value) == (FIRING, 9.0)
    binding = firing.binding
    assert binding is not None
    assert binding.labels == {"instance": chain.one.address, "job": "one", "service": "a"}
    assert binding.lag == 0.0

    chain.one.set("high", 3, service="a")
    chain.wait(CLEARED, lambda: chain.look(binding))
    since = time.time()
    seen = set()
    while (judgement := chain.look(binding, since)).signal is not CLEARED:
        seen.add(judgement.signal)
        assert time.time() < since + 10
    newest = chain.value("timestamp(high)")
    assert newest is not None
    assert newest > since
    assert seen == {UNKNOWN}
    # Nobody remembers an alert that is over; when it began, it was returned.
    began = binding.fed_at
    late = bind(chain.source, alert, rule.query, rule, now=time.time(), starts_at=began)
    assert late.signal is CLEARED
    assert late.binding is not None
    never = bind(chain.source, alert, rule.query, rule, now=time.time(), starts_at=0.0)
    assert never.signal is UNKNOWN
    assert "neither now nor when it began" in never.detail


def test_the_alert_of_another_prometheus_is_not_judged_here(chain: Chain) -> None:
    chain.one.set("cluster", 9)
    expression = "cluster > 5"
    chain.bound(chain.alert("Cluster", chain.one), expression)
    rule = Rule(name="Cluster", query=expression)
    for labels, said in (
        ({"region": "us"}, 'from another Prometheus: region="us", here "eu"'),
        ({"cluster": "x"}, 'would send it with cluster="", not "x"'),
    ):
        other = chain.alert("Cluster", chain.one) | labels
        found = bind(chain.source, other, expression, rule, now=time.time())
        assert found.signal is UNKNOWN
        assert said in found.detail


def test_a_clock_that_differs_from_prometheus_does_not_matter(chain: Chain) -> None:
    chain.two.set("skewed", 9)
    labels = chain.alert("Skewed", chain.two)
    for skew in (-3600.0, 3600.0):
        chain.two.set("skewed", 9)
        chain.bound(labels, "skewed > 5")
        rule = Rule(name="Skewed", query="skewed > 5")
        found = bind(chain.source, labels, rule.query, rule, now=time.time() + skew)
        binding = found.binding
        assert binding is not None
        assert binding.lag == 0.0
        chain.two.set("skewed", 1)
        chain.wait(CLEARED, lambda: chain.look(binding))
        since = time.time() + skew

        def asked(
            skew: float = skew, since: float = since, binding: Binding = binding
        ) -> Judgement:
            return look(chain.source, binding, since=since, now=time.time() + skew)

        assert asked().signal is UNKNOWN
        chain.wait(CLEARED, asked)


class Behind:
    """A Prometheus that answers for a moment that has passed, as front ends do."""

    def __init__(self, chain: Chain, lag: float) -> None:
        self._prometheus = chain.prometheus
        self._lag = lag
        self.recordings = chain.source.recordings
        self.sending = chain.source.sending

    def query(self, expr: str, at: float | None = None) -> Samples:
        return self._prometheus.query(expr, time.time() - self._lag if at is None else at)


def test_what_is_asked_of_the_past_must_be_new_there(chain: Chain) -> None:
    """VictoriaMetrics answers for 30 s ago: the target died meanwhile, and is not seen dead yet."""
    chain.one.set("behind", 9)
    labels, expression = chain.alert("Behind", chain.one), "behind > 5"
    chain.bound(labels, expression)
    time.sleep(3)
    source = Behind(chain, 3.0)
    rule = Rule(name="Behind", query=expression)
    found = bind(source, labels, expression, rule, now=time.time())
    assert found.binding is not None
    assert 2.0 <= found.binding.lag <= 5.0

    chain.one.set("behind", 1)
    time.sleep(1.5)
    since = time.time()  # the action ends, and with it the series
    chain.one.set("behind", None)
    until = time.time() + 5
    while time.time() < until:
        said = look(source, found.binding, since=since, now=time.time())
        assert said.signal is not CLEARED, said
        time.sleep(0.2)
    # One that had answered for the moment at which it was asked, and does not any more.
    late = replace(found.binding, lag=0.0)
    assert look(source, late, since=since, now=time.time()).signal is UNKNOWN


def test_a_dead_target_is_never_healed(chain: Chain) -> None:
    chain.two.set("dead", 9)
    binding = chain.bound(chain.alert("Dead", chain.two), "dead > 5")
    since = time.time()
    chain.two.down()
    try:
        chain.wait(UNKNOWN, lambda: chain.look(binding, since))
        assert not chain.prometheus.query("dead > 5")
        for _ in range(10):
            judgement = chain.look(binding, since)
            assert judgement.signal is UNKNOWN
            time.sleep(0.2)
        assert f"{chain.two.address} is down" in judgement.detail
        assert chain.look(binding).signal is UNKNOWN
    finally:
        chain.two.set("dead", 1)
        chain.two.up()
    chain.wait(CLEARED, lambda: chain.look(binding, since))


def test_a_healthy_sibling_does_not_vouch_for_a_dead_one(chain: Chain) -> None:
    chain.one.set("pair", 0.2, service="a")
    chain.two.set("pair", 9, service="a")
    expression = "avg by (service) (pair) > 1"
    wait_until(lambda: chain.value("count(pair)") == 2)
    binding = chain.bound(chain.alert("Pair", service="a"), expression)
    since = time.time()
    chain.two.down()
    try:
        wait_until(lambda: not chain.prometheus.query(expression))
        wait_until(lambda: "is down" in chain.look(binding, since).detail)
        for _ in range(5):
            assert chain.look(binding, since).signal is UNKNOWN
            time.sleep(0.2)
    finally:
        chain.two.set("pair", 0.2, service="a")
        chain.two.up()
    chain.wait(CLEARED, lambda: chain.look(binding, since))


def test_a_recording_rule_hides_nothing(chain: Chain) -> None:
    binding = chain.bound(chain.alert("Late", service="a"), "service:late:max > 5")
    assert [r.query for r in chain.source.recordings()["service:late:max"]] == [
        "max by (service) (late)"
    ]
    since = time.time()
    chain.one.set("late", 1, service="a")
    chain.wait(CLEARED, lambda: chain.look(binding, since))
    since = time.time()
    chain.one.set("late", None, service="a")
    wait_until(lambda: "late{" in chain.look(binding, since).detail)
    for _ in range(5):
        assert chain.look(binding, since).signal is UNKNOWN
        time.sleep(0.2)


def test_labels_of_any_text(chain: Chain) -> None:
    binding = chain.bound(chain.alert("Weird", chain.one, name=WEIRD), "weird > 5")
    assert chain.look(binding).value == 9.0
    since = time.time()
    chain.one.set("weird", 1, name=WEIRD)
    chain.wait(CLEARED, lambda: chain.look(binding, since))


def test_a_query_that_cannot_be_evaluated_proves_nothing(chain: Chain) -> None:
    rule = Rule(name="Other", query="left * on() right > 0")
    said = bind(chain.source, chain.alert("Other"), rule.query, rule, now=time.time())
    assert said.signal is UNKNOWN
    assert "/api/v1/query: 422" in said.detail
    assert "many-to-many" in said.detail


def test_a_rate_needs_two_samples(chain: Chain) -> None:
    """A first sample after a long outage: `rate` returns nothing yet, whatever is wrong."""
    chain.one.set("fast", 1, service="a")
    wait_until(lambda: chain.value("fast") is not None)
    labels = {"instance": chain.one.address, "job": "one", "service": "a"}
    binding = Binding(expression="rate(fast[1s]) > 5", labels=labels, fed_at=time.time())
    assert chain.look(binding).signal is UNKNOWN
    longer = replace(binding, expression="rate(fast[10s]) > 5")
    chain.wait(CLEARED, lambda: chain.look(longer))


def test_the_operators_own_query(chain: Chain) -> None:
    since = time.time()

    def own(query: str) -> Binding:
        labels = {"instance": chain.one.address}
        return Binding(expression=query, labels=labels, fed_at=since, own=True)

    well = own('up{job="one"} == 1')
    assert chain.look(well, since, Expect.PRESENT).signal is UNKNOWN
    chain.wait(CLEARED, lambda: chain.look(well, since, Expect.PRESENT))
    assert chain.look(own('up{job="one"} > 1'), since, Expect.PRESENT).signal is FIRING
    assert chain.look(own("nothing_there"), 0.0, Expect.PRESENT).signal is UNKNOWN
    assert chain.look(own('up{job="one"} == 1'), since).signal is FIRING
    assert chain.look(own('up{job="one"} > 1'), since).signal is CLEARED


def test_a_prometheus_that_never_answers_costs_its_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        held: list[socket.socket] = []
        thread = threading.Thread(target=lambda: held.append(silent.accept()[0]))
        thread.start()
        prometheus = client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.5)
        began = time.monotonic()
        said = look(Facts(prometheus), BINDING, since=1.0, now=2.0)
        assert 0.4 < time.monotonic() - began < 3
        thread.join()
        held[0].close()
    assert "no answer within 0.5s" in said.detail
    assert said.unasked
