"""Everything of a promheal but its threads: the test moves the clock and says who is considered."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from receiver.actions import Actions
from receiver.config.in_force import Config
from receiver.healing.intake import Intake
from receiver.healing.parts import assemble
from receiver.journal import Journal
from receiver.policy.role import EVERYWHERE, At, HandOver, ProcessRole, Rest
from receiver.policy.run import Run
from receiver.policy.signal import Silencing
from receiver.policy.strategy import Strategies, Strategy
from receiver.policy.target import Key
from receiver.reporting.metrics import Metrics
from receiver.services import Inventory
from receiver.settings import PrometheusSettings, Settings
from tests.factories import FakeClock, ScriptedProver, Spy, actions, alert, notification, strategy

KEY = Key("latency", 'service="checkout"')


class World:
    def __init__(
        self, journal: Journal, *strategies: Strategy, role: ProcessRole = EVERYWHERE
    ) -> None:
        self.journal = journal
        self.clock = FakeClock()
        self.verifier = ScriptedProver()
        self.spy = Spy()
        self.woken: list[Key] = []
        self.silenced = ""
        self.silence_unknown = ""
        self.silences: dict[str, str] = {}
        """By `instance`, where alerts of one target differ."""
        self.dry_run = False
        self.trusted: frozenset[str] = frozenset()
        self.pause_file: Path | None = None
        self.settings = Settings(prometheus=PrometheusSettings(url="http://scripted.example"))
        self.strategies = Strategies(strategies or (strategy(),))
        self.inventory = Inventory({})
        self.assemble(actions(self.spy), role)
        self.intake = Intake(
            journal=journal,
            clock=self.clock,
            strategies=lambda: self.strategies,
            wake=self.woken.append,
            fetch=lambda: None,
            ask=lambda _: self.verifier.signal,
            trusts=lambda sender: sender in self.trusted,
            lists=lambda alert: self.verifier.lists(alert.labels),
        )

    def assemble(self, actions: Actions, role: ProcessRole = EVERYWHERE) -> None:
        self.reconciler, self.control = assemble(
            journal=self.journal,
            actions=actions,
            metrics=Metrics(),
            clock=self.clock,
            config=self.config,
            wake=self.woken.append,
            wake_all=self.wake_all,
            role=role,
        )

    def wake_all(self, keys: Iterable[Key], *, idle: bool = False) -> None:
        self.woken.extend(keys)

    def config(self) -> Config:
        return Config(
            settings=self.settings,
            strategies=self.strategies,
            inventory=self.inventory,
            verifier=self.verifier,
            hash="abc",
            trusted=self.trusted,
            silenced=lambda alert: Silencing(
                self.silences.get(alert.labels.get("instance", ""), self.silenced),
                self.silence_unknown,
            ),
            pause_file=self.pause_file,
            dry_run=self.dry_run,
        )

    def set(self, **changes: Any) -> None:
        self.settings = msgspec.structs.replace(self.settings, **changes)

    def fire(self, **changes: Any) -> None:
        self.intake.admit(notification(alert(**changes)))

    def consider(self, key: Key = KEY) -> float | None:
        """Return when to look again: at once, too, where another process must."""
        match self.reconciler.consider(key):
            case At(time):
                return time
            case HandOver():
                return self.clock.now
            case Rest():
                return None

    def verdict(self, key: Key = KEY) -> tuple[str, str]:
        """What was decided last, and why."""
        decision = self.journal.read(lambda t: t.last_decision(key))
        assert decision is not None
        return decision.verdict, decision.reason

    def runs(self) -> list[Run]:
        found = self.journal.read(lambda t: t.runs(limit=100))
        full = [self.journal.read(lambda t: t.run(run.id)) for run in reversed(found)]
        return [run for run in full if run is not None]

    def totals(self, metric: str) -> dict[tuple[str, ...], float]:
        snapshot = self.journal.read(lambda t: t.stats())
        return {labels: n for (name, labels), n in snapshot.totals.items() if name == metric}
