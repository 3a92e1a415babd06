"""Several alerts of one target, on a real Prometheus and a real Alertmanager."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from receiver.clients.alertmanager import Alertmanager
from receiver.policy.fingerprint import fingerprint
from receiver.settings import AlertmanagerSettings
from tests.acceptance.server import PATIENCE, Promheal, alert, ask
from tests.chain import Exporter, start_alertmanager, start_prometheus, wait_until

RULES = """groups: [{name: g, rules: [{alert: Slow, expr: latency_seconds > 1}]}]"""


class Shop:
    """One service on two nodes, which alert each for itself."""

    def __init__(self, exporter: Exporter, prometheus: str, promheal: Promheal) -> None:
        self.exporter = exporter
        self.prometheus = prometheus
        self.promheal = promheal

    def set(self, node: str, seconds: float) -> None:
        """Have *node* answer so slowly, and wait until its alert fires or does not."""
        self.exporter.set("latency_seconds", seconds, service="shop", node=node)
        wait_until(lambda: (node in self.firing()) is (seconds > 1), within=PATIENCE)

    def firing(self) -> dict[str, dict[str, Any]]:
        """Return what Prometheus has, by node."""
        answer = ask(f"{self.prometheus}/api/v1/alerts").json()
        return {
            one["labels"]["node"]: one
            for one in answer["data"]["alerts"]
            if one["state"] == "firing"
        }

    def tell(self, *nodes: str) -> None:
        """As Alertmanager would: what fires, and of what has ended nothing."""
        firing = self.firing()
        self.promheal.post(
            *(
                {
                    **alert("Slow"),
                    "labels": firing[node]["labels"],
                    "startsAt": firing[node]["activeAt"],
                    "fingerprint": fingerprint(firing[node]["labels"]),
                }
                for node in nodes
            )
        )

    def pause(self, *, on: bool) -> None:
        path = f"/api/system/heal/{'pause' if on else 'resume'}"
        answer = self.promheal.ask(path, b'{"reason": "deploy", "scope": "all"}')
        assert answer.status < 300, answer

    def acted(self) -> dict[str, Any]:
        (run,) = self.promheal.until(
            "slow", lambda runs: [run for run in runs if run["actedAt"]], "acted"
        )
        return run

    def decided(self) -> str:
        """Return the detail of the decision to act."""
        page = self.promheal.get("/api/decisions?strategy=slow")
        (allowed,) = [one for one in page["decisions"] if one["verdict"] == "allow"]
        return str(allowed["detail"])


@contextmanager
def shop(tmp_path: Path, **settings: Any) -> Iterator[Shop]:
    strategy = {
        "match": ['alertname="Slow"'],
        "target": ["service"],
        "verify": {"within": "60s"},
        "actions": [{"action": "command", "argv": ["true"]}],
    }
    with (
        Exporter() as exporter,
        start_prometheus(tmp_path, targets={"j": [exporter.address]}, rules=RULES) as program,
        Promheal(
            tmp_path / "p", {"slow": strategy}, prometheus={"url": program.url}, **settings
        ) as promheal,
    ):
        yield Shop(exporter, program.url, promheal)


def test_the_end_of_one_that_nobody_told_does_not_hide_the_other(tmp_path: Path) -> None:
    with shop(tmp_path) as it:
        it.pause(on=True)
        it.set("a", 3.0)
        it.tell("a")
        it.set("b", 3.0)
        it.tell("a", "b")
        it.set("b", 0.2)  # its end is swallowed
        it.pause(on=False)

        it.acted()

        assert it.decided().startswith('left out: node="b" (resolved: ')
        it.set("a", 0.2)
        (run,) = it.promheal.finished("slow")
        assert run["outcome"] == "healed"


@pytest.mark.slow
def test_it_is_healed_when_both_that_asked_have_cleared(tmp_path: Path) -> None:
    with shop(tmp_path) as it:
        it.pause(on=True)
        it.set("a", 3.0)
        it.set("b", 3.0)
        it.tell("a", "b")
        it.pause(on=False)
        run = it.acted()

        it.set("b", 0.2)

        def looks() -> list[str]:
            return [one["detail"] for one in it.promheal.run(run["id"])["observations"]]

        wait_until(lambda: any('1 of 2: node="a": ' in one for one in looks()), within=PATIENCE)
        assert it.promheal.run(run["id"])["state"] == "verifying"
        it.set("a", 0.2)
        (run,) = it.promheal.finished("slow")
        assert (run["outcome"], run["reason"].partition(":")[0]) == ("healed", "all 2 alerts")


def test_a_silence_for_one_lets_the_other_act_and_need_not_clear(tmp_path: Path) -> None:
    with (
        start_alertmanager(tmp_path / "am") as program,
        shop(tmp_path, alertmanager={"url": program.url}) as it,
    ):
        now = time.time()
        Alertmanager(AlertmanagerSettings(url=program.url)).silence(
            {"node": "b"}, starts_at=now, ends_at=now + 3600, created_by="anna", comment="mine"
        )
        it.pause(on=True)
        it.set("a", 3.0)
        it.set("b", 3.0)
        it.tell("a", "b")
        it.pause(on=False)

        it.acted()

        assert it.decided().startswith('left out: node="b" (silenced: silence ')
        it.set("a", 0.2)
        (run,) = it.promheal.finished("slow")
        assert run["outcome"] == "healed", "b fires on"
