"""What stops the engine, or some of it? Dormancy, breakers, pauses, hosts without a worker."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Final

from receiver.log import escape
from receiver.policy.breaker import Breaker, BreakerState
from receiver.reporting.needs.need import WHY, Need, NeedReason, Severity, word
from receiver.reporting.present import Present, Seen

WARN_FAILURES: Final = 5
"""Consecutive failures from which a warning says how near dormancy is."""


def of_engine(present: Present, seen: Seen) -> Iterator[Need]:
    if seen.snapshot.without_worker:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.NO_WORKER,
            title=f"{seen.snapshot.without_worker} runs are bound to a host without a worker",
            advice="Start promheal work on it; promheal run ID says which host it is",
            command="promheal runs --state pending",
        )
    dormancy = seen.dormancy
    if dormancy.since is not None:
        yield dormant(dormancy.reason)
    elif dormancy.failures >= WARN_FAILURES:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.CONSECUTIVE_FAILURES,
            title=f"Self-Healing has {dormancy.failures} consecutive failures",
            advice="System approaching Dormant Mode threshold "
            f"({present.engine.dormant_after} failures)",
            command="promheal runs --state finished",
        )
    for name, one in seen.breakers.items():
        yield from _of_breaker(name, one, seen.now)
    for pause in seen.pauses:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.PAUSED,
            subject=str(pause.id),
            title=f"{pause.scope} is paused by {pause.by}: {pause.reason}",
            command=resuming(pause.scope),
        )


def dormant(why: str) -> Need:
    return Need(
        severity=Severity.CRITICAL,
        reason=NeedReason.DORMANT,
        title="Self-Healing Engine in DORMANT mode",
        why=why,
        advice="Call POST /api/system/heal/resume with valid reason",
        command=f"promheal resume {WHY}",
    )


def _of_breaker(name: str, breaker: Breaker, now: float) -> Iterator[Need]:
    match breaker.state(now):
        case BreakerState.PERMANENT_OPEN:
            yield open_for_good(name)
        case BreakerState.OPEN | BreakerState.HALF_OPEN as state:
            yield Need(
                severity=Severity.WARNING,
                reason=NeedReason.BREAKER_OPEN,
                subject=name,
                title=f"Circuit breaker {name} is {state}",
                why="It kept failing; one run will try whether that is over",
                command=f"promheal breaker reset {word(name)} {WHY}",
            )
        case BreakerState.CLOSED:
            pass


def open_for_good(name: str) -> Need:
    return Need(
        severity=Severity.CRITICAL,
        reason=NeedReason.BREAKER_PERMANENT_OPEN,
        subject=name,
        title=f"Circuit breaker {name} is PERMANENT_OPEN",
        why="It tripped again and again without a heal between",
        advice="Find out why it kept failing, then call "
        f"POST /api/breakers/{name}/reset with force and a reason",
        command=f"promheal breaker reset {word(name)} --force {WHY}",
    )


def resuming(scope: str) -> str:
    """Return the command that lifts the pauses of a scope."""
    kind, _, name = scope.partition(":")
    # A target's name has control characters escaped as escape() does.
    narrowed = f" --{kind} {shlex.quote(escape(name))}" if name else ""
    return f"promheal resume{narrowed} {WHY}"
