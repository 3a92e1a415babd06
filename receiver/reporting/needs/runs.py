"""Which runs need a person? Those that wait for approval, have failed, or did not hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from receiver.policy.duration import format_duration
from receiver.policy.run import Outcome, Run
from receiver.reporting.needs.need import WHY, Need, NeedReason, Severity, word
from receiver.reporting.present import LATELY, Present, Seen

FLAPPING: Final = 2
"""Relapses of one target within LATELY, from which it is listed."""
SHOWN: Final = 5
"""Needs of one kind that are listed; the others are counted."""


def of_runs(present: Present, seen: Seen) -> Iterator[Need]:
    for name in sorted(seen.storms):
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.STORM,
            subject=name,
            title=f"More than {present.engine.storm.targets} targets of {name} are affected: "
            "no more are treated at once",
            why="What they have in common may be the cause",
            advice="Look for what they have in common",
            command="promheal alerts",
            strategy=name,
        )
    yield from _first(
        [approval(run) for run in seen.asking],
        "runs wait for approval",
        "promheal runs --state pending",
    )
    yield from _first(
        [in_vain(run) for run in seen.unhealed],
        "targets were acted on without effect, and their alerts fire",
        "promheal runs --state finished",
    )
    flapping = [(key, times) for key, times in seen.relapses.items() if times >= FLAPPING]
    yield from _first(
        [relapsed(*key, times) for key, times in flapping],
        "targets did not stay healed",
        "promheal runs --state finished",
    )


def approval(run: Run) -> Need:
    return Need(
        severity=Severity.WARNING,
        reason=NeedReason.AWAITING_APPROVAL,
        subject=str(run.id),
        title=f"Run {run.id} of {run.strategy} on {run.target} waits for approval",
        advice="Say yes or no",
        command=f"promheal approve {run.id} {WHY}",
        run=run.id,
        strategy=run.strategy,
    )


_IN_VAIN: Final = {
    Outcome.FAILED: "See which step failed",
    Outcome.ROLLED_BACK: "See which step failed",
    Outcome.UNKNOWN: "See what was being done when its end was lost",
    Outcome.ROLLBACK_FAILED: "See by hand to what it has changed",
    Outcome.INEFFECTIVE: "It still fires, so look for another cause",
    Outcome.INCONCLUSIVE: "See what could not be proven, and why",
}


def in_vain(run: Run) -> Need:
    """Return the need of a run that has ended and did not heal."""
    assert run.outcome is not None
    return Need(
        severity=Severity.WARNING,
        reason=NeedReason(run.outcome),
        subject=f"{run.strategy}:{run.target}",
        title=f"The last run of {run.strategy} on {run.target} ended as {run.outcome}, "
        "and its alert fires",
        why=run.reason,
        advice=_IN_VAIN[run.outcome],
        command=f"promheal run {run.id}",
        run=run.id,
        strategy=run.strategy,
    )


def relapsed(strategy: str, target: str, times: int) -> Need:
    lately = format_duration(LATELY)
    return Need(
        severity=Severity.WARNING,
        reason=NeedReason.RELAPSED,
        subject=f"{strategy}:{target}",
        title=f"{times} heals of {strategy} on {target} did not hold in the last {lately}",
        why="It treats a symptom",
        advice="Look for the cause, which its actions do not remove",
        command=f"promheal runs --strategy {word(strategy)}",
        strategy=strategy,
    )


def _first(found: list[Need], others: str, command: str) -> Iterator[Need]:
    """Yield the first ones, and one that counts the rest."""
    yield from found[:SHOWN]
    if len(found) > SHOWN:
        last = found[-1]
        yield Need(
            severity=last.severity,
            reason=last.reason,
            subject="others",
            title=f"{len(found) - SHOWN} more {others}",
            command=command,
        )
