"""The rules about promheal, on the way that they are made for: from a scrape to a notification."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
import yaml

from tests.acceptance.server import PATIENCE, Promheal, alert, ask, strategy
from tests.chain import Program, start_alertmanager, start_prometheus, wait_until
from tests.tools import REPOSITORY

pytestmark = pytest.mark.heavy

FASTER: Final = (
    (r"\[[25]m\]", "[8s]"),
    (r"\[(1h|1d)\]", "[2m]"),
    (r"for: \d+m", "for: 1s"),
    (r"> 900$", "> 10"),
)
"""Nothing else of the rules is changed: not what they ask for, nor of whom."""
FAILS: Final = {"action": "command", "argv": ["false"]}


def rules() -> str:
    text = (REPOSITORY / "rules/promheal.yml").read_text()
    for slow, fast in FASTER:
        text, found = re.subn(slow, fast, text, flags=re.MULTILINE)
        assert found, slow
    return text


def routes(webhook: str) -> dict[str, Any]:
    """The shipped configuration, hastier, and with nobody who gets mail."""
    config: dict[str, Any] = yaml.safe_load((REPOSITORY / "configs/alertmanager.yml").read_text())
    del config["global"]
    for route in (config["route"], *config["route"]["routes"]):
        route.update(group_wait="0s", group_interval="1s")
    config["route"]["routes"][0]["repeat_interval"] = "2s"
    heard = [{"url": webhook, "send_resolved": False}]
    config["receivers"] = [
        {"name": one["name"], "webhook_configs": heard if "promheal" in one["name"] else []}
        for one in config["receivers"]
    ]
    return config


def address(program: Program) -> str:
    return program.url.removeprefix("http://")


class Chain:
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.server = Promheal(
            folder / "promheal",
            {"fails": strategy(FAILS, match="Sick", grace_period="0s", target=["service"])},
            engine={"dormant_after": 1},
        )
        stack.enter_context(self.server)
        self.alertmanager = stack.enter_context(
            start_alertmanager(folder / "alertmanager", config=routes(f"{self.server.url}/webhook"))
        )
        self.prometheus = stack.enter_context(
            start_prometheus(
                folder / "prometheus",
                targets={
                    "promheal": [f"127.0.0.1:{self.server.port}"],
                    "alertmanager": [address(self.alertmanager)],
                },
                rules=rules(),
                resend="2s",
                alertmanagers=(address(self.alertmanager),),
            )
        )

    def series(self, query: str) -> list[dict[str, Any]]:
        answer = ask(f"{self.prometheus.url}/api/v1/query?query={quote(query)}").json()
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def firing(self) -> set[str]:
        fires = self.series('ALERTS{alertstate="firing"}')
        return {one["metric"]["alertname"] for one in fires} - {"PromhealWatchdog"}

    def until_firing(self, name: str) -> None:
        wait_until(lambda: name in self.firing(), within=2 * PATIENCE, what=f"{name} fires")


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    with ExitStack() as stack:
        yield Chain(tmp_path, stack)


def test_from_a_good_day_to_the_end(chain: Chain) -> None:
    server = chain.server

    # A good day: heartbeats come again and again, and are all that comes.
    def heartbeat() -> float:
        return server.metric("last_heartbeat_timestamp_seconds")

    wait_until(heartbeat, within=PATIENCE, what="a heartbeat")
    first = heartbeat()
    wait_until(lambda: heartbeat() > first, within=PATIENCE, what="another heartbeat")
    commits = "job:promheal_journal_commit_duration_seconds:p99_5m"
    wait_until(lambda: chain.series(commits), within=PATIENCE, what="commits are recorded")
    assert chain.firing() == set()
    assert server.alerts() == {}

    # Its only heal fails.
    assert server.post(alert("Sick", service="shop")).status == 202
    server.finished("fails")
    chain.until_firing("PromhealDormant")
    failed = 'strategy:promheal_heals_failed:ratio_increase1h{strategy="fails"} == 1'
    wait_until(lambda: chain.series(failed), within=PATIENCE, what="the failure is recorded")

    # Its configuration is broken.
    assert "PromhealConfigReloadFailed" not in chain.firing()
    (server.folder / "promheal.yml").write_text("engine: {dormant_after: never}\n")
    assert ask(f"{server.url}/-/reload", b"").status == 400
    chain.until_firing("PromhealConfigReloadFailed")

    # What fires about promheal has reached Alertmanager, and not promheal.
    known = ask(f"{chain.alertmanager.url}/api/v2/alerts").json()
    names = {one["labels"]["alertname"] for one in known}
    assert {"PromhealDormant", "PromhealConfigReloadFailed", "PromhealWatchdog"} <= names
    told = ask(f"{server.url}/api/alerts").json()["alerts"]
    assert [one["labels"]["alertname"] for one in told] == ["Sick"]

    # The way to it is cut off; then it dies.
    assert "PromhealHeartbeatMissing" not in chain.firing()
    chain.alertmanager.stop()
    chain.until_firing("PromhealHeartbeatMissing")
    assert "PromhealDown" not in chain.firing()
    server.kill9()
    chain.until_firing("PromhealDown")


def test_alertmanager_tells_that_it_cannot_deliver(chain: Chain) -> None:
    failures = "alertmanager_notifications_failed_total"
    wait_until(lambda: chain.series(failures), within=PATIENCE, what="Alertmanager is scraped")
    assert "PromhealNotificationsFailing" not in chain.firing()
    chain.server.kill9()
    chain.until_firing("PromhealNotificationsFailing")
