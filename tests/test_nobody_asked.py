"""Where there is nobody to ask, nothing is read for the question, and the decision is the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from receiver.config.in_force import Config
from receiver.healing.facts import Facts
from receiver.journal import open_journal
from receiver.policy.signal import Signal
from tests.factories import alert, notification, resolved, step, strategy
from tests.machines.run_model import STALE
from tests.world import World


def again(world: World) -> None:
    world.fire(starts_at=world.clock.now)


def ended(world: World) -> None:
    world.intake.admit(notification(resolved(alert(), world.clock.now)))


def passes(seconds: float) -> Callable[[World], None]:
    return lambda world: setattr(world.clock, "now", world.clock.now + seconds)


def paused(world: World) -> None:
    world.control.pause(by="anna", reason="why", seconds=60)


STORIES: Final[dict[str, tuple[Callable[[World], Any], ...]]] = {
    "acts": (World.fire, World.consider),
    "in its grace period": (World.fire, World.consider, passes(60), World.consider, again,
                            World.consider, passes(400), World.consider),
    "nothing fires": (World.consider, World.fire, ended, World.consider),
    "stale": (World.fire, passes(STALE + 999_999), World.consider, World.consider),
    "paused": (World.fire, paused, World.consider, passes(61), World.consider),
    "two alerts": (World.fire,
                   lambda w: w.fire(labels={"alertname": "HighLatency", "service": "checkout",
                                            "instance": "b"}), World.consider),
}  # fmt: skip


def told(path: Path, story: str) -> Any:
    journal = open_journal(f"sqlite:///{path}")
    world = World(journal, strategy(actions=(step(), step())))
    world.set(prometheus=None)
    world.verifier.signal = Signal.UNKNOWN  # and nobody is in doubt
    found = [done(world) for done in STORIES[story]]
    again_at = [at for at in found if isinstance(at, float)]
    decisions = journal.read(lambda t: t.latest_decisions(limit=99))
    fire = journal.read(lambda t: t.open_episodes(limit=99))
    runs = world.runs()
    journal.close()
    return again_at, decisions, fire, runs


@pytest.mark.parametrize("story", STORIES)
def test_it_is_decided_as_if_others_were_asked(
    tmp_path: Path, story: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unasked = told(tmp_path / "unasked.db", story)
    monkeypatch.setattr(Config, "asks", True)

    assert told(tmp_path / "asked.db", story) == unasked


def test_only_where_somebody_is_asked_it_is_read_what_stands_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    glances: list[str] = []
    glance = Facts.glance

    def counted(*arguments: Any) -> Any:
        glances.append("glance")
        return glance(*arguments)

    monkeypatch.setattr(Facts, "glance", counted)

    told(tmp_path / "unasked.db", "acts")
    assert glances == []
    told(tmp_path / "two.db", "two alerts")
    assert glances == ["glance"], "of several one must be chosen"
    monkeypatch.setattr(Config, "asks", True)
    told(tmp_path / "asked.db", "acts")
    assert glances == ["glance", "glance"]
