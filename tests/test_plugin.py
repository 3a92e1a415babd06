"""The example package of the docs, installed by pip, through a whole run of promheal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tools import REPOSITORY

PACKAGE = REPOSITORY / "docs/examples/promheal-drain"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that pip has put the package into."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(PACKAGE, folder / "source")  # a build writes beside its source
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [*pip, "--no-build-isolation", "--target", folder / "site", source], check=True, timeout=120
    )
    return folder / "site"


def promheal(installed: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "receiver", *argv],
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{installed}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "promheal.yml").write_text("healing_log: {file: null}\n")
    (tmp_path / "services.yml").write_text(
        "services: {checkout: {manager: {command: {restart: ['true']}}}}\n"
    )
    (tmp_path / "healing_strategies.yml").write_text(
        "strategies:\n"
        "  drained:\n"
        "    match: ['alertname=\"HighLatency\"']\n"
        "    target: [service]\n"
        "    actions:\n"
        f"      - {{action: drain, service: '{{{{ labels.service }}}}', directory: {tmp_path}}}\n"
        "      - {action: command, argv: [/usr/bin/test, -e, '" + f"{tmp_path}/proof" + "']}\n"
    )
    reading = {"timestamp": time.time(), "metric": "HighLatency", "value": 3, "service": "checkout"}
    (tmp_path / "alerts.json").write_text(json.dumps(reading))
    return tmp_path


def once(installed: Path, folder: Path) -> dict[str, object]:
    done = promheal(
        installed, "once", "--alerts", f"{folder}/alerts.json", "--config.file",
        f"{folder}/promheal.yml", "--storage.url", f"sqlite:///{folder}/promheal.db", "-o", "json",
    )  # fmt: skip
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_its_action_runs_and_stays_when_the_run_goes_on(installed: Path, folder: Path) -> None:
    (folder / "proof").touch()
    answer = once(installed, folder)
    assert "inconclusive" in json.dumps(answer), answer  # no Prometheus to prove it
    assert (folder / "checkout.drain").exists()


def test_its_action_is_undone_when_a_later_step_fails(installed: Path, folder: Path) -> None:
    answer = once(installed, folder)
    assert "rolled_back" in json.dumps(answer), answer
    assert not (folder / "checkout.drain").exists()


def test_what_was_there_before_stays(installed: Path, folder: Path) -> None:
    (folder / "checkout.drain").touch()
    assert "rolled_back" in json.dumps(once(installed, folder))
    assert (folder / "checkout.drain").exists()


def test_check_knows_its_parameters(installed: Path, folder: Path) -> None:
    config = f"{folder}/promheal.yml"
    assert promheal(installed, "check", config).returncode == 0
    strategies = folder / "healing_strategies.yml"
    strategies.write_text(strategies.read_text().replace("directory:", "directry:"))
    done = promheal(installed, "check", config)
    assert done.returncode == 1, done
    assert "did you mean 'directory'?" in done.stdout + done.stderr


def test_without_it_check_names_the_actions_that_there_are(folder: Path) -> None:
    done = promheal(Path("/nonexistent"), "check", f"{folder}/promheal.yml")
    assert "unknown action 'drain'" in done.stdout + done.stderr
