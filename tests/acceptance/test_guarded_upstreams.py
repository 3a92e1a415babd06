"""Prometheus and Alertmanager behind TLS of an own authority and basic auth, as many run them.

From the alert to the proven heal; through a password that is changed meanwhile, without a reload.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.acceptance.server import Promheal
from tests.acceptance.test_with_alertmanager import RULES, Switchboard, sick
from tests.chain import Exporter, start_alertmanager, start_prometheus, wait_until
from tests.guarded import Guard

FIRST: Final = "the-first-password"
SECOND: Final = "the-second-password"


class GuardedChain:
    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.guard = Guard(folder / "guard", FIRST)
        self.exporter = stack.enter_context(Exporter())
        heals = {
            name: lambda name=name: self.exporter.set("sick", 0, service=name)
            for name in ("one", "two")
        }
        board = stack.enter_context(Switchboard(heals))
        self.server = Promheal(folder / "promheal", {})
        self.alertmanager = stack.enter_context(
            start_alertmanager(
                folder / "alertmanager",
                webhook=f"{self.server.url}/webhook",
                guard=self.guard,
            )
        )
        self.prometheus = stack.enter_context(
            start_prometheus(
                folder / "prometheus",
                targets={"main": [self.exporter.address]},
                rules=RULES,
                alertmanagers=(self.alertmanager.url.removeprefix("https://"),),
                guard=self.guard,
            )
        )
        self.server.configure(
            {name: sick(name, board.step(name), within="40s") for name in ("one", "two")},
            prometheus={"url": self.prometheus.url, **self.guard.http_config},
            alertmanager={"url": self.alertmanager.url, **self.guard.http_config},
            http={"allow": [f"{board.url}/"]},
        )
        stack.enter_context(self.server)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of promheal, beside the configuration."""
        config = f"--config.file={self.server.folder / 'promheal.yml'}"
        return subprocess.run(
            [sys.executable, "-m", "receiver", words[0], config, *words[1:]],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.server.folder,
        )


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedChain]:
    with ExitStack() as stack:
        yield GuardedChain(stack, tmp_path_factory.mktemp("guarded"))


def healed(chain: GuardedChain, service: str) -> dict[str, Any]:
    chain.exporter.set("sick", 1, service=service)
    (run,) = chain.server.finished(service)
    return run


def test_from_the_alert_to_the_proven_heal(chain: GuardedChain) -> None:
    run = healed(chain, "one")
    assert (run["outcome"], run["reason"]) == (
        "healed",
        "no longer returned: its condition is false",
    )
    assert run["observations"][-1]["verdict"] == "cleared"
    # The password changes, here and there; the next one is healed without a reload.
    chain.guard.set_password(SECOND)
    assert healed(chain, "two")["outcome"] == "healed"
    reloads = chain.server.metric("config_last_reload_success_timestamp_seconds")
    assert reloads < chain.server.runs("two")[0]["actedAt"]
    wait_until(lambda: not chain.server.alerts(), what="Alertmanager says that both are over")


def test_doctor_and_check_ask_the_same_way(chain: GuardedChain) -> None:
    doctor = chain.run("doctor", "-o", "json")
    said = json.loads(doctor.stdout)
    assert not [each for each in said["findings"] if each["state"] == "fail"], doctor.stdout
    assert f"{chain.prometheus.url} has 1 alerting rules" in doctor.stdout
    check = chain.run("check", "--prometheus")
    assert "cannot be asked" not in check.stdout + check.stderr
    assert "SUCCESS" in check.stdout, check.stdout + check.stderr


@pytest.mark.parametrize("section", ["prometheus", "alertmanager"])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"basic_auth": None}, "401"),
        ({"tls_config": {}}, "unable to get local issuer certificate"),
    ],
)
def test_without_it_doctor_says_what_is_missing(
    chain: GuardedChain, tmp_path: Path, section: str, changes: dict[str, Any], says: str
) -> None:
    folder = chain.server.folder
    settings = json.loads((folder / "promheal.yml").read_text())
    settings[section] = {**settings[section], **changes}
    (tmp_path / "promheal.yml").write_text(json.dumps(settings))
    for name in ("services.yml", "healing_strategies.yml"):
        (tmp_path / name).write_text((folder / name).read_text())
    doctor = chain.run("doctor", "--config.file", str(tmp_path / "promheal.yml"), "-o", "json")
    failed = [each for each in json.loads(doctor.stdout)["findings"] if each["state"] == "fail"]
    assert any(says in each["detail"] for each in failed), doctor.stdout


def test_no_secret_is_shown(chain: GuardedChain) -> None:
    shown = [chain.server.tail(), chain.server.ask("/").body, chain.server.ask("/metrics").body]
    shown += [chain.server.ask(f"/api/{name}").body for name in ("status", "runs", "alerts")]
    shown += [chain.run("doctor").stdout, chain.run("check").stdout]
    for secret in (FIRST, SECOND):
        assert not [text for text in shown if secret in text]
