"""Whatever was decided is explained by the guards that decided it, from what the journal keeps."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from receiver.app import Options, Promheal, build
from receiver.policy.guards.situation import Reason
from receiver.policy.target import Key
from receiver.web.flask_app import create_app
from tests.factories import alert, notification, resolved
from tests.test_cli import promheal
from tests.test_stored_config import write

STRATEGIES = """\
strategies:
  careful:
    match: ['alertname="HighLatency"']
    target: [service]
    mode: observe
    actions: [{action: log, message: "slow"}]
  quick:
    match: ['service="checkout"']
    target: [service]
    actions: [{action: log, message: "quick"}]
"""
MAIN = "prometheus: {url: 'http://127.0.0.1:9', timeout: 1s}\n"
CAREFUL = Key("careful", 'service="checkout"')
QUICK = Key("quick", 'service="checkout"')


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Promheal]:
    config = write(tmp_path, main=MAIN, strategies=STRATEGIES)
    made = build(Options(config_file=config, storage_url=f"sqlite:///{tmp_path}/j.db"))
    made.housekeeping.note_loads()
    made.intake.admit(notification(alert()))
    for key in (CAREFUL, QUICK):
        made.reconciler.consider(key)
    yield made
    made.close(0)


def last_run(service: Promheal) -> int:
    return next(run.id for run in service.journal.read(lambda t: t.runs(limit=9)))


def explained(service: Promheal, *about: str) -> dict[str, Any]:
    url = f"--storage.url=sqlite:///{service.folder}/j.db"
    answer = promheal("explain", *about, url, "-o", "json")
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def test_a_decision_says_what_it_rested_on_and_what_would_have_turned_it(
    service: Promheal,
) -> None:
    (one,) = explained(service, "decision:1")["decisions"]

    assert (one["verdict"], one["reason"]) == ("wait", "condition_unknown")
    assert (one["problem"], one["differs"], one["replacedBy"]) == ("", [], None)
    assert [fact["name"] for fact in one["allowedIf"]] == ["upstream.signal", "strategy.mode"]
    assert one["inputs"]["alert"]["labels"]["service"] == "checkout"
    assert one["configHash"] == service.config.hash

    url = f"--storage.url=sqlite:///{service.folder}/j.db"
    said = promheal("explain", "decision:1", url).stdout
    assert '… decision 1: careful on service="checkout": wait (condition_unknown)' in said
    assert "current  Prometheus confirms that it fires  upstream.signal" in said


def test_it_is_found_by_run_alert_labels_and_time(service: Promheal) -> None:
    both = {"careful", "quick"}
    for about in (["alert:" + alert().fingerprint], ["service=checkout"], ['service=~"check.*"']):
        assert {one["strategy"] for one in explained(service, *about)["decisions"]} == both
    run = last_run(service)
    (one,) = explained(service, f"run:{run}")["decisions"]
    assert (one["strategy"], one["run"]) == ("quick", run)

    service.intake.admit(notification(resolved(alert(), service.clock())))
    service.reconciler.consider(QUICK)
    now, then = explained(service, "service=checkout"), service.clock() - 3_000
    assert now["decisions"][0]["reason"] == "resolved"
    url = f"--storage.url=sqlite:///{service.folder}/j.db"
    answer = promheal("explain", "service=checkout", f"--at={then}", url)
    assert (answer.returncode, "nothing was decided" in answer.stderr) == (1, True)
    (first,) = explained(service, f"run:{run}", f"--at={service.clock()}")["decisions"]
    assert first["run"] == run


def test_who_changed_the_configuration_since_is_said(service: Promheal) -> None:
    write(Path(service.folder), main=MAIN, strategies=STRATEGIES.replace("slow", "very slow"))
    service.reload(by="anna")
    (one,) = explained(service, "decision:1")["decisions"]
    assert one["replacedBy"] == service.config.hash
    url = f"--storage.url=sqlite:///{service.folder}/j.db"
    assert "by /-/reload anna" in promheal("explain", "decision:1", url).stdout


def test_a_promheal_that_decides_otherwise_says_so(service: Promheal) -> None:
    with closing(sqlite3.connect(Path(service.folder) / "j.db")) as file:
        file.execute("update decision set answers = replace(answers, 'observe_only', 'dry_run')")
        file.commit()
    url = f"--storage.url=sqlite:///{service.folder}/j.db"
    answer = promheal("explain", "decision:1", url)
    assert answer.returncode == 2
    assert "this promheal decides otherwise than" in answer.stdout
    (line,) = [each for each in answer.stdout.split("\n") if "otherwise" in each]
    assert line.endswith(": mode")


@pytest.mark.parametrize(
    ("about", "said"),
    [
        (["decision:9"], "no decision 9"),
        (["run:9"], "no run 9"),
        (["run:x"], "write its number"),
        (["nothing.json"], "no file nothing.json"),
        (["a=b", "c"], "no matcher"),
        (["run:1", "run:2"], "run:1 is enough"),
        (["alert:beef"], "nothing was decided about alert:beef"),
        (["decision:1", "--at=tomorrow"], "is no time"),
        (["decision:1", "--at=nan"], "is no time"),
        (["decision:1", "--at=inf"], "is no time"),
        (["decision:1", "--at=1"], "decision 1 was made later"),
    ],
)
def test_what_cannot_be_found_is_said(service: Promheal, about: list[str], said: str) -> None:
    answer = promheal("explain", *about, f"--storage.url=sqlite:///{service.folder}/j.db")
    assert answer.returncode in {1, 2}
    assert said in answer.stderr


def test_what_is_not_kept_any_more_is_explained_by_its_answers(service: Promheal) -> None:
    service.journal.atomically(lambda t: t.prune_inputs(before=service.clock() + 9, limit=9))
    (one,) = explained(service, "decision:1")["decisions"]
    assert (one["inputs"], one["problem"]) == (None, "what it rested on is not kept")
    assert len(one["answers"]) == 15
    assert one["allowedIf"] == []


def test_the_api_and_the_page_explain_the_same(service: Promheal) -> None:
    client = create_app(service).test_client()
    answer = client.get("/api/decisions/1")
    assert answer.status_code == 200
    (one,) = explained(service, "decision:1")["decisions"]
    assert answer.json == one
    assert client.get("/api/decisions/99").status_code == 404

    page = client.get("/decisions/1").text
    assert "Prometheus confirms that it fires" in page
    assert Reason.CONDITION_UNKNOWN in page
    assert client.get("/decisions/99").status_code == 404
    of_run = client.get(f"/runs/{last_run(service)}").text
    assert '/decisions/2"' in of_run
    assert "Prometheus confirms that it fires" in of_run
