"""Silences of a real Alertmanager: made once, for the target alone, and expired by the undoing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from receiver.actions import Context
from receiver.actions.silence import SilenceAlerts, SilenceParams
from receiver.app import Options, build
from receiver.clients.alertmanager import Alertmanager
from receiver.errors import ActionError
from receiver.policy.run import Outcome
from receiver.settings import AlertmanagerSettings
from tests import factories
from tests.chain import Program, free_port, start_alertmanager, wait_until

PARAMS = SilenceParams(duration=3600.0)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with start_alertmanager(tmp_path_factory.mktemp("alertmanager")) as program:
        yield program


@pytest.fixture
def alertmanager(program: Program) -> Alertmanager:
    return Alertmanager(AlertmanagerSettings(url=program.url))


@pytest.fixture
def service_label(request: pytest.FixtureRequest) -> str:
    """Of this test alone: all share the Alertmanager."""
    return f'é"\\ {request.node.name}'


@pytest.fixture
def context(alertmanager: Alertmanager, service_label: str) -> Context:
    saved: dict[str, Any] = {}
    return factories.context(
        alert={"labels": labels(service_label)},
        target_labels={"service": service_label},
        now=time.time(),
        started_at=time.time(),
        alertmanager=alertmanager,
        saved=saved,
        save=saved.update,
    )


def labels(service: str) -> dict[str, str]:
    return {"alertname": "Slow", "service": service, "instance": "a:1"}


def silences(program: Program, service: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{program.url}/api/v2/silences", timeout=10) as answer:
        found = json.load(answer)
    return [one for one in found if any(m["value"] == service for m in one["matchers"])]


def post(program: Program, alert: Mapping[str, str]) -> None:
    request = urllib.request.Request(
        f"{program.url}/api/v2/alerts",
        json.dumps([{"labels": alert}]).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10):
        pass


def silenced(alertmanager: Alertmanager, alert: Mapping[str, str]) -> bool:
    return bool(
        alertmanager.silences_of(
            factories.alert(labels=dict(alert))
        )
    )  # fmt: skip


def test_it_is_for_the_target_s_alerts_of_this_name_and_says_whose_it_is(
    program: Program, alertmanager: Alertmanager, context: Context, service_label: str
) -> None:
    for instance in ("a:1", "b:1"):
        post(program, labels(service_label) | {"instance": instance})
    post(program, {"alertname": "Slow", "service": "other"})
    post(program, {"alertname": "Down", "service": service_label})

    result = SilenceAlerts().run(PARAMS, context)
    (found,) = silences(program, service_label)
    assert result["silence"] == found["id"]
    assert {m["name"]: m["value"] for m in found["matchers"]} == result["matchers"]
    assert not any(m["isRegex"] for m in found["matchers"])
    assert found["createdBy"] == "promheal"
    assert found["comment"].startswith("promheal run 7 step 0 (")
    assert found["comment"].endswith('): high-cpu on service="checkout"')
    assert result["ends_at"] == pytest.approx(context.started_at + 3600)
    for instance in ("a:1", "b:1"):
        alert = labels(service_label) | {"instance": instance}
        wait_until(lambda alert=alert: silenced(alertmanager, alert))  # type: ignore[misc]
    assert not silenced(alertmanager, {"alertname": "Slow", "service": "other"})
    assert not silenced(alertmanager, {"alertname": "Down", "service": service_label})


def test_run_again_it_finds_its_own_and_another_s_is_not_its_own(
    program: Program, context: Context, service_label: str
) -> None:
    first = SilenceAlerts().run(PARAMS, context)
    assert SilenceAlerts().run(PARAMS, context) == first | {
        "ends_at": pytest.approx(first["ends_at"], abs=0.01)
    }
    assert len(silences(program, service_label)) == 1
    # Of another journal: the same run and step, with nothing saved.
    other = msgspec.structs.replace(context, saved={}, save=lambda _: None)
    second = SilenceAlerts().run(PARAMS, other)
    assert second["silence"] != first["silence"]
    assert SilenceAlerts().idempotent(PARAMS)
    assert SilenceAlerts().undoable(PARAMS)


def test_undone_it_expires_and_what_is_gone_is_said(
    program: Program, alertmanager: Alertmanager, context: Context, service_label: str
) -> None:
    action = SilenceAlerts()
    assert action.rollback(PARAMS, context, None) == {"skipped": "nothing was silenced"}
    made = action.run(PARAMS, context)["silence"]
    # It is not known how it ended: what was saved is enough.
    assert action.rollback(PARAMS, context, None) == {"expired": made}
    (found,) = silences(program, service_label)
    assert found["status"]["state"] == "expired"
    assert action.rollback(PARAMS, context, None) == {"skipped": f"silence {made} had expired"}
    assert action.run(PARAMS, context) == {"skipped": f"silence {made} has been expired meanwhile"}
    unknown = msgspec.structs.replace(context, saved={"mark": "0" * 16, "matchers": {"a": "b"}})
    assert action.rollback(PARAMS, unknown, None) == {
        "skipped": "there is no such silence any more"
    }


def test_labels_can_be_named_and_one_for_everything_is_refused(
    program: Program, context: Context, service_label: str
) -> None:
    params = SilenceParams(duration=60.0, labels=("service", "cluster"))
    result = SilenceAlerts().run(params, context)
    assert result["matchers"] == {"service": service_label, "cluster": ""}
    for names in (("cluster",), ("cluster", "zone")):
        with pytest.raises(ActionError, match="for all that have none either"):
            SilenceAlerts().run(SilenceParams(duration=60.0, labels=names), context)
    nameless = msgspec.structs.replace(context, alert={"labels": {}}, target_labels={})
    with pytest.raises(ActionError, match="has none of the labels alertname"):
        SilenceAlerts().run(PARAMS, nameless)
    assert len(silences(program, service_label)) == 1


@pytest.mark.parametrize("seconds", [0.0, -1.0, 86_401.0])
def test_a_duration_is_bounded(seconds: float) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"duration": seconds}, SilenceParams)


def test_without_an_alertmanager_that_answers_it_fails(context: Context) -> None:
    nobody = Alertmanager(AlertmanagerSettings(url=f"http://127.0.0.1:{free_port()}"))
    for action in (SilenceAlerts().run, lambda p, c: SilenceAlerts().rollback(p, c, None)):
        context.save({"mark": "x", "matchers": {"a": "b"}})
        with pytest.raises(ActionError, match=r"Alertmanager: .*Connection refused"):
            action(PARAMS, msgspec.structs.replace(context, alertmanager=nobody))
    with pytest.raises(ActionError, match="no `alertmanager` in promheal"):
        SilenceAlerts().run(PARAMS, msgspec.structs.replace(context, alertmanager=None))


# ── in a real promheal ──

STRATEGIES = """\
strategies:
  latency:
    match: ['alertname="HighLatency"']
    target: [service]
    actions:
      - {action: silence, duration: 1h}
      - {action: command, argv: [/bin/false]}
"""

DIE = """\
import os, signal, sys
from pathlib import Path
from receiver.clients.alertmanager import Alertmanager
from receiver.app import Options, build
from tests.factories import alert, notification

made = Alertmanager.silence

def make_and_die(*args, **kwargs):
    made(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

Alertmanager.silence = make_and_die
folder = Path(sys.argv[1])
service = build(Options(config_file=folder / "promheal.yml",
                        storage_url=f"sqlite:///{folder}/journal.db"))
service.start()
labels = {"alertname": "HighLatency", "service": "killed"}
service.intake.admit(notification(alert(labels=labels, starts_at=service.clock())))
signal.pause()
"""


def test_killed_behind_the_request_it_is_found_again_and_undone_with_the_run(
    config: Path, program: Program
) -> None:
    (config / "promheal.yml").write_text(f"alertmanager: {{url: {program.url}}}\n")
    (config / "healing_strategies.yml").write_text(STRATEGIES)
    died = subprocess.run([sys.executable, "-c", DIE, str(config)], check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL
    (found,) = silences(program, "killed")
    assert found["status"]["state"] == "active"

    service = build(
        Options(config_file=config / "promheal.yml", storage_url=f"sqlite:///{config}/journal.db")
    )
    try:
        service.start()
        (run,) = wait_until(
            lambda: [run for run in service.journal.read(lambda t: t.runs(limit=9)) if run.outcome],
            what="ended",
        )
    finally:
        service.close(5)
    assert run.outcome is Outcome.ROLLED_BACK
    (found,) = silences(program, "killed")
    assert found["status"]["state"] == "expired"
