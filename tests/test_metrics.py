from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from receiver.app import Promheal
from receiver.journal import Transaction
from receiver.policy.run import Outcome, Run, State
from receiver.reporting.families import Family, Texts, gauges
from receiver.reporting.metrics import DECISIONS, HEALS, NOTICES, TOTALS
from receiver.reporting.scrapers import FIRST, HEADER, Scrapers
from receiver.reporting.series import label_sets
from receiver.web.flask_app import create_app
from tests.commits import Failing
from tests.factories import alert, notification


@pytest.fixture
def client(service: Promheal) -> FlaskClient:
    return create_app(service).test_client()


def samples(client: FlaskClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_text(client.get("/metrics").text)
        for sample in family.samples
    }


def test_what_can_come_up_is_there_at_0_from_the_start(
    client: FlaskClient, service: Promheal
) -> None:
    found = samples(client)

    for total in TOTALS:
        sets = list(label_sets(total, service.config.strategies))
        assert sets or total is NOTICES  # there is no channel
        for values in sets:
            labels = tuple(sorted(zip(total.labels, values, strict=True)))
            assert found[f"promheal_{total.name}_total", labels] == 0
    heals = [key for key in found if key[0] == "promheal_heals_total"]
    assert len(heals) == len(Outcome)
    actions = {dict(labels)["action"] for name, labels in found if name == "promheal_actions_total"}
    assert actions == {"log"}, "those that a strategy uses"


MOST = 40
"""Series of a strategy at the start."""
ONE = """
  {name}:
    match: ['alertname="{name}"']
    target: [service]
    mode: {mode}
    on_failure: {on_failure}
    budget: [{{runs: 1, per: 1h}}, {{runs: 3, per: 1d}}]
    actions: [{{action: log, message: hello}}]
"""


def test_a_strategy_has_no_more_series_than_are_documented(
    config: Path, make_service: Callable[[], Promheal]
) -> None:
    kinds = [("auto", "rollback"), ("approve", "rollback"), ("auto", "keep"), ("observe", "keep")]
    named = [(f"s{n}", *kinds[n % len(kinds)]) for n in range(251)]
    (config / "healing_strategies.yml").write_text(
        "strategies:"
        + "".join(ONE.format(name=name, mode=mode, on_failure=end) for name, mode, end in named)
    )

    found = samples(create_app(make_service()).test_client())

    count = Counter(
        dict(labels).get("strategy", dict(labels).get("breaker", "").removeprefix("strategy:"))
        for _, labels in found
    )
    assert max(count[name] for name, _, _ in named) <= MOST
    assert count["s0"] > count["s2"] > count["s3"], "what cannot happen is not there"
    assert len(found) < 251 * MOST
    text = Path("docs/reference/metrics.md").read_text(encoding="utf-8")
    assert f"at most {MOST} series" in text


def test_what_has_moved_is_shown_though_it_cannot_come_up_any_more(
    client: FlaskClient, service: Promheal
) -> None:
    def count(transaction: Transaction) -> None:
        for strategy in ("latency", "gone"):
            transaction.count(DECISIONS.name, strategy, "deny", "observe_only")

    service.journal.atomically(count)

    found = samples(client)
    decided = [dict(labels) for name, labels in found if name == "promheal_decisions_total"]
    assert {"strategy": "latency", "verdict": "deny", "reason": "observe_only"} in decided
    assert {one["strategy"] for one in decided} == {"latency"}, "nothing of an earlier one"


RAN = Run(
    id=1, strategy="latency", target="", state=State.ACTING, episode=1, created_at=0, notified_at=0
)


def test_prometheus_sees_a_0_before_each_first_increase(
    client: FlaskClient, service: Promheal
) -> None:
    series = {
        "promheal_decisions_total": {"strategy": "latency", "verdict": "deny", "reason": "busy"},
        "promheal_alert_to_action_seconds_count": {"strategy": "latency"},
        "promheal_alert_to_action_seconds_sum": {"strategy": "latency"},
        "promheal_heals_total": {"strategy": "latency", "outcome": "failed"},
    }

    def seen(address: str = "", *, agent: str = "Prometheus/3.5.0") -> list[float | None]:
        headers = {HEADER: "10", "User-Agent": agent} if address else {}
        text = client.get(
            "/metrics", headers=headers, environ_overrides={"REMOTE_ADDR": address or "10.0.0.9"}
        ).text
        found = {
            (sample.name, tuple(sample.labels.items())): sample.value
            for family in parse_text(text)
            for sample in family.samples
        }
        return [found.get((name, tuple(sorted(labels.items())))) for name, labels in series.items()]

    one, other = "10.0.0.1", "10.0.0.2"
    assert seen(one) == seen(other) == [None, None, None, 0]
    service.journal.atomically(lambda t: t.count(DECISIONS.name, "latency", "deny", "busy"))
    service.journal.atomically(lambda t: t.count(HEALS.name, "latency", "failed"))
    service.metrics.observe(service.metrics.alert_to_action, RAN, 3)
    time.sleep(0.005)  # SQLite's clock counts milliseconds

    assert seen() == [1, 1, 3, 1], "a person sees what is so"
    assert seen(one) == [0, 0, 0, 1], "what was there at 0 has moved at once"
    assert seen(one) == [1, 1, 3, 1]
    assert seen(other) == [0, 0, 0, 1], "each sees the 0"
    assert seen(other) == [1, 1, 3, 1]
    assert seen(one, agent="another") == [0, 0, 0, 1], "maybe it knows the process before this one"


def test_a_scraper_is_remembered_and_not_every_one() -> None:
    scrapers = Scrapers()
    assert scrapers.scrape("a", "x") == FIRST
    assert scrapers.scrape("a", "x") < FIRST
    for number in range(200):
        scrapers.scrape(str(number), "x")
    assert len(scrapers._last) == 100
    assert scrapers.scrape("a", "x") == FIRST


hostile = st.text().filter(lambda text: "\r" not in text)


@given(value=hostile, number=st.floats().map(lambda number: number + 0.0))  # never -0.0
@pytest.mark.parametrize("kind", ["counter", "gauge"])
def test_a_family_is_written_as_the_library_writes_it(
    kind: Literal["counter", "gauge"], value: str, number: float
) -> None:
    theirs = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}[kind]
    one = theirs("promheal_x", "What it is.", labels=["b", "a"])
    one.add_metric([value, "é"], number)
    ours = Family(name="promheal_x", help="What it is.", kind=kind, labels=("b", "a"),
                  rows=[((value, "é"), number)])  # fmt: skip

    class Only:
        def collect(self) -> Iterable[Metric]:
            return [one]

    for accept, openmetrics in (("", False), ("application/openmetrics-text", True)):
        encoder, _ = choose_encoder(accept)
        written = encoder(Only()).decode(errors="surrogatepass").removesuffix("# EOF\n")
        assert ours.text(openmetrics=openmetrics) == written


def test_a_family_is_written_anew_when_a_number_has_changed() -> None:
    texts = Texts()

    def write(number: float) -> str:
        return texts.of(gauges("x", "X.", ["a"], [(("b",), number)]), openmetrics=False).decode()

    assert [write(number).split()[-1] for number in (0, 0, 2, 0)] == ["0.0", "0.0", "2.0", "0.0"]


def test_distinct_alerts_add_no_series(client: FlaskClient, service: Promheal) -> None:
    before = samples(client).keys()
    for start in range(0, 10_000, 1000):
        batch = [
            alert(labels={"alertname": f"A{n}", "instance": f"i{n}", "x\n": "y\ud7ff"})
            for n in range(start, start + 1000)
        ]
        service.intake.admit(notification(*batch))

    after = samples(client)

    assert after.keys() == before
    assert after["promheal_alerts_received_total", (("status", "firing"),)] == 10_000


def test_openmetrics_is_spoken_to_who_asks_for_it(client: FlaskClient) -> None:
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text"})

    assert answer.content_type.startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(answer.text)}  # type: ignore[no-untyped-call]
    assert {"promheal_heals", "promheal_build", "promheal_alerts_firing"} <= names


def test_no_series_of_creation_times(client: FlaskClient) -> None:
    assert "_created" not in client.get("/metrics").text


def test_the_reference_and_the_exposition_name_the_same_metrics(client: FlaskClient) -> None:
    reference = Path("docs/reference/metrics.md").read_text(encoding="utf-8")
    exposed = re.findall(r"^# TYPE (promheal_\w+)", client.get("/metrics").text, re.MULTILINE)
    documented = re.findall(r"^\| `(promheal_\w+)`", reference, re.MULTILINE)

    assert len(exposed) > 25
    assert sorted(documented) == sorted(exposed)


def test_a_refusal_that_cannot_be_stored_is_counted_all_the_same_and_once(
    client: FlaskClient, service: Promheal
) -> None:
    name = "promheal_notifications_total", (("code", "503"),)
    disk = Failing(service.journal, all_of_them=True)
    seen = []
    for _ in range(3):
        service.intake.reject("503")
        service.intake.settle()
        seen.append(samples(client)[name])
    full = service.journal.read(lambda t: t.stats()).totals
    disk.all = False
    service.intake.settle()
    seen.append(samples(client)[name])

    assert seen == [1, 2, 3, 3]
    assert ("notifications", ("503",)) not in full
    assert service.journal.read(lambda t: t.stats()).totals["notifications", ("503",)] == 3


def test_while_refusals_pass_into_the_journal_none_is_shown_twice_or_missing(
    client: FlaskClient, service: Promheal
) -> None:
    name = "promheal_notifications_total", (("code", "400"),)
    shown: list[float] = []
    for number in range(1, 31):
        service.intake.reject("400")  # another thread stores it meanwhile
        shown.append(samples(client)[name])
        assert shown[-1] == number
