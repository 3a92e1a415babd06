"""`promheal doctor` beside a real Prometheus, a real Alertmanager and a real daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.server import Promheal
from tests.chain import Program, free_port, start_alertmanager, start_prometheus, wait_until

RULES = """
groups:
  - name: g
    rules:
      - alert: HighCPU
        expr: vector(0) > 1
"""


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """It sends to a promheal that serves."""
    with Promheal(tmp_path_factory.mktemp("promheal"), {}) as promheal:
        folder = tmp_path_factory.mktemp("alertmanager")
        with start_alertmanager(folder, webhook=f"{promheal.url}/webhook") as program:
            yield program


@pytest.fixture(scope="module")
def prometheus(
    alertmanager: Program, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    with start_prometheus(
        tmp_path_factory.mktemp("prometheus"),
        rules=RULES,
        alertmanagers=(alertmanager.url.removeprefix("http://"),),
    ) as program:
        yield program


class Patient:
    """A configuration, and what the doctor says to it."""

    def __init__(self, folder: Path, prometheus: str, alertmanager: str) -> None:
        self.folder = folder
        self.promheal: dict[str, Any] = {
            "prometheus": {"url": prometheus},
            "alertmanager": {"url": alertmanager},
        }
        self.strategies: dict[str, Any] = {
            "high-cpu": {
                "match": ['alertname="HighCPU"'],
                "actions": [{"action": "restart_service", "service": "shop"}],
            }
        }
        self.services: dict[str, Any] = {
            "shop": {"manager": {"process": {"pidfile": f"{folder}/pid", "start": ["sleep", "60"]}}}
        }

    def asked(self, *more: str) -> tuple[int, dict[str, list[tuple[str, str]]]]:
        for name, content in (
            ("promheal.yml", self.promheal),
            ("healing_strategies.yml", {"strategies": self.strategies}),
            ("services.yml", {"services": self.services}),
        ):
            (self.folder / name).write_text(json.dumps(content))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "receiver", "doctor", "-o", "json"),
                f"--config.file={self.folder}/promheal.yml",
                f"--storage.url=sqlite:///{self.folder}/journal.db",
                *more,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        found: dict[str, list[tuple[str, str]]] = {}
        for each in json.loads(done.stdout)["findings"] if done.stdout else []:
            found.setdefault(each["subject"], []).append((each["state"], each["detail"]))
        return done.returncode, found


@pytest.fixture
def patient(tmp_path: Path, prometheus: Program, alertmanager: Program) -> Iterator[Patient]:
    with subprocess.Popen(["sleep", "60"]) as process:
        (tmp_path / "pid").write_text(str(process.pid))
        yield Patient(tmp_path, prometheus.url, alertmanager.url)
        process.kill()


def test_where_all_is_well_it_says_so(patient: Patient) -> None:
    (patient.folder / "shop.yml").write_text("rate_limit: 5\n")
    patient.services["shop"]["settings"] = {"file": f"{patient.folder}/shop.yml"}
    patient.services["shop"]["logs"] = f"{patient.folder}/pid"
    patient.promheal["notify"] = {"channels": {"team": {"url": "json://127.0.0.1:1/told"}}}

    def well() -> Any:
        code, found = patient.asked()
        return found if code == 0 else None  # Prometheus looks for its Alertmanagers now and then

    found = wait_until(well, within=40)
    assert found["strategy high-cpu"] == [
        ("ok", "HighCPU does not look back: a proof takes 5m at most"),
        ("ok", 'an alert {alertname="HighCPU"} is led to promheal'),
    ]
    assert found["service shop"][0][0] == "ok"
    assert found["service shop: settings"] == [("ok", "can be used")]
    assert found["service shop: logs"] == [("ok", f"{patient.folder}/pid can be read")]
    assert found["channel team"] == [("ok", "its URL is understood; nothing was sent")]
    assert found["prometheus"] == [
        ("ok", f"{patient.promheal['prometheus']['url']} has 1 alerting rules")
    ]
    assert found["alertmanager"][0][0] == "ok"
    assert {path.name for path in patient.folder.iterdir()} == {
        "pid", "shop.yml", "promheal.yml", "healing_strategies.yml", "services.yml",
    }, "it only asks"  # fmt: skip


def test_what_does_not_work_is_told_with_its_remedy(patient: Patient) -> None:
    patient.strategies["other"] = {**patient.strategies["high-cpu"], "match": ['alertname="Nope"']}
    patient.services["gone"] = {
        "manager": {"process": {"pidfile": f"{patient.folder}/none/pid", "start": ["no-such"]}},
        "health": {"url": f"http://127.0.0.1:{free_port()}/"},
        "settings": {"file": f"{patient.folder}/broken.yml"},
    }
    (patient.folder / "broken.yml").write_text("a: [\n")
    patient.promheal["llm"] = {
        "providers": {"openai": {"base_url": "http://127.0.0.1:9", "keys": ["NO_SUCH_KEY"]}}
    }
    patient.promheal["flags"] = {"auto_healing": False}
    patient.promheal["notify"] = {
        "channels": {"team": {"url_env": "NO_SUCH_URL"}, "post": {"url": "mailto://a:b@c.example"}}
    }
    patient.services["gone"]["logs"] = f"{patient.folder}/none.log"
    code, found = patient.asked("--timeout", "2s")
    assert code == 1
    state, detail = found["strategy other"][0]
    assert state == "warn"
    assert "no rule is called 'Nope', so no alert asks for it; load one from rules/" in detail
    assert "its alerts wait: give it a `when` or a `verify.query`" in detail
    assert found["service gone"][0][1].endswith("start it, or find out why it does not run")
    details = [detail for _, detail in found["service gone: manager"]]
    assert details[0] == "there is no program 'no-such'; write its whole path"
    assert "is not there" in details[1]
    assert "Connection refused" in found["service gone: health"][0][1]
    assert "line 2 column 1" in found["service gone: settings"][0][1]
    assert found["llm openai"] == [("fail", "NO_SUCH_KEY: NO_SUCH_KEY is not set")]
    assert found["channel team"] == [
        ("fail", "channel 'team': variable NO_SUCH_URL is empty or not set")
    ]
    assert "does not speak HTTP" in found["channel post"][0][1]
    assert found["service gone: logs"][0][0] == "warn"
    assert found["configuration"][0][0] == "warn"
    assert found["service shop"][0][0] == "ok", "one that is ill hides no other"


def test_what_asks_for_no_alert_that_there_is_is_told_with_what_there_is(patient: Patient) -> None:
    strategy = patient.strategies["high-cpu"]
    patient.strategies["name"] = {**strategy, "match": ['alertname="HihgCPU"']}
    patient.strategies["target"] = {**strategy, "target": ["instnace"]}

    _, found = patient.asked()

    assert "no rule is called 'HihgCPU' (did you mean 'HighCPU'?)" in found["strategy name"][0][1]
    state, said = found["strategy target"][1]
    assert state == "warn"
    assert said.endswith("has the label 'instnace' of its `target`, so none asks for it")
    patient.strategies["name"] = strategy
    del patient.strategies["target"]
    assert "warn" not in {state for state, _ in patient.asked()[1]["strategy name"]}


def test_without_prometheus_and_alertmanager_it_names_them(patient: Patient) -> None:
    port = free_port()
    patient.promheal["prometheus"]["url"] = f"http://127.0.0.1:{port}"
    patient.promheal["alertmanager"] = None
    code, found = patient.asked()
    assert code == 1
    assert found[f"prometheus http://127.0.0.1:{port}"][0][0] == "fail"
    assert found["alertmanager"][0][0] == "warn"


def test_an_alertmanager_that_never_tells_us(patient: Patient, tmp_path: Path) -> None:
    with start_alertmanager(tmp_path / "am") as silent:
        patient.promheal["alertmanager"]["url"] = silent.url
        code, found = patient.asked()
    assert code == 1
    assert "`promheal config alertmanager` prints what to add" in found["alertmanager"][0][1]


def test_warnings_alone_have_a_code_of_their_own(patient: Patient) -> None:
    del patient.promheal["prometheus"], patient.promheal["alertmanager"]
    assert patient.asked()[0] == 3


def test_a_configuration_that_cannot_be_read_is_told_as_check_does(patient: Patient) -> None:
    patient.services["shop"]["manager"] = {"procss": {}}
    assert patient.asked()[0] == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_it_runs_as_who_promheal_runs_as(patient: Patient) -> None:
    """Seen from another user: neither the folder nor the process is ours."""
    (patient.folder / "shop.yml").write_text("rate_limit: 5\n")
    patient.services["shop"]["settings"] = {"file": f"{patient.folder}/shop.yml"}
    patient.asked()
    for folder in (patient.folder, *patient.folder.parents):
        if folder.name.startswith(("test_", "pytest-", "popen-")):  # pytest's own
            folder.chmod(0o755)
    code = (
        "import os, sys\n"
        "from click.testing import CliRunner\n"
        "from receiver.cli import main, root\n"
        "CliRunner().invoke(root, sys.argv[1:])  # what is imported is out of that user's reach\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "main()\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", code, "doctor"),
            f"--config.file={patient.folder}/promheal.yml",
            f"--storage.url=sqlite:///{patient.folder}/journal.db",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done
    assert "may not signal process" in done.stdout
    assert "only that one and root can replace it" in done.stdout
    assert "promheal's user may not write in" in done.stdout


def test_caches_and_queues_are_asked_too(patient: Patient) -> None:
    (patient.folder / "cache").mkdir()
    nobody = f"redis://127.0.0.1:{free_port()}"
    patient.services["shop"]["cache"] = {
        "files": {"root": str(patient.folder / "cache"), "glob": "**"}
    }
    patient.services["shop"]["queue"] = {
        "redis": nobody, "waiting": "a", "working": "w:*", "alive": "a:{worker}",
    }  # fmt: skip
    _, found = patient.asked("--timeout", "2s")
    assert found["service shop: cache"] == [("ok", "can be used")]
    assert found["service shop: queue"] == [
        ("fail", f"Redis at {nobody} cannot be reached: Connection refused")
    ]
