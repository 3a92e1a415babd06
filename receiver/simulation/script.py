"""What is the world like? Alerts with their courses, the answers to queries, what actions do."""

from __future__ import annotations

from math import inf

import msgspec

from receiver.simulation.course import Course


class Heals(msgspec.Struct, frozen=True, kw_only=True):
    """What ends an alert."""

    action: str
    after: float = 0.0
    """Seconds from the end of the action until the expression no longer returns it."""
    nth: int | None = None
    """Only this one of the action's executions for the alert, from 1."""
    lasts: float = inf
    """Seconds, after which it is what its course says again."""


class Notifying(msgspec.Struct, frozen=True, kw_only=True):
    """Alertmanager's route; each alert is a group of its own. Seconds."""

    group_wait: float = 0.0
    group_interval: float = 10.0
    repeat_interval: float = 14_400.0
    send_resolved: bool = True


class ScriptedAlert(msgspec.Struct, frozen=True, kw_only=True):
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    expr: str | None = None
    course: Course
    """Whether its expression returns it: a number above or below 0 is its value, 0 is no."""
    heals: tuple[Heals, ...] = ()
    notifying: Notifying = Notifying()


class ScriptedQuery(msgspec.Struct, frozen=True, kw_only=True):
    query: str
    """As it is after its templates."""
    course: Course


class ScriptedAction(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of an action. The first that fits counts, one with `nth` before one without."""

    action: str
    target: str | None = None
    """Only on this target; None: on each."""
    nth: int | None = None
    """Only this execution, from 1, on all targets together or on *target*."""
    takes: float = 0.0
    """Seconds."""
    fails: str = ""
    undo_fails: str = ""
    skips: str = ""
    """Why there is nothing to do."""


class Script(msgspec.Struct, frozen=True, kw_only=True):
    interval: float
    """Seconds between two evaluations, and two samples."""
    alerts: tuple[ScriptedAlert, ...] = ()
    queries: tuple[ScriptedQuery, ...] = ()
    actions: tuple[ScriptedAction, ...] = ()
