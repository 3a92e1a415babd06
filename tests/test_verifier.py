from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from receiver.clients.prometheus import Prometheus
from receiver.healing.verifier import PrometheusVerifier
from receiver.policy.signal import ConditionState
from receiver.settings import PrometheusSettings
from tests.chain import Exporter, Program, free_port, start_prometheus, wait_until


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A Prometheus with a job that is scraped, one that is not, and one that is in part."""
    dead = f"127.0.0.1:{free_port()}"
    with (
        Exporter() as exporter,
        start_prometheus(
            tmp_path_factory.mktemp("prometheus"),
            targets={"well": [exporter.address], "dead": [dead], "half": [exporter.address, dead]},
        ) as program,
    ):
        asking = Prometheus(PrometheusSettings(url=program.url))
        wait_until(lambda: len(asking.query("up")) == 4, what="every target was scraped once")
        yield program


@pytest.fixture
def verifier(program: Program) -> PrometheusVerifier:
    return PrometheusVerifier(Prometheus(PrometheusSettings(url=program.url)), time.time)


@pytest.mark.parametrize(
    ("labels", "expression", "suspect"),
    [
        ({"job": "dead"}, "requests_total > 5", True),
        ({"job": "well"}, "requests_total > 5", False),
        ({"job": "half"}, "requests_total > 5", False),
        ({"job": "unheard of"}, "requests_total > 5", False),
        ({"service": "checkout"}, "requests_total > 5", False),
        # What asks just for this is believed: a dead process is not scraped either.
        ({"job": "dead"}, "up == 0", False),
        ({"job": "dead"}, 'up{job="dead"} == 0 or requests_total > 5', False),
        ({"job": "dead"}, '{__name__="up"} == 0', False),
        ({"job": "dead"}, 'absent(requests_total{job="dead"})', False),
        ({"job": "dead"}, "uptime_seconds > 5", True),
        # What only its own server can read is told by its words.
        ({"job": "dead"}, "requests_total[5m] offset -1ms default 0 > 5", True),
        ({"job": "dead"}, "up default 0 == 0", False),
        ({"job": "dead"}, "absent_over_time(x[1m]) default 0", False),
        ({"job": "dead"}, None, False),
        ({"job": 'hos"tile\\'}, "requests_total > 5", False),
    ],
)
def test_an_alert_of_a_target_that_is_not_scraped_is_suspect(
    verifier: PrometheusVerifier, labels: dict[str, str], expression: str | None, *, suspect: bool
) -> None:
    said = verifier.suspect({"alertname": "A", **labels}, expression)

    assert ("its scrape fails" in said) is suspect
    assert bool(said) is suspect


def test_the_instance_counts_where_the_alert_names_it(
    verifier: PrometheusVerifier, program: Program
) -> None:
    down = Prometheus(PrometheusSettings(url=program.url)).query('up{job="half"} == 0')
    (instance,) = (sample.labels["instance"] for sample in down)

    assert verifier.suspect({"job": "half", "instance": instance}, "requests_total > 5")


def test_when_nobody_can_say_it_is_suspect() -> None:
    nobody = PrometheusVerifier(
        Prometheus(PrometheusSettings(url=f"http://127.0.0.1:{free_port()}")), time.time
    )

    assert "not known" in nobody.suspect({"job": "well"}, "requests_total > 5")


def test_without_a_prometheus_nothing_is_suspect_and_nothing_is_proven() -> None:
    verifier = PrometheusVerifier(None, time.time)

    assert verifier.suspect({"job": "well"}, "requests_total > 5") == ""
    assert verifier.condition("up")[0] is ConditionState.UNKNOWN
