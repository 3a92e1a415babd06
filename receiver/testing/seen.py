"""What is to be seen of a world: decisions with their guards, runs, and times of a test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from receiver.journal import DecisionRecord
from receiver.policy.duration import format_duration
from receiver.policy.run import Run
from receiver.policy.target import Key
from receiver.simulation.world import VirtualWorld

CLOSE: Final = 0.001
"""Seconds by which two times may differ, and are the same."""
_RUNS: Final = 10_000
"""Runs and decisions of one test that are looked at."""


def decided(world: VirtualWorld) -> list[Key]:
    """Return the keys that were decided on."""
    found = world.journal.read(lambda t: t.latest_decisions(limit=_RUNS))
    return sorted({Key(one.strategy, one.target) for one in found})


def last(world: VirtualWorld, key: Key) -> DecisionRecord | None:
    """Return the last decision on *key*."""
    return world.journal.read(lambda t: t.last_decision(key))


def guards(world: VirtualWorld, record: DecisionRecord) -> tuple[str, ...]:
    """Return what each guard answered, those that refused first."""
    lines = []
    for answer in sorted(record.answers, key=lambda one: one["verdict"] == "allow"):
        until = answer["until"]
        words = [
            f"guard {answer['guard']}: {answer['verdict']}",
            answer["reason"],
            "" if until is None else f"until {shown_time(world, until)}",
        ]
        line = " ".join(filter(None, words))
        lines.append(f"{line}: {answer['detail']}" if answer["detail"] else line)
    refused = [line for line in lines if not line.endswith(": allow")]
    return tuple(refused or ["every guard allowed"])


def latest(world: VirtualWorld, strategies: set[str] | None) -> tuple[str, ...]:
    """Return what the guards said last of each target."""
    lines: list[str] = []
    for key in decided(world):
        record = last(world, key)
        if record is None or (strategies is not None and key.strategy not in strategies):
            continue
        if record.verdict != "allow":
            head = f"{key.strategy} on {key.target}: "
            lines += [head + line for line in guards(world, record)]
    return tuple(lines[:5])


def acted(world: VirtualWorld, strategy: str | None = None) -> list[Run]:
    """Return the runs that have begun to act, the oldest first, with their steps."""

    def read(t: Any) -> list[Run]:
        found = t.runs(limit=_RUNS, strategy=strategy)
        return [t.run(run.id) for run in reversed(found) if run.acted_at is not None]

    return world.journal.read(read)


def close(one: float, other: float) -> bool:
    return abs(one - other) < CLOSE


def text(seconds: float) -> str:
    return format_duration(round(seconds, 3))


def shown_time(world: VirtualWorld, at: float | None) -> str:
    """Return a moment as the test file writes it: from its beginning."""
    return "-" if at is None else text(at - world.start)


def first_lines(lines: Sequence[str] | Iterable[str], most: int = 20) -> list[str]:
    """Return the first of *lines*, and how many there are besides."""
    every = list(lines)
    more = [f"and {len(every) - most} more"] if len(every) > most else []
    return every[:most] + more
