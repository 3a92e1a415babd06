from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import UpstreamError
from receiver.guards.situation import Signal
from receiver.prometheus import Prometheus
from receiver.promql import Rule, Sample, Samples, Selector
from receiver.settings import PrometheusSettings
from receiver.strategy import Expect
from receiver.verification import (
    Evidence,
    Judgement,
    Row,
    SelectorData,
    find_rule,
    judge,
    observe,
    question,
)
from tests.chain import Exporter, Program, start_prometheus, wait_until

FIRING, CLEARED, UNKNOWN = Signal.FIRING, Signal.CLEARED, Signal.UNKNOWN

# --- values ---------------------------------------------------------------------------------------

ALERT = {"alertname": "HighCPU", "service": "a", "instance": "i1", "severity": "critical"}
RULE = Rule(name="HighCPU", query="cpu > 0.8", labels={"severity": "critical"}, health="ok")
SINCE = 1_000.0


def data(
    *rows: tuple[dict[str, str], float],
    text: str = "cpu",
    offset: float = 0.0,
    carried: Sequence[str] = (),
) -> SelectorData:
    return SelectorData(
        Selector(text, offset), tuple(Row(*row) for row in rows), frozenset(carried)
    )


def series(value: float = 0.9, /, **labels: str) -> Sample:
    return Sample(labels, value)


MINE = {"service": "a", "instance": "i1"}
OTHER = {"service": "a", "instance": "i2"}
NEW, OLD = SINCE + 1, SINCE - 1


def evidence(
    samples: Sequence[Sample] = (),
    selectors: Sequence[SelectorData] = (data((MINE, NEW)),),
    rule: Rule | None = RULE,
    **more: object,
) -> Evidence:
    return Evidence(samples=tuple(samples), selectors=tuple(selectors), rule=rule, **more)  # type: ignore[arg-type]


def broken(**changes: str) -> Rule:
    return Rule(name="HighCPU", query="cpu > 0.8", health="err", last_error="many-to-many")


@pytest.mark.parametrize(
    ("given", "signal", "detail"),
    [
        # Nothing is returned.
        pytest.param(evidence(), CLEARED, "no longer returned", id="cleared"),
        pytest.param(evidence(selectors=()), CLEARED, "", id="rests on nothing, like absent()"),
        pytest.param(
            evidence(selectors=[data()]), UNKNOWN, "no sample since 1970-01-01T00:16:40.000+00:00 "
            "for cpu", id="dead target",
        ),
        pytest.param(
            evidence(selectors=[data((MINE, OLD))]), UNKNOWN, "the newest is of", id="old sample"
        ),
        pytest.param(evidence(selectors=[data((MINE, SINCE))]), UNKNOWN, "", id="no later sample"),
        pytest.param(
            evidence(selectors=[data((OTHER, NEW))]), UNKNOWN, "no sample", id="another replica's"
        ),
        pytest.param(
            evidence(selectors=[data((OTHER, NEW), (MINE, OLD))]), UNKNOWN, "no sample",
            id="one of two replicas is dead",
        ),
        pytest.param(
            evidence(selectors=[data((OTHER, OLD), (MINE, NEW))]), CLEARED, "",
            id="the other of two replicas is dead",
        ),
        pytest.param(
            evidence(selectors=[data(({"service": "a"}, NEW), (MINE, OLD))]), UNKNOWN, "no sample",
            id="a row without our label, while others have it",
        ),
        pytest.param(
            evidence(selectors=[data(({"service": "a"}, NEW), carried=["instance"])]), UNKNOWN, "",
            id="a row without our label, which unseen series have",
        ),
        pytest.param(
            evidence(selectors=[data(({"service": "a"}, NEW))]), CLEARED, "",
            id="no series has the label, like an external one",
        ),
        pytest.param(evidence(selectors=[data(({}, NEW))]), CLEARED, "", id="sum over everything"),
        pytest.param(
            evidence(selectors=[data((MINE, NEW)), data(text="total")]), UNKNOWN, "for total",
            id="one of two selectors has no data",
        ),
        pytest.param(
            evidence(selectors=[data((MINE, NEW - 3600), offset=3600.0)]), CLEARED, "",
            id="what is read from the past is as fresh as it can be",
        ),
        pytest.param(
            evidence(selectors=[data((MINE, OLD - 3600), offset=3600.0)]), UNKNOWN, "for cpu",
            id="what is read from the past is old there",
        ),
        pytest.param(
            evidence(selectors=[data((MINE, OLD), offset=-3600.0)]), UNKNOWN, "",
            id="what is read from the future must be new all the same",
        ),
        pytest.param(
            evidence(selectors=[data((MINE | {"severity": "low"}, NEW))]), CLEARED, "",
            id="data with a label that the rule overwrites",
        ),
        pytest.param(
            evidence(selectors=[data((MINE | {"severity": "low"}, NEW))], rule=None), UNKNOWN, "",
            id="data with such a label, the rule not being found",
        ),
        # Something is.
        pytest.param(
            evidence([series(0.95, **MINE)]), FIRING,
            'returned: {instance="i1", service="a"} = 0.95', id="firing",
        ),
        pytest.param(evidence([series(**OTHER)]), CLEARED, "", id="another alert's series"),
        pytest.param(evidence([series(**OTHER), series(**MINE)]), FIRING, "", id="both"),
        pytest.param(evidence([series()]), FIRING, "", id="a series without labels"),
        pytest.param(evidence([series(service="a")]), FIRING, "", id="fewer labels than the alert"),
        pytest.param(
            evidence([series(**MINE, pod="p")]), FIRING, "", id="a label that relabelling dropped"
        ),
        pytest.param(
            evidence([series(**MINE, severity="low", alertname="x", __name__="cpu")]), FIRING, "",
            id="labels that the rule overwrites",
        ),
        pytest.param(
            evidence([series(**MINE, severity="low")], [data((MINE, NEW))], None), UNKNOWN,
            "may be this alert's", id="overwritten by whom, the rule not being found",
        ),
        pytest.param(
            evidence([series(**OTHER, severity="low")], [data((MINE, NEW))], None), CLEARED, "",
            id="differs in a label that its own data shows",
        ),
        pytest.param(evidence([series(math.nan, **MINE)]), FIRING, "= nan", id="NaN"),
        pytest.param(evidence([series(-math.inf, **MINE)]), FIRING, "= -inf", id="-Inf"),
        pytest.param(evidence([series(0.0, **MINE)]), FIRING, "", id="zero"),
        pytest.param(evidence([series(**MINE)], [data()]), FIRING, "", id="firing on old data"),
        # Something went wrong.
        pytest.param(evidence(error="refused"), UNKNOWN, "refused", id="not asked"),
        pytest.param(
            evidence([series(**MINE)], error="refused"), UNKNOWN, "refused", id="asked in part"
        ),
        pytest.param(
            evidence(rule=broken()), UNKNOWN, "cannot evaluate the rule HighCPU: many-to-many",
            id="the rule cannot be evaluated",
        ),
        pytest.param(
            evidence(rule=broken(), own_query=True), CLEARED, "", id="nor does it have to be"
        ),
        pytest.param(evidence(rule=None), CLEARED, "", id="no rule is found"),
        pytest.param(
            evidence(warnings=("store x: no such host",)), UNKNOWN, "incomplete: store x",
            id="an incomplete answer",
        ),
        pytest.param(
            evidence(warnings=('PromQL info: metric might not be a counter: "cpu"',)), CLEARED, "",
            id="a remark about PromQL",
        ),
        pytest.param(
            evidence([series(**MINE)], warnings=("store x: no such host",)), FIRING, "",
            id="an incomplete answer that is enough",
        ),
    ],
)  # fmt: skip
def test_judges_an_alerts_own_expression(given: Evidence, signal: Signal, detail: str) -> None:
    judgement = judge(given, ALERT, since=SINCE)
    assert judgement.signal is signal, judgement
    assert detail in judgement.detail


@pytest.mark.parametrize(
    ("given", "signal"),
    [
        pytest.param(evidence([series(**MINE)]), CLEARED, id="returned"),
        pytest.param(evidence([series(0.0, **MINE)]), CLEARED, id="returned, whatever its value"),
        pytest.param(evidence([series()]), CLEARED, id="returned without labels"),
        pytest.param(evidence([series(**MINE)], [data((MINE, OLD))]), UNKNOWN, id="from before"),
        pytest.param(evidence([series(**MINE)], [data()]), UNKNOWN, id="without data"),
        pytest.param(evidence(), FIRING, id="not returned"),
        pytest.param(evidence([series(**OTHER)]), FIRING, id="another's is returned"),
        pytest.param(evidence(selectors=[data()]), UNKNOWN, id="nothing is there"),
        pytest.param(evidence(error="refused"), UNKNOWN, id="not asked"),
    ],
)
def test_judges_a_query_that_returns_what_is_healthy(given: Evidence, signal: Signal) -> None:
    assert judge(given, ALERT, since=SINCE, expect=Expect.PRESENT).signal is signal


def test_before_acting_any_sample_will_do() -> None:
    assert judge(evidence(selectors=[data((MINE, 1.0))]), ALERT, since=0).signal is CLEARED
    gone = judge(evidence(selectors=[data()]), ALERT, since=0)
    assert gone == Judgement(UNKNOWN, None, "no sample for cpu")


def test_tells_the_value_of_the_series_that_is_most_like_the_alert() -> None:
    found = judge(evidence([series(1.0), series(2.0, **MINE), series(3.0, service="a")]), ALERT,
                  since=SINCE)  # fmt: skip
    assert found.value == 2.0


names = st.sampled_from(["service", "instance", "severity", "pod"])
label_sets = st.dictionaries(names, st.sampled_from(["a", "b"]))
times = st.sampled_from([0.0, OLD, SINCE, NEW])


@given(
    alert=label_sets,
    rows=st.lists(st.lists(st.tuples(label_sets, times), max_size=4), min_size=1, max_size=3),
    samples=st.lists(st.builds(Sample, label_sets, st.floats()), max_size=3),
    rule_labels=label_sets,
    expect=st.sampled_from(Expect),
    carried=st.frozensets(names),
)
def test_never_cleared_without_new_data_of_the_alert(
    alert: dict[str, str],
    rows: list[list[tuple[dict[str, str], float]]],
    samples: list[Sample],
    rule_labels: dict[str, str],
    expect: Expect,
    carried: frozenset[str],
) -> None:
    rule = Rule(name="x", query="x", labels=rule_labels)
    seen = [data(*each, carried=list(carried)) for each in rows]
    judgement = judge(evidence(samples, seen, rule), alert, since=SINCE, expect=expect)
    own = {name: value for name, value in alert.items() if name not in rule_labels}
    ours = [s for s in samples if all(s.labels.get(n, v) == v for n, v in own.items())]
    if judgement.signal is CLEARED:
        assert bool(ours) is (expect is Expect.PRESENT)
        for each in rows:
            fresh = [labels for labels, at in each if at > SINCE]
            assert any(all(row.get(n, v) == v for n, v in own.items()) for row in fresh)
            for name, value in own.items():
                if name in carried or any(name in row for row, _ in each):
                    assert any(row.get(name) == value for row in fresh)
    if ours and expect is Expect.EMPTY:
        assert judgement.signal is FIRING


# --- rules and time -------------------------------------------------------------------------------


def rule(query: str = "cpu > 1", name: str = "HighCPU", **labels: str) -> Rule:
    return Rule(name=name, query=query, labels=labels)


@pytest.mark.parametrize(
    ("rules", "expression", "found"),
    [
        ([rule(name="Other")], None, None),
        ([rule()], None, 0),
        ([rule(severity="warning")], None, None),
        ([rule(), rule(severity="critical"), rule(severity="warning")], None, 1),
        ([rule(severity="{{ $labels.x }}", team="{{ $value }}")], None, 0),
        ([rule(query="cpu > 2"), rule()], "cpu > 1", 1),
        ([rule(query="cpu  >\n1 # high")], "cpu > 1", 0),
        ([rule(query="cpu > 2")], "cpu > 1", None),
        ([rule(), rule()], "cpu > 1", 0),
    ],
)
def test_finds_the_rule_of_an_alert(
    rules: list[Rule], expression: str | None, found: int | None
) -> None:
    assert find_rule(rules, ALERT, expression) is (None if found is None else rules[found])


# --- asking ---------------------------------------------------------------------------------------


class Scripted:
    """Answers in turn; an exception is raised."""

    def __init__(self, rules: Sequence[Rule], *answers: Samples | Exception) -> None:
        self._rules = tuple(rules)
        self._answers = list(answers)
        self.queries: list[str] = []

    def rules(self, alertname: str | None = None) -> tuple[Rule, ...]:
        return self._rules

    def query(self, expr: str, at: float | None = None) -> Samples:
        self.queries.append(expr)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def part(mark: str, value: float, **labels: str) -> Sample:
    return Sample(labels | {"__promheal__": mark}, value)


def test_one_query_asks_for_the_series_and_the_age_of_its_data() -> None:
    source = Scripted([RULE], Samples([part("0", 5.0, **MINE)]))
    seen = observe(source, ALERT, "cpu > 0.8", now=2000.0)
    (query,) = source.queries
    assert query == (
        'label_replace(cpu > 0.8, "__promheal__", "result", "", "")\n'
        "or label_replace(time() - max by (instance, service) "
        '(timestamp(cpu{instance=~"i1|",service=~"a|"})), "__promheal__", "0", "", "")'
    )
    assert seen == Evidence(selectors=(data((MINE, 1995.0)),), rule=RULE)


def test_labels_that_no_row_shows_are_asked_for() -> None:
    answers = Samples([part("0", 5.0, service="a")]), Samples([part("0", 1.0)])
    source = Scripted([RULE], *answers)
    seen = observe(source, ALERT | {"region": "eu"}, "cpu > 0.8", now=2000.0)
    assert source.queries[1] == (
        'label_replace(count(cpu{instance!=""}), "__promheal__", "0", "", "")\n'
        'or label_replace(count(cpu{region!=""}), "__promheal__", "1", "", "")'
    )
    assert seen.selectors[0].carried == {"instance"}


@pytest.mark.parametrize(
    "answer",
    [
        Samples([part("result", 1.0, service="a"), part("0", 5.0, service="a")]),
        Samples([]),
    ],
    ids=["firing", "no data"],
)
def test_what_is_decided_is_not_asked_further(answer: Samples) -> None:
    source = Scripted([RULE], answer)
    observe(source, ALERT, "cpu > 0.8", now=2000.0)
    assert len(source.queries) == 1


def test_a_broken_rule_is_not_asked_further() -> None:
    seen = observe(Scripted([broken()]), ALERT, "cpu > 0.8", now=2000.0)
    assert judge(seen, ALERT, since=0).signal is UNKNOWN


def test_without_an_expression_the_rules_own_is_asked() -> None:
    source = Scripted([RULE], Samples())
    observe(source, ALERT, None, now=2000.0)
    assert "cpu > 0.8" in source.queries[0]
    seen = observe(Scripted([]), ALERT, None, now=2000.0)
    assert "generatorURL" in seen.error


def test_an_edited_rule_still_tells_which_labels_it_sets() -> None:
    source = Scripted([RULE], Samples())
    observe(source, ALERT, "cpu > 0.7", now=2000.0)
    assert "severity" not in source.queries[0]


@pytest.mark.parametrize(
    ("answers", "expression", "error"),
    [
        ([UpstreamError("/api/v1/query: 422 many-to-many")], "cpu > 1", "422 many-to-many"),
        (
            [Samples([part("0", 5.0, service="a")]), UpstreamError("refused")],
            "cpu > 1",
            "refused",
        ),
        ([], "cpu >", "cannot be read"),
        ([], "(" * 5000, "operators"),
    ],
)
def test_what_cannot_be_asked_is_evidence_too(
    answers: list[Samples | Exception], expression: str, error: str
) -> None:
    seen = observe(Scripted([RULE], *answers), ALERT, expression, now=2000.0)
    assert error in seen.error
    assert judge(seen, ALERT, since=0).signal is UNKNOWN


def test_a_number_is_asked_for_as_a_vector() -> None:
    assert question("time() > bool 1", {}).query == (
        'label_replace(vector(time() > bool 1), "__promheal__", "result", "", "")'
    )


# --- a real Prometheus ----------------------------------------------------------------------------

RULES = r"""
groups:
  - name: tests
    rules:
      - alert: High
        expr: |
          high
            > 5  # as the operator wrote it
        labels: {severity: critical, note: 'of {{ $labels.service }}'}
      - alert: Broken
        expr: left * on() right > 0
      - alert: Gone
        expr: absent(gone{job="one"})
      - alert: Alone
        expr: left unless on(service) never
      - alert: Fast
        expr: rate(fast[10s]) > 5
      - alert: Errors
        expr: sum by (service) (errors) / sum by (service) (total) > 0.5
"""
WEIRD = 'q"uo\\te\nnew {line}|.*'


class Chain:
    """A Prometheus that scrapes two exporters each second."""

    def __init__(self, one: Exporter, two: Exporter, program: Program) -> None:
        self.one, self.two, self.program = one, two, program
        self.prometheus = client(program.url)

    def alert(
        self, name: str, exporter: Exporter | None = None, /, **labels: str
    ) -> dict[str, str]:
        """As Alertmanager would send it, external label included."""
        own = {} if exporter is None else {
            "instance": exporter.address, "job": "one" if exporter is self.one else "two",
        }  # fmt: skip
        return {"alertname": name, "region": "eu"} | own | labels

    def look(
        self,
        labels: dict[str, str],
        expression: str | None,
        *,
        since: float = 0.0,
        expect: Expect | None = None,
    ) -> Judgement:
        own = expect is not None
        seen = observe(self.prometheus, labels, expression, now=time.time(), own_query=own)
        return judge(seen, labels, since=since, expect=expect or Expect.EMPTY)

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
        one.set("weird", 9, name=WEIRD)
        one.set("errors", 9, service="a")
        one.set("total", 10, service="a")
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
    firing = chain.wait(FIRING, lambda: chain.look(alert, "high > 5"))
    assert firing.value == 9.0
    chain.one.set("high", 3, service="a")
    chain.wait(CLEARED, lambda: chain.look(alert, "high > 5"))
    since = time.time()
    seen = set()
    while (judgement := chain.look(alert, "high > 5", since=since)).signal is not CLEARED:
        seen.add(judgement.signal)
        assert time.time() < since + 10
    newest = chain.value("timestamp(high)")
    assert newest is not None
    assert newest > since
    assert seen == {UNKNOWN}
    assert chain.look(alert, "high > 5", since=time.time() + 60).signal is UNKNOWN


def test_a_clock_that_differs_from_prometheus_does_not_matter(chain: Chain) -> None:
    labels = chain.alert("Alive", chain.two)
    for skew in (-3600.0, 3600.0):
        since = time.time() + skew

        def look(skew: float = skew, since: float = since) -> Judgement:
            seen = observe(chain.prometheus, labels, "alive > 5", now=time.time() + skew)
            return judge(seen, labels, since=since)

        assert look().signal is UNKNOWN
        chain.wait(CLEARED, look)


def test_a_dead_target_is_never_healed(chain: Chain) -> None:
    chain.two.set("dead", 9)
    alert = chain.alert("Dead", chain.two)
    chain.wait(FIRING, lambda: chain.look(alert, "dead > 5"))
    since = time.time()
    chain.two.down()
    try:
        chain.wait(UNKNOWN, lambda: chain.look(alert, "dead > 5", since=since))
        assert not chain.prometheus.query("dead > 5")
        for _ in range(10):
            judgement = chain.look(alert, "dead > 5", since=since)
            assert judgement.signal is UNKNOWN
            assert "for dead" in judgement.detail
            assert chain.look(alert, "dead > 5").signal is UNKNOWN
            time.sleep(0.2)
    finally:
        chain.two.set("dead", 1)
        chain.two.up()
    chain.wait(CLEARED, lambda: chain.look(alert, "dead > 5", since=since))


def test_one_dead_replica_is_not_vouched_for_by_the_other(chain: Chain) -> None:
    for exporter in (chain.one, chain.two):
        exporter.set("replica", 1, service="a")
    dead = chain.alert("Replica", chain.two, service="a")
    alive = chain.alert("Replica", chain.one, service="a")
    for each in (dead, alive):
        chain.wait(CLEARED, lambda each=each: chain.look(each, "replica > 5"))  # type: ignore[misc]
    chain.two.set("replica", None, service="a")
    chain.wait(UNKNOWN, lambda: chain.look(dead, "replica > 5"))
    assert chain.look(alive, "replica > 5").signal is CLEARED
    # A series that lacks the label is not this alert's while others have it.
    assert chain.look(alive | {"instance": "gone", "job": "gone"}, "replica > 5").signal is UNKNOWN


def test_a_series_without_a_label_is_not_ours_if_others_have_it(chain: Chain) -> None:
    chain.one.set("mixed", 1, service="a", shard="1")
    chain.one.set("mixed", 1, service="a")
    first = chain.alert("Mixed", chain.one, service="a", shard="1")
    second = first | {"shard": "2"}
    chain.wait(CLEARED, lambda: chain.look(first, "mixed > 5"))
    assert chain.look(second, "mixed > 5").signal is UNKNOWN


def test_labels_of_any_text(chain: Chain) -> None:
    alert = chain.alert("Weird", chain.one, name=WEIRD)
    assert chain.wait(FIRING, lambda: chain.look(alert, "weird > 5")).value == 9.0
    chain.one.set("weird", 1, name=WEIRD)
    chain.wait(CLEARED, lambda: chain.look(alert, "weird > 5"))
    assert chain.look(alert | {"name": WEIRD + "x"}, "weird > 5").signal is UNKNOWN


def test_a_broken_rule_proves_nothing(chain: Chain) -> None:
    alert = chain.alert("Broken")
    judgement = chain.wait(
        UNKNOWN,
        lambda: chain.look(alert, "left * on () right > 0"),
    )
    wait_until(lambda: [r for r in chain.prometheus.rules("Broken") if r.health == "err"])
    judgement = chain.look(alert, "left * on () right > 0")
    assert "cannot evaluate the rule Broken: " in judgement.detail
    assert "many-to-many" in judgement.detail


def test_a_query_that_cannot_be_evaluated_proves_nothing(chain: Chain) -> None:
    judgement = chain.look(chain.alert("Other"), "left * on() right > 0")
    assert judgement.signal is UNKNOWN
    assert "/api/v1/query: 422" in judgement.detail
    assert "many-to-many" in judgement.detail


def test_absent(chain: Chain) -> None:
    alert = chain.alert("Gone", job="one")
    assert chain.wait(FIRING, lambda: chain.look(alert, 'absent(gone{job="one"})')).value == 1.0
    chain.one.set("gone", 1)
    chain.wait(CLEARED, lambda: chain.look(alert, 'absent(gone{job="one"})', since=time.time()))


def test_unless(chain: Chain) -> None:
    alert = chain.alert("Alone", chain.one, service="a")
    expression = "left unless on (service) never"
    chain.wait(FIRING, lambda: chain.look(alert, expression))
    chain.one.set("never", 1, service="a")
    chain.wait(CLEARED, lambda: chain.look(alert, expression))
    other = chain.alert("Alone", chain.one, service="b")
    assert chain.look(other, expression).signal is FIRING


def test_a_ratio_needs_both_of_its_sides(chain: Chain) -> None:
    expression = "sum by (service) (errors) / sum by (service) (total) > 0.5"
    alert = chain.alert("Errors", service="a")
    chain.wait(FIRING, lambda: chain.look(alert, expression))
    chain.one.set("errors", None, service="a")
    judgement = chain.wait(UNKNOWN, lambda: chain.look(alert, expression))
    assert "for errors" in judgement.detail
    chain.one.set("errors", 0, service="a")
    chain.wait(CLEARED, lambda: chain.look(alert, expression))


def test_a_rate_needs_two_samples(chain: Chain) -> None:
    """A first sample after a long outage: `rate` returns nothing yet, whatever is wrong."""
    alert = chain.alert("Fast", chain.one, service="a")
    chain.one.set("fast", 1, service="a")
    wait_until(lambda: chain.value("fast") is not None)
    assert chain.look(alert, "rate(fast[1s]) > 5").signal is UNKNOWN
    chain.wait(CLEARED, lambda: chain.look(alert, "rate(fast[10s]) > 5"))


def test_the_operators_own_query(chain: Chain) -> None:
    alert = chain.alert("Own", chain.one)
    query = 'up{job="one"} == 1'
    since = time.time()
    assert chain.look(alert, query, since=since, expect=Expect.PRESENT).signal is UNKNOWN
    chain.wait(CLEARED, lambda: chain.look(alert, query, since=since, expect=Expect.PRESENT))
    never = 'up{job="one"} > 1'
    assert chain.look(alert, never, since=since, expect=Expect.PRESENT).signal is FIRING
    assert chain.look(alert, "nothing_there", expect=Expect.PRESENT).signal is UNKNOWN


def test_finds_a_rule_as_prometheus_prints_it(chain: Chain) -> None:
    labels = chain.alert("High", service="a", severity="critical", note="of a")
    (found,) = wait_until(lambda: [r for r in chain.prometheus.rules("High") if r.health == "ok"])
    assert found.labels == {"severity": "critical", "note": "of {{ $labels.service }}"}
    assert find_rule([found], labels, "high\n> 5") is found


def test_a_stopped_prometheus_proves_nothing_and_says_so_at_once(tmp_path: Path) -> None:
    with start_prometheus(tmp_path / "gone") as program:
        prometheus = client(program.url)
        assert observe(prometheus, ALERT, "up", now=time.time()).error == ""
        program.stop()
        began = time.monotonic()
        seen = observe(prometheus, ALERT, "up", now=time.time())
        assert time.monotonic() - began < 3
    assert "/api/v1/rules: Connection refused" in seen.error
    assert judge(seen, ALERT, since=0).signal is UNKNOWN


def test_a_prometheus_that_never_answers_costs_its_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        held: list[socket.socket] = []
        thread = threading.Thread(target=lambda: held.append(silent.accept()[0]))
        thread.start()
        prometheus = client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.5)
        began = time.monotonic()
        seen = observe(prometheus, ALERT, "up", now=time.time())
        assert 0.4 < time.monotonic() - began < 3
        thread.join()
        held[0].close()
    assert seen.error == "/api/v1/rules: no answer within 0.5s"
    assert judge(seen, ALERT, since=0).signal is UNKNOWN
