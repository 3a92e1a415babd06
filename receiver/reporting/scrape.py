"""What is read at scrape: lifetime totals and the present, from the journal and this process.

What comes from the journal is the same in every replica; what is a process' own differs. While the
journal cannot be read only the latter is shown, and that it is so.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from math import nan
from typing import Final

import msgspec
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from receiver.errors import JournalError
from receiver.journal import Journal, JournalState, Stats, Transaction, Worker
from receiver.policy.breaker import MAIN, Breaker, BreakerState
from receiver.policy.dormancy import backoff as _backoff
from receiver.policy.duration import format_duration
from receiver.policy.run import FAILURES, Outcome
from receiver.policy.strategy import Budget, Mode, Strategy
from receiver.reporting.metrics import HEALS, NOTIFICATIONS, RELAPSES, TOTALS, label_sets
from receiver.reporting.needs import needs
from receiver.reporting.needs.need import Severity
from receiver.reporting.present import LISTED, Present, Seen, see
from receiver.reporting.reach import UPSTREAMS

_Total = tuple[str, tuple[str, ...]]
"""(metric, label values)."""

_NOT_BOUND: Final = "(unbound)"
"""Stands for what is bound to no host or label; none can be called so."""
MAX_TARGETS: Final = 100
"""Breakers of targets that are shown."""


def budget_left(
    transaction: Transaction, strategy: Strategy, *, now: float
) -> Iterator[tuple[Budget, int]]:
    """Yield each window of a budget with the runs left on the target that has fewest."""
    for window in strategy.budget:
        starts = transaction.most_starts(strategy.name, since=now - window.per)
        yield window, max(0, window.runs - starts)


class _Look(msgspec.Struct, frozen=True):
    """What a scrape reads of the journal."""

    seen: Seen
    budgets: Mapping[tuple[str, str], float]


class Scrape(Collector):
    def __init__(
        self,
        *,
        journal: Journal,
        present: Callable[[], Present],
        uncounted: Callable[[], AbstractContextManager[Mapping[str, int]]],
        whole: bool = True,
    ) -> None:
        """*uncounted* lends the notifications, by answer, that the journal has not counted yet."""
        self._whole = whole
        self._uncounted = uncounted
        self._journal = journal
        self._present = present

    def describe(self) -> Iterable[Metric]:
        return ()  # registering must not read the journal

    def collect(self) -> Iterator[Metric]:
        present = self._present()
        if not self._whole:
            yield from self._of_process(present, readable=True)
            return
        try:
            with self._uncounted() as uncounted:
                looked = _look(self._journal, present)
        except JournalError:
            yield from self._of_process(present, readable=False)
            yield _needs(present, None)
        else:
            yield from self._totals(_with(uncounted, looked.seen.snapshot.totals), present)
            yield from self._of_journal(looked, present)
            yield from self._of_process(present, readable=True)
            yield _needs(present, looked.seen)

    @staticmethod
    def _of_journal(looked: _Look, present: Present) -> Iterator[Metric]:
        seen = looked.seen
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
            looked.budgets.items(),
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
            "storm_active", "1 while more targets are ill than are treated at once.",
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

    @staticmethod
    def _of_process(present: Present, *, readable: bool) -> Iterator[Metric]:
        yield gauges(
            "background_tasks", "Background tasks by state.", ["state"],
            (
                (("active",), sum(not task.paused for task in present.tasks)),
                (("paused",), sum(task.paused for task in present.tasks)),
            ),
        )  # fmt: skip
        answering = {one.name: float(not one.problem) for one in present.upstreams}
        yield gauges(
            "upstream_up",
            "1 while who is asked before an act answers; NaN before it was asked.",
            ["upstream"],
            (((name,), answering.get(name, nan)) for name in UPSTREAMS),
        )
        modes = Counter(strategy.mode for strategy in present.strategies)
        yield gauges(
            "strategies", "Strategies in force.", ["mode"],
            (((str(mode),), modes[mode]) for mode in Mode),
        )  # fmt: skip
        yield gauge("dry_run", "1 while nothing is done, by --dry-run.", present.dry_run)
        keys = present.keys
        yield gauges(
            "llm_keys", "Keys of language model providers by the last probe.", ["state"],
            (
                (("active",), keys.active),
                (("failed",), keys.failed),
                (("unknown",), keys.total - keys.active - keys.failed),
            ),
        )  # fmt: skip
        yield gauge(
            "clock_lead_seconds",
            "How far the wall clock is ahead of promheal's own, which no step moves.",
            present.clock_lead,
        )
        yield gauges(
            "feature_enabled", "Feature flags.", ["flag"],
            (((flag,), on) for flag, on in present.flags.items()),
        )  # fmt: skip
        yield gauge(
            "queue_length", "Targets that are ready to be considered.", present.queue_length
        )
        yield gauge(
            "journal_writable", "1 while the journal stores what it is given.",
            present.journal_writable and readable,
        )  # fmt: skip
        yield gauges(
            "journal_state", "1 for the state that the journal is in.", ["state"],
            (((str(state),), state is present.condition.state) for state in JournalState),
        )  # fmt: skip
        yield gauge("acting", "1 in a process that decides and acts.", present.acting)
        yield gauge(
            "last_consider_timestamp_seconds",
            "When the engine last looked at a target.",
            present.last_consider,
        )
        yield gauge(
            "last_heartbeat_timestamp_seconds",
            "When the alert PromhealWatchdog last arrived; 0 before the first.",
            present.last_heartbeat,
        )
        yield gauge(
            "last_notification_timestamp_seconds",
            "When a notification was last accepted; 0 before the first.",
            present.last_notification,
        )
        yield gauge(
            "config_last_reload_successful", "1 when the last reload was taken.",
            present.reload_successful,
        )  # fmt: skip
        yield gauge(
            "config_last_reload_success_timestamp_seconds", "When a configuration was last taken.",
            present.reload_success_at,
        )  # fmt: skip
        yield gauge(
            "config_hash", "48 bits of the configuration's SHA-256, to compare replicas.",
            int(present.config_hash[:12] or "0", 16),
        )  # fmt: skip
        yield InfoMetricFamily(
            "promheal_build",
            "Version of promheal and of Python.",
            value={"version": present.version, "python": platform.python_version()},
        )

    @staticmethod
    def _totals(totals: Mapping[_Total, float], present: Present) -> Iterator[Metric]:
        for total in TOTALS:
            family = CounterMetricFamily(
                f"promheal_{total.name}", total.help, labels=list(total.labels)
            )
            for values in label_sets(
                total, present.strategies.names, present.actions, present.channels
            ):
                family.add_metric(values, totals.get((total.name, values), 0.0))
            yield family


def _with(uncounted: Mapping[str, int], totals: Mapping[_Total, float]) -> Mapping[_Total, float]:
    """Return the totals with what could not be stored: of a full disk the answers tell."""
    more = {(NOTIFICATIONS.name, (code,)): number for code, number in uncounted.items()}
    return {**totals, **{key: totals.get(key, 0.0) + number for key, number in more.items()}}


def _look(journal: Journal, present: Present) -> _Look:
    def look(transaction: Transaction) -> _Look:
        budgets = {
            (strategy.name, format_duration(window.per)): float(left)
            for strategy in present.strategies
            for window, left in budget_left(transaction, strategy, now=present.now)
        }
        return _Look(see(transaction, present), budgets)

    return journal.read(look)


def _needs(present: Present, seen: Seen | None) -> Metric:
    counts = Counter(need.severity for need in needs(present, seen))
    return gauges(
        "needs", "What needs a person, as `promheal status` lists it.", ["severity"],
        (((str(severity),), counts[severity]) for severity in Severity),
    )  # fmt: skip


def _by_kind(seen: Seen) -> Mapping[str, int]:
    counts = Counter(pause.scope.partition(":")[0] for pause in seen.pauses)
    return {kind: counts[kind] for kind in ("all", "strategy", "target")}


def _by_place(workers: Iterable[Worker]) -> Iterator[tuple[tuple[str], float]]:
    counts = Counter(name or _NOT_BOUND for worker in workers for name in worker.names)
    yield from (((name,), number) for name, number in {_NOT_BOUND: 0, **counts}.items())


def gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"promheal_{name}", text, value=value)


def gauges(
    name: str, text: str, labels: list[str], rows: Iterable[tuple[tuple[str, ...], float]]
) -> Metric:
    family = GaugeMetricFamily(f"promheal_{name}", text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


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


def effectiveness(snapshot: Stats, strategy: str) -> float:
    """Return the heals that held, of the runs that healed or failed: 0 to 1, NaN without any.

    What is inconclusive or was cancelled says nothing of the strategy.
    """
    totals = snapshot.totals
    healed, *failed = (
        totals.get((HEALS.name, (strategy, outcome)), 0.0)
        for outcome in (Outcome.HEALED, *FAILURES)
    )
    judged = healed + sum(failed)
    held = max(0.0, healed - totals.get((RELAPSES.name, (strategy,)), 0.0))
    return held / judged if judged else float("nan")
