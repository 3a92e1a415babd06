"""How does a line of the healing log look? One run that acted and has ended, as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from receiver.journal import Transaction
from receiver.log import escape
from receiver.policy.alert import Alert
from receiver.policy.guards.situation import Reason
from receiver.policy.run import Doubt, Outcome, Phase, Run, StepState
from receiver.policy.target import Key
from receiver.redaction import redact_json

MAX_TEXT: Final = 300
"""Characters of a text: labels can have any length."""


class HealingLogLine(msgspec.Struct, frozen=True, kw_only=True):
    """Its fields in the order in which they are written."""

    timestamp: str
    """When the run ended, in UTC: `2026-01-31T12:00:00.000Z`."""
    strategy: str
    metric: str
    """The alert's label `metric`, or its name where it has none."""
    value: float | None
    """What the expression returned when it was decided, else what the alert said; or None."""
    severity: str
    actions_executed: int
    """Steps that were done, without those of a rollback."""
    actions_total: int
    """Steps of the plan, including those that were skipped for this alert."""
    success: bool
    """The outcome is `healed`."""
    dry_run: bool
    """Nothing was done, only logged."""
    run: int | None = None
    target: str
    outcome: Outcome | None = None
    reason: str
    fingerprint: str
    duration_seconds: float | None = None
    """From the first step to the outcome, including verification and rollback."""
    rolled_back: bool = False
    """Whether all that had been done was undone."""
    doubt: Doubt | None = None
    """Why the outcome is inconclusive."""
    relapsed: bool = False
    """When the line was written, the alert was known to have fired again within the hold."""


def line_of(run: Run, alert: Alert | None = None) -> HealingLogLine:
    """Return the line of a run that has ended.

    *alert* is needed for a run that failed before it was planned.
    """
    assert run.finished_at is not None
    about: Mapping[str, Any] = {}
    if run.plan is not None:
        about = run.plan.alert
    elif alert is not None:
        about = msgspec.structs.asdict(alert)
    planned = run.plan
    began = run.finished_at if run.acted_at is None else run.acted_at
    return _line(
        Key(run.strategy, run.target),
        about,
        at=run.finished_at,
        value=None if planned is None else planned.value,
        actions_executed=sum(
            step.phase is Phase.RUN and step.state is StepState.DONE for step in run.steps
        ),
        actions_total=0 if planned is None else len(planned.steps),
        success=run.outcome is Outcome.HEALED,
        dry_run=False,
        run=run.id,
        outcome=run.outcome,
        reason=_cut(run.reason),
        duration_seconds=round(max(0.0, run.finished_at - began), 3),
        rolled_back=run.cause is not None and run.outcome is not Outcome.ROLLBACK_FAILED,
        doubt=run.doubt,
        relapsed=run.relapsed_at is not None,
    )


def would_have(
    key: Key, alert: Alert, *, value: float | None, actions: int, now: float
) -> HealingLogLine:
    """Return the line of what is not done because promheal was started with `--dry-run`.

    *value* is the expression's, and *actions* the number of the strategy's steps.
    """
    return _line(
        key,
        msgspec.structs.asdict(alert),
        at=now,
        value=value,
        actions_executed=0,
        actions_total=actions,
        success=False,
        dry_run=True,
        reason=str(Reason.DRY_RUN),
    )


def _line(
    key: Key, about: Mapping[str, Any], *, at: float, value: float | None, **fields: Any
) -> HealingLogLine:
    labels = about.get("labels", {})
    return HealingLogLine(
        timestamp=timestamp(at),
        strategy=_cut(key.strategy),
        metric=_cut(labels.get("metric") or labels.get("alertname", "")),
        value=_number(about.get("annotations", {}).get("value") if value is None else value),
        severity=_cut(labels.get("severity", "")),
        target=_cut(key.target),
        fingerprint=about.get("fingerprint", ""),
        **fields,
    )


def timestamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _number(value: float | str | None) -> float | None:
    """Return a finite number, or None: an alert's own value may be any text."""
    try:
        number = math.nan if value is None else float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def encode(line: HealingLogLine) -> bytes:
    """Return the line as JSON with its line feed; control characters are escaped."""
    return escape(redact_json(msgspec.json.encode(line).decode())).encode() + b"\n"


def line_in(transaction: Transaction, run_id: int) -> HealingLogLine | None:
    """Return the line of a run in the journal; None when it is no longer there."""
    run = transaction.run(run_id)
    if run is None:
        return None
    episode = transaction.episode(run.episode) if run.plan is None else None
    return line_of(run, None if episode is None else episode.alert)
