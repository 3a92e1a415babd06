from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from receiver.clients.alertmanager import Alertmanager
from receiver.errors import UpstreamError
from receiver.policy.alert import Status
from receiver.policy.fingerprint import fingerprint
from receiver.settings import AlertmanagerSettings
from tests import factories
from tests.chain import Program, free_port, start_alertmanager

NOW = time.time()


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def post(program: Program, path: str, body: object) -> None:
    request = urllib.request.Request(
        f"{program.url}/api/v2/{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10):
        pass


def alert(name: str, *, ends: float | None = None, **labels: str) -> dict[str, object]:
    found: dict[str, object] = {
        "labels": {"alertname": name} | labels,
        "annotations": {"summary": "é"},
        "startsAt": iso(NOW - 60),
        "generatorURL": "http://prometheus.example/graph?g0.expr=up+%3D%3D+0",
    }
    return found if ends is None else found | {"endsAt": iso(ends)}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    config = {
        "route": {
            "receiver": "others",
            "routes": [{"receiver": "team/a+b", "matchers": ['team="a"'], "continue": False}],
        },
        "receivers": [{"name": "others"}, {"name": "team/a+b"}],
        "inhibit_rules": [
            {"source_matchers": ["alertname=A"], "target_matchers": ["alertname=Inhibited"]}
        ],
    }
    with start_alertmanager(tmp_path_factory.mktemp("alertmanager"), config=config) as program:
        post(
            program,
            "silences",
            {
                "matchers": [{"name": "alertname", "value": "Silenced", "isRegex": False}],
                "startsAt": iso(time.time()),
                "endsAt": iso(NOW + 7200),
                "createdBy": "test",
                "comment": "test",
            },
        )
        post(
            program,
            "alerts",
            [
                alert("A", team="a"),
                alert("B", team="a", ends=NOW + 7200),
                alert("Ended", ends=NOW - 30),
                alert("Silenced"),
                alert("Inhibited"),
            ],
        )
        yield program


@pytest.fixture
def alertmanager(program: Program) -> Alertmanager:
    return Alertmanager(AlertmanagerSettings(url=program.url))


def names(alertmanager: Alertmanager, *filters: str, receiver: str = "") -> list[str]:
    return sorted(each.name for each in alertmanager.alerts(filters, receiver=receiver))


def test_returns_all_that_fire_silenced_and_inhibited_ones_too(alertmanager: Alertmanager) -> None:
    assert names(alertmanager) == ["A", "B", "Inhibited", "Silenced"]


def test_an_alert_is_what_a_notification_would_have_said(alertmanager: Alertmanager) -> None:
    (found,) = alertmanager.alerts(["alertname=B"])
    assert found.status is Status.FIRING
    assert found.labels == {"alertname": "B", "team": "a"}
    assert found.annotations == {"summary": "é"}
    assert found.starts_at == pytest.approx(NOW - 60, abs=0.01)
    assert found.ends_at is None
    assert found.fingerprint == fingerprint(found.labels)
    assert found.expression == "up == 0"


def test_filters(alertmanager: Alertmanager) -> None:
    assert names(alertmanager, 'team="a"', 'alertname=~"B|C"') == ["B"]
    assert names(alertmanager, receiver="others") == ["Inhibited", "Silenced"]
    # As Alertmanager writes it into a notification.
    assert names(alertmanager, receiver=r"team/a\+b") == ["A", "B"]
    assert names(alertmanager, receiver="team") == []


@pytest.mark.parametrize(
    ("filters", "receiver", "text"),
    [
        (["=="], "", "/api/v2/alerts: 400 bad matcher format"),
        ([], "(", "/api/v2/alerts: 400 "),
    ],
)
def test_says_what_it_does_not_understand(
    alertmanager: Alertmanager, filters: list[str], receiver: str, text: str
) -> None:
    with pytest.raises(UpstreamError) as raised:
        alertmanager.alerts(filters, receiver=receiver)
    assert str(raised.value).startswith(text)


def test_is_it_ready(alertmanager: Alertmanager) -> None:
    assert alertmanager.ready()
    nobody = Alertmanager(AlertmanagerSettings(url=f"http://127.0.0.1:{free_port()}"))
    assert not nobody.ready()
    with pytest.raises(UpstreamError, match=r"^/api/v2/alerts: Connection refused$"):
        nobody.alerts()


def test_something_else_at_its_address(program: Program) -> None:
    """Its page, where a proxy drops the path."""
    elsewhere = Alertmanager(AlertmanagerSettings(url=f"{program.url}/#"))
    with pytest.raises(UpstreamError, match="the answer is not Alertmanager's"):
        elsewhere.alerts()


def test_threads_share_it(alertmanager: Alertmanager) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(alertmanager.alerts()))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [4] * 8


def test_which_silences_are_for_an_alert(alertmanager: Alertmanager) -> None:
    by_name = {each.name: each for each in alertmanager.alerts()}

    (silence,) = alertmanager.silences_of(by_name["Silenced"])

    assert len(silence) == 36, "its id"
    assert alertmanager.silences_of(by_name["A"]) == ()
    assert alertmanager.silences_of(by_name["Inhibited"]) == ()


def test_an_alert_that_alertmanager_does_not_know_has_no_silence(
    alertmanager: Alertmanager,
) -> None:
    hostile = msgspec.structs.replace(
        alertmanager.alerts()[0], labels={"alertname": 'x"} or \\ {', "team": "a\nb,c"}
    )

    assert alertmanager.silences_of(hostile) == ()


@pytest.mark.parametrize(
    ("matcher", "silenced"),
    [
        ({"value": "Made up"}, True),
        ({"value": "Made up", "isEqual": False}, False),
        ({"value": "Made.*", "isRegex": True}, True),
        ({"value": "Made", "isRegex": True}, False),
        ({"value": "Made", "isRegex": True, "isEqual": False}, True),
    ],
)
def test_no_silence_is_evaded_by_labels_that_alertmanager_does_not_know(
    program: Program, matcher: dict[str, Any], silenced: bool
) -> None:
    """An alert from a file, or with one more label than the rule's."""
    alertmanager = Alertmanager(AlertmanagerSettings(url=program.url))
    run = f"{silenced} {matcher}"  # what other cases leave behind is for others
    post(
        program,
        "silences",
        {
            "matchers": [
                {"isRegex": False, "isEqual": True, "name": "alertname", **matcher},
                {"name": "run", "value": run, "isRegex": False, "isEqual": True},
            ],
            "startsAt": iso(time.time()),
            "endsAt": iso(time.time() + 7200),
            "createdBy": "test",
            "comment": "test",
        },
    )
    labels = {"alertname": "Made up", "run": run, "extra": "1"}
    one = factories.alert(labels=labels)

    assert bool(alertmanager.silences_of(one)) is silenced
    later = factories.alert(labels={**labels, "run": "another"})
    assert alertmanager.silences_of(later) == ()
