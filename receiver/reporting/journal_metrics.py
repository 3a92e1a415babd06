"""What does the journal say at scrape? The same in every replica."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from math import nan
from typing import Final

from receiver.journal import Stats, Transaction, Worker
from receiver.policy.breaker import MAIN, Breaker, BreakerState
from receiver.policy.dormancy import backoff as _backoff
from receiver.policy.run import FAILURES, Outcome
from receiver.policy.strategy import Budget, Strategy
from receiver.reporting.families import Family, gauge, gauges
from receiver.reporting.metrics import HEALS, RELAPSES
from receiver.reporting.present import LISTED, Present, Seen

_NOT_BOUND: Final = "(unbound)"
"""The label value for work that is bound to no host or label; none can have this name."""
MAX_TARGETS: Final = 100
"""Breakers of targets that are shown."""


def budget_left(
    transaction: Transaction, strategy: Strategy, *, now: float
) -> Iterator[tuple[Budget, int]]:
    """Yield each window of a budget, with the runs that are left on the target with fewest."""
    for window in strategy.budget:
        starts = transaction.most_starts(strategy.name, since=now - window.per)
        yield window, max(0, window.runs - starts)


def of_journal(
    seen: Seen, budgets: Mapping[tuple[str, str], float], present: Present
) -> Iterator[Family]:
    snapshot, dormancy = seen.snapshot, seen.dormancy
    names = present.strategies.names
    yield gauges(
        "alerts_firing", "Open episodes by strategy.", ["strategy"],
        (((name,), snapshot.firing.get(name, 0)) for name in names),
    )  # fmt: skip
    yield gauges(
        "heals_in_progress", "Runs that hold a target.", ["strategy"],
        (((name,), snapshot.in_progress.get(name, 0)) for name in names),
    )  # fmt: skip
    yield gauges(
        "strategy_effectiveness_ratio",
        "Heals that held, of the runs that healed or failed, 0 to 1; NaN before the first.",
        ["strategy"],
        (((name,), effectiveness(snapshot, name)) for name in names),
    )
    yield gauges(
        "budget_remaining",
        "Runs left in a budget's window, on the target that has fewest.",
        ["strategy", "window"],
        budgets.items(),
    )
    yield gauges(
        "breaker_state",
        "1 for the state that a breaker is in; targets' while they are not closed.",
        ["breaker", "state"],
        _breaker_rows(seen.breakers, names, present.now),
    )
    yield gauge("dormant", "1 while the engine has stopped itself.", dormancy.since is not None)
    yield gauge(
        "consecutive_failures",
        "Different targets on which runs have failed since any was healed.",
        dormancy.failures,
    )
    backoff = present.engine.backoff
    yield gauge(
        "backoff_seconds", "Seconds after the last failure for which nothing begins.",
        _backoff(dormancy.failures, first=backoff.first, most=backoff.most)
        if dormancy.failures else 0.0,
    )  # fmt: skip
    yield gauges(
        "storm_active", "1 while more targets are affected than are treated at once.",
        ["strategy"], (((name,), name in seen.storms) for name in names),
    )  # fmt: skip
    yield gauges(
        "pauses", "Pauses in force.", ["scope"],
        (((kind,), number) for kind, number in _by_kind(seen).items()),
    )  # fmt: skip
    yield gauge(
        "approvals_pending",
        f"Runs that wait for a person's approval, counted up to {LISTED}.",
        len(seen.asking),
    )
    yield gauge(
        "approval_oldest_seconds",
        "For how long the oldest of them has been waiting; 0 without one.",
        max((present.now - run.asked_at for run in seen.asking if run.asked_at), default=0.0),
    )
    yield gauge("journal_size_bytes", "Size of the journal.", snapshot.size_bytes)
    yield gauge(
        "runs_without_worker",
        "Unfinished runs that are bound to a host or label without a living worker.",
        snapshot.without_worker,
    )
    yield gauges(
        "workers", "Living processes by the host or label whose steps they execute.",
        ["runs_on"], _by_place(snapshot.workers),
    )  # fmt: skip


def effectiveness(snapshot: Stats, strategy: str) -> float:
    """Return the heals that held, of the runs that healed or failed: 0 to 1, NaN without any.

    What was inconclusive or cancelled says nothing about the strategy.
    """
    totals = snapshot.totals
    healed, *failed = (
        totals.get((HEALS.name, (strategy, outcome)), 0.0)
        for outcome in (Outcome.HEALED, *FAILURES)
    )
    judged = healed + sum(failed)
    held = max(0.0, healed - totals.get((RELAPSES.name, (strategy,)), 0.0))
    return held / judged if judged else nan


def _by_kind(seen: Seen) -> Mapping[str, int]:
    counts = Counter(pause.scope.partition(":")[0] for pause in seen.pauses)
    return {kind: counts[kind] for kind in ("all", "strategy", "target")}


def _by_place(workers: Iterable[Worker]) -> Iterator[tuple[tuple[str], float]]:
    counts = Counter(name or _NOT_BOUND for worker in workers for name in worker.names)
    yield from (((name,), number) for name, number in {_NOT_BOUND: 0, **counts}.items())


def _breaker_rows(
    breakers: Mapping[str, Breaker], strategies: Iterable[str], now: float
) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield each breaker's states, of which one is 1: main, strategies', and targets' not closed.

    Targets are named by alerts' labels, so there are no more than MAX_TARGETS of them.
    """
    always = (MAIN, *(f"strategy:{name}" for name in strategies))
    targets = [
        name
        for name, one in breakers.items()
        if name.startswith("target:") and one.state(now) is not BreakerState.CLOSED
    ]
    for name in (*always, *targets[:MAX_TARGETS]):
        current = breakers.get(name, Breaker()).state(now)
        for state in BreakerState:
            yield (name, str(state)), state is current
