from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from receiver.app import Promheal
from receiver.policy.guards.reasons import VERDICTS
from receiver.policy.run import Outcome
from receiver.reporting.metrics import DECISIONS, NOTICES, TOTALS, label_sets
from receiver.web import create_app
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


def test_all_label_sets_are_there_at_0_from_the_start(
    client: FlaskClient, service: Promheal
) -> None:
    found = samples(client)

    for total in TOTALS:
        sets = list(label_sets(total, ["latency"], service.actions.names))
        assert sets or total is NOTICES  # there is no channel
        for values in sets:
            labels = tuple(sorted(zip(total.labels, values, strict=True)))
            assert found[f"promheal_{total.name}_total", labels] == 0
    heals = [key for key in found if key[0] == "promheal_heals_total"]
    assert len(heals) == len(Outcome)
    assert len(list(label_sets(DECISIONS, ["a", "b"], []))) == 2 * len(VERDICTS)


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
