"""A promheal to which everything has happened, with real services that are ill: to be looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.acceptance.server import Promheal, alert, strategy
from tests.acceptance.terminal import Ward, ward_in

SNAPSHOT: Final = {"action": "snapshot"}


BELIEVED = "vector(1)"
"""A `when` for alerts that no rule has."""


class Scene:
    """What was begun: the runs that a person would look at."""

    def __init__(self, server: Promheal, ward: Ward) -> None:
        self.server = server
        self.ward = ward

    def numbers(self, strategy_: str) -> list[int]:
        return [run["id"] for run in self.server.runs(strategy_)]


def of_services(*services: str) -> list[str]:
    return ['alertname="Sick"', f'service=~"{"|".join(services)}"']


def say(what: str, *, undo: str = "") -> dict[str, Any]:
    """A step that stands for a change, and shows what it would have said."""
    more = {"undo": ["echo", undo]} if undo else {}
    return {"action": "command", "argv": ["echo", what], **more}


@contextmanager
def eventful(folder: Path) -> Iterator[Scene]:
    """Yield it once there were a heal, a failure, a rollback and a breaker that opened; one run is
    being proven, one waits for a person, and a storm holds others back."""
    with ward_in(folder / "ward") as ward:
        cure = {
            "action": "command",
            "argv": ["rm", "-f", "{{ labels.service }}"],
            "cwd": str(ward.ill),
        }
        strategies: dict[str, Any] = {
            "restart": {
                **strategy(say("drained", undo="takes requests"), cure, match="Sick"),
                "description": "Drain the service, then restart it.",
                "values": {"service": "[a-z]+"},
                "match": of_services("checkout", "search"),
                "target": ["service"],
                "verify": {"within": "1m"},
            },
            "patience": {
                **strategy(say("asked to hurry"), match="Sick"),
                "match": of_services("mail"),
                "target": ["service"],
                "verify": {"within": "1h"},
            },
            "migrate": strategy(
                say("frozen, 112 jobs wait", undo="thawed"),
                {"action": "command", "argv": ["false"]},
                match="Stuck",
                when=BELIEVED,
                target=["service"],
                description="Freeze the queue, and move its jobs.",
            ),
            "in-vain": {
                **strategy(say("tried"), match="Sick"),
                "match": of_services("proxy"),
                "target": ["service"],
                "verify": {"within": "1s", "at_most": "1s"},
                "breaker": {"failures": 1, "open_for": "1h"},
            },
            "failover": strategy(
                say("promoted"),
                match="PrimaryDown",
                target=["service"],
                when=BELIEVED,
                mode="approve",
            ),
            "look": strategy(SNAPSHOT, match="Anomaly", target=["service"], when=BELIEVED),
            "sweep": strategy(
                say("swept"), match="Flood", target=["service"], when=BELIEVED, budget=[]
            ),
        }  # fmt: skip
        server = Promheal(
            folder / "promheal",
            strategies,
            prometheus={"url": ward.prometheus},
            engine={
                "resync": "5s",
                "storm": {"targets": 3},
                "backoff": {"first": "100ms", "most": "100ms"},
            },
        )
        with server:
            scene = Scene(server, ward)
            server.post(*ward.infect("checkout"))
            server.finished("restart")
            server.post(alert("Stuck", service="jobs"))
            server.finished("migrate")
            server.post(*ward.infect("proxy"))
            server.finished("in-vain")
            server.post(alert("Anomaly", service="shop"))
            server.finished("look")
            server.post(alert("PrimaryDown", service="db"), *ward.infect("mail"))
            server.post(*(alert("Flood", service=f"edge-{number}") for number in range(6)))
            server.until("patience", lambda runs: runs and runs[0]["state"] == "verifying")
            server.until("failover", lambda runs: runs and runs[0]["reason"] == "awaiting_approval")
            yield scene
