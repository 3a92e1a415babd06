"""A run, as far as the demo reads it from `GET /api/runs/ID`."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from receiver.policy.run import Observation, Outcome, Phase, StepState
from receiver.policy.signal import Signal

RESTART: Final = "restart_service"
"""The action that heals; those before it only say something."""


class DecisionView(msgspec.Struct, frozen=True):
    at: float
    verdict: str
    reason: str
    detail: str


class StepView(msgspec.Struct, frozen=True, rename="camel"):
    """A step of a run, as `GET /api/runs/ID` shows it."""

    index: int
    phase: Phase
    action: str
    state: StepState
    started_at: float
    finished_at: float | None
    attempt: int
    result: dict[str, Any]
    error: str


class RunView(msgspec.Struct, frozen=True, rename="camel"):
    """A run, as `GET /api/runs/ID` shows it."""

    id: int
    strategy: str
    target: str
    outcome: Outcome | None
    reason: str
    notified_at: float
    acted_at: float | None
    verify_from: float | None
    finished_at: float | None
    alert: dict[str, Any] | None
    steps: tuple[StepView, ...]
    decisions: tuple[DecisionView, ...]
    observations: tuple[Observation, ...]

    @property
    def starts_at(self) -> float | None:
        """When the alert began to fire, as Prometheus says."""
        return None if self.alert is None else float(self.alert["startsAt"])

    @property
    def healing(self) -> StepView | None:
        """The step that heals, once it was started."""
        return next((step for step in self.steps if step.action == RESTART), None)

    @property
    def proof(self) -> Observation | None:
        """The look at Prometheus that proved the heal."""
        return next((one for one in self.observations if one.verdict == Signal.CLEARED), None)
