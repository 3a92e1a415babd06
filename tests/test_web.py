from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from receiver.app import Promheal
from receiver.errors import JournalError
from receiver.healing import outcomes
from receiver.journal import Stored, Transaction, not_stored
from receiver.policy.run import Outcome, State
from receiver.web.flask_app import create_app, create_worker_app
from receiver.web.webhook import MAX_BODY
from tests.factories import alert, notification
from tests.world import KEY, World

PAYLOAD = Path("tests/payloads/firing_single.json").read_bytes()
LATENCY: dict[str, Any] = {
    "version": "4",
    "externalURL": "http://am.example",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "HighLatency", "service": "checkout"},
            "startsAt": "2026-11-22T04:31:42Z",
        }
    ],
}


UNPROVEN = "WARNING: there is no Prometheus to ask: no heal can be proven"


@pytest.fixture
def client(service: Promheal) -> FlaskClient:
    return create_app(service).test_client()


def get(client: FlaskClient, path: str) -> Any:
    return client.get(path).json


def post(client: FlaskClient, body: Any, **headers: str) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers.setdefault("Content-Type", "application/json")
    return client.post("/webhook", data=raw, headers=headers)


def total(service: Promheal, metric: str, *labels: str) -> float:
    return service.journal.read(lambda t: t.stats()).totals.get((metric, labels), 0)


def wait_for_total(service: Promheal, metric: str, *labels: str, value: float) -> None:
    deadline = time.monotonic() + 10
    while total(service, metric, *labels) != value and time.monotonic() < deadline:
        time.sleep(0.01)
    assert total(service, metric, *labels) == value


def started(service: Promheal) -> Promheal:
    service.start()
    assert service.acting.wait(10)
    return service


def test_the_alerts_are_committed_when_202_is_answered(
    client: FlaskClient, service: Promheal
) -> None:
    answer = post(client, PAYLOAD)

    assert (answer.status_code, answer.json) == (202, {"opened": 1, "repeated": 0, "closed": 0})
    assert len(service.journal.read(lambda t: t.open_episodes(limit=9))) == 1


@pytest.mark.parametrize(
    ("body", "headers", "status", "says"),
    [
        (b"", {}, 400, "empty"),
        (b"{}", {}, 400, "version 4"),
        (b"[]", {}, 400, "array"),
        (b"{}", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "application/json"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "text/plain"),
        (b"\x1f\x8b", {"Content-Encoding": "gzip"}, 415, "plain"),
        (b"x" * (MAX_BODY + 1), {}, 413, "larger"),
    ],
)
def test_what_can_never_be_read_is_refused_with_the_reason(
    client: FlaskClient,
    service: Promheal,
    body: bytes,
    headers: dict[str, str],
    status: int,
    says: str,
) -> None:
    answer = post(client, body, **headers)

    assert answer.status_code == status
    assert says in answer.json["error"]["message"]
    wait_for_total(service, "notifications", str(status), value=1)


ALERT: dict[str, Any] = {
    "status": "firing",
    "labels": {"alertname": "HighLatency", "service": "checkout"},
    "startsAt": "2026-12-01T01:00:00Z",
}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"labels": {"alertname": "A"}}, "alerts[1]: Object missing required field `status`"),
        ({**ALERT, "status": "fireing"}, "alerts[1]: Invalid enum value 'fireing'"),
        ({**ALERT, "startsAt": "yesterday"}, "alerts[1]: Invalid RFC3339 encoded datetime"),
    ],
)
def test_the_answer_says_what_was_set_aside_and_why(
    client: FlaskClient, service: Promheal, bad: dict[str, Any], says: str
) -> None:
    answer = client.post("/webhook", json={"version": "4", "alerts": [ALERT, bad, bad]})

    found: Any = answer.json
    assert (answer.status_code, found["opened"], found["setAside"]) == (202, 1, 2)
    assert found["problem"].startswith(says)
    assert "needs a status, which is firing or resolved" in found["problem"]
    alone: Any = client.post("/webhook", json={"version": "4", "alerts": [bad]})
    assert alone.status_code == 202, "it would be sent again for ever, and never be readable"
    assert (alone.json["opened"], alone.json["setAside"]) == (0, 1)
    wait_for_total(service, "alerts_quarantined", value=3)


def test_alerts_that_are_set_aside_flood_neither_the_log_nor_the_journal_nor_the_answer(
    client: FlaskClient, service: Promheal, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="promheal.intake"):
        for _ in range(3):
            many = [{"status": "x" * 3_000}] * 2_000
            answer: Any = client.post("/webhook", json={"alerts": many})

    assert answer.json["setAside"] == 2_000
    assert len(answer.data) < 1_200
    assert len(caplog.records) == 1
    wait_for_total(service, "alerts_quarantined", value=6_000)
    ask = lambda t: t._ask("select count(*) from quarantine").fetchone()[0]  # noqa: E731
    assert service.journal.read(ask) == 300


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/ld+json", ""])
def test_json_by_any_of_its_names_is_read(client: FlaskClient, kind: str) -> None:
    assert client.post("/webhook", data=PAYLOAD, content_type=kind).status_code == 202


def test_503_says_that_it_cannot_be_stored_now(
    client: FlaskClient, service: Promheal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(work: object, done: Callable[[Stored[Any]], None], *_: object) -> None:
        done(not_stored(JournalError("the disk is full")))

    monkeypatch.setattr(service.journal, "submit", full)

    answer = post(client, PAYLOAD)

    assert (answer.status_code, answer.json["error"]["code"]) == (503, "cannot_store")


def test_a_fault_of_ours_is_503_too_and_the_log_has_where_it_was(
    client: FlaskClient,
    service: Promheal,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def faulty(work: object, done: Callable[[Stored[Any]], None], *_: object) -> None:
        done(not_stored(ZeroDivisionError("ours")))

    monkeypatch.setattr(service.journal, "submit", faulty)
    with caplog.at_level(logging.WARNING, logger="promheal.webhook"):
        assert post(client, PAYLOAD).status_code == 503

    (line,) = caplog.records
    assert line.exc_info is not None
    assert line.exc_info[0] is ZeroDivisionError


def test_the_same_trouble_is_logged_once(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="promheal.webhook"):
        for _ in range(5):
            post(client, b"{}")
        post(client, b"{}", **{"Content-Encoding": "gzip"})

    assert [record.args and record.status for record in caplog.records] == [400, 415]  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_other_methods_are_refused_as_json(client: FlaskClient, method: str) -> None:
    answer = getattr(client, method)("/webhook")

    assert (answer.status_code, answer.json["error"]["code"]) == (405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"]


def test_probes(client: FlaskClient, service: Promheal) -> None:
    assert client.get("/-/healthy").status_code == 200
    assert client.head("/-/healthy").status_code == 200
    not_yet = client.get("/-/ready")
    assert (not_yet.status_code, not_yet.text) == (
        503, "promheal is not ready: another process acts on this journal\n",
    )  # fmt: skip
    started(service)
    assert client.get("/-/ready").status_code == 200


def test_a_broken_file_keeps_the_old_configuration(
    client: FlaskClient, service: Promheal, config: Path
) -> None:
    before = service.config
    (config / "healing_strategies.yml").write_text("strategies:\n  x: {matsch: []}\n")

    answer: Any = client.post("/-/reload")

    assert answer.status_code == 400
    assert "healing_strategies.yml:2:7: " in answer.json["error"]["message"]
    assert service.config is before
    assert "promheal_config_last_reload_successful 0.0" in client.get("/metrics").text


def test_a_good_file_is_taken_at_once(client: FlaskClient, service: Promheal, config: Path) -> None:
    path = config / "healing_strategies.yml"
    path.write_text(path.read_text().replace("latency:", "renamed:"))

    assert client.put("/-/reload").json == {"reloaded": True, "warnings": []}

    assert service.config.strategies.names == ("renamed",)
    assert 'promheal_heals_total{outcome="healed",strategy="renamed"} 0.0' in (
        client.get("/metrics").text
    )


def test_a_run_can_be_followed(client: FlaskClient, service: Promheal) -> None:
    started(service)
    post(client, LATENCY)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        runs = get(client, "/api/runs?state=finished")["runs"]
        if runs:
            break
        time.sleep(0.02)

    (run,) = runs
    assert (run["strategy"], run["target"], run["outcome"]) == (
        "latency", 'service="checkout"', "inconclusive",
    )  # fmt: skip
    full = get(client, f"/api/runs/{run['id']}")
    assert [(s["action"], s["state"]) for s in full["steps"]] == [("log", "done")]
    assert [d["verdict"] for d in full["decisions"]] == ["allow"]
    assert full["observations"][0]["detail"] == "no prometheus in promheal.yml"
    assert full["alert"]["labels"]["service"] == "checkout"


def test_the_alerts_are_listed_in_pages_with_their_strategies(client: FlaskClient) -> None:
    post(client, LATENCY)
    post(client, PAYLOAD)

    first = get(client, "/api/alerts?limit=1")
    second = get(client, f"/api/alerts?limit=1&offset={first['next']}")

    assert [a["strategies"] for a in first["alerts"] + second["alerts"]] == [["latency"], []]


def test_runs_are_found_by_their_outcome(client: FlaskClient, service: Promheal) -> None:
    service.intake.admit(notification(alert()))
    failed = flapping(service, 1)

    found = get(client, "/api/runs?outcome=healed&strategy=latency")["runs"]

    assert [run["id"] for run in found] == [failed]
    assert get(client, "/api/runs?outcome=failed")["runs"] == []


@pytest.mark.parametrize(
    ("path", "status", "says", "remedy"),
    [
        ("/api/runs?strategy=latecny", 404,
         "no strategy 'latecny'; did you mean 'latency'?", "/api/runs?strategy=latency"),
        ("/api/decisions?strategy=zzz", 404,
         "no strategy 'zzz'; known: latency", "/api/decisions?strategy=latency"),
        ("/api/runs?state=failed", 400,
         "state: 'failed' is an outcome; write outcome=failed", "/api/runs?outcome=failed"),
        ("/api/runs?outcome=pending", 400,
         "outcome: 'pending' is a state; write state=pending", "/api/runs?state=pending"),
        ("/api/runs?outcome=great", 400, "outcome: 'great' is none of healed, ineffective,",
         "/api/runs?outcome=healed"),
        ("/api/runs?outcom=failed", 400,
         "'outcom' is no parameter here; did you mean 'outcome'?", "/api/runs?outcome=failed"),
        ("/api/alerts?strategy=x", 400, "'strategy' is no parameter here; known: limit, offset",
         "/api/alerts?limit=5"),
    ],
)  # fmt: skip
def test_what_is_asked_for_and_there_is_not_is_said_with_what_there_is(
    client: FlaskClient, path: str, status: int, says: str, remedy: str
) -> None:
    answer: Any = client.get(path)

    assert (answer.status_code, answer.json["error"]["message"].startswith(says)) == (status, True)
    assert client.get(remedy).status_code == 200


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("/api/system/heal/pause", {"reson": "x"}),
        ("/api/system/heal/pause", {}),
        ("/api/system/heal/resume", {"reason": 5}),
        ("/api/runs/1/approve", []),
        ("/api/breakers/self-healing-main/reset", {"reason": "x", "force": "yes"}),
        ("/api/tasks/pause", {"why": "x"}),
    ],
)
def test_a_body_that_is_wrong_is_answered_with_one_that_is_right(
    client: FlaskClient, service: Promheal, path: str, wrong: Any
) -> None:
    answer: Any = client.post(path, json=wrong)
    said = answer.json["error"]["message"]
    assert answer.status_code == 400
    assert said.startswith("the body: ")

    right = json.loads(said.partition("; send for example ")[2])
    answer = client.post(path, json=right)
    assert answer.status_code != 400, answer.json


def test_a_file_of_the_page_that_there_is_not_is_said_in_our_words(client: FlaskClient) -> None:
    answer: Any = client.get("/static/none.js")
    assert answer.status_code == 404
    assert "GET /static/none.js: there is no such path" in answer.json["error"]["message"]


def test_a_strategy_that_is_no_more_is_found_by_what_it_did(
    client: FlaskClient, service: Promheal, config: Path
) -> None:
    service.intake.admit(notification(alert()))
    flapping(service, 1)
    file = config / "healing_strategies.yml"
    file.write_text(file.read_text().replace("latency:", "other:"))
    service.reload()

    assert len(get(client, "/api/runs?strategy=latency")["runs"]) == 1
    assert client.get("/api/decisions?strategy=latency").status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "/api/runs?limit=0", "/api/runs?limit=501", "/api/runs?limit=x", "/api/runs?limit=-1",
        "/api/runs?before=0", "/api/runs?before=" + "9" * 5000, "/api/runs?state=burning",
        "/api/alerts?offset=-1", "/api/runs?limit=²",
    ],
)  # fmt: skip
def test_a_bad_question_gets_a_clear_answer(client: FlaskClient, query: str) -> None:
    answer: Any = client.get(query)

    assert (answer.status_code, answer.json["error"]["code"]) == (400, "bad_request")


def test_what_is_not_there_is_said_as_json(client: FlaskClient) -> None:
    for path, code in (("/api/runs/7", "not_found"), ("/nothing", "no_such_path")):
        answer: Any = client.get(path)
        assert (answer.status_code, answer.json["error"]["code"]) == (404, code)
    assert client.get("/api/runs/99999999999999999999999").status_code in {400, 404}


def flapping(service: Promheal, times: int) -> int:
    """So many heals of one target that did not hold; the number of the last run."""
    world = World(service.journal)
    world.clock.now = service.clock()
    runs: list[int] = []

    def heal(transaction: Transaction) -> None:
        episode = transaction.wanted(KEY)
        assert episode is not None
        now = service.clock()
        run = transaction.open_run(KEY, State.ACTING, episode=episode, now=now)
        run = transaction.finish(run, Outcome.HEALED, "", now=now)
        outcomes.relapse(transaction, world.config(), run, now)
        runs.append(run.id)

    for _ in range(times):
        service.journal.atomically(heal)
    return runs[-1]


def test_heals_that_do_not_hold_are_told(
    client: FlaskClient, service: Promheal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.reconciler, "consider", lambda _: None)  # the test does it all
    started(service)
    service.intake.admit(notification(alert()))
    flapping(service, 1)
    assert get(client, "/api/status")["issues"] == [UNPROVEN]

    run = flapping(service, 2)

    status = get(client, "/api/status")
    assert status["status"] == "warning"
    assert status["issues"] == [
        UNPROVEN,
        'WARNING: 3 heals of latency on service="checkout" did not hold in the last 1h',
    ]
    assert status["recommendations"][1:] == ["Look for the cause, which its actions do not remove"]
    assert get(client, f"/api/runs/{run}")["relapsedAt"] is not None
    page = client.get(f"/runs/{run}").text
    assert "it fired again, so the heal had not held" in page
    assert "It fired again: the heal had not held" in page, "in the timeline"
    metrics = client.get("/metrics").text
    assert 'promheal_relapses_total{strategy="latency"} 3.0' in metrics


def test_the_status_has_the_shape_of_the_operations_guide(
    client: FlaskClient, service: Promheal
) -> None:
    assert get(client, "/api/status")["status"] == "critical", "it does not act yet"
    started(service)

    status = get(client, "/api/status")

    assert (status["status"], status["issues"]) == ("warning", [UNPROVEN])
    assert status["selfHealing"] == {
        "enabled": True, "isDormant": False, "dormantReason": None, "dormantSince": None,
        "consecutiveFailures": 0, "backoffDelay": 5000, "backoffUntil": None,
        "totalAttempts": 0, "successfulHealings": 0, "failedHealings": 0,
    }  # fmt: skip
    assert status["circuitBreakers"][0] == {
        "name": "self-healing-main", "state": "CLOSED", "failureCount": 0, "trips": 0,
        "until": None, "trial": None, "permanentOpenReason": None,
    }  # fmt: skip
    assert status["backgroundTasks"]["totalTasks"] == 3
    assert status["llm"]["keyManagement"] == {"totalKeys": 0, "activeKeys": 0, "failedKeys": 0}


def test_a_fault_of_ours_is_a_500_without_details(
    client: FlaskClient, service: Promheal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(work: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(service.journal, "read", fault)

    answer = client.get("/api/status")

    assert answer.status_code == 500
    assert "secret" not in answer.text


def test_a_worker_is_asked_for_its_own_health_and_metrics_and_for_nothing_else(
    service: Promheal,
) -> None:
    app = create_worker_app(service)

    assert {str(rule) for rule in app.url_map.iter_rules()} == {
        "/-/healthy",
        "/-/ready",
        "/-/reload",
        "/metrics",
    }
    assert app.test_client().post("/webhook", json={}).status_code == 404
