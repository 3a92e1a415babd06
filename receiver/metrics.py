"""Every metric: what is counted for ever, what is timed here, and what is read at scrape.

Lifetime totals and gauges are read from the journal at scrape, so they survive restarts and
replicas agree; a total is shown only once it is stored, since a counter that went backwards would
look like a restart to Prometheus. Histograms are this process's. Label values come from the
configuration and from enums only: a hundred thousand different alerts add no series.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from receiver.background import TaskState
from receiver.breaker import MAIN, Breaker, BreakerState
from receiver.dormancy import Dormancy
from receiver.dormancy import backoff as _backoff
from receiver.duration import format_duration
from receiver.guards.situation import Answer, Reason
from receiver.journal import Journal, Snapshot, Transaction
from receiver.llm import KeySummary
from receiver.run import Outcome, StepState
from receiver.settings import EngineSettings
from receiver.strategy import Budget, Strategies, Strategy

disable_created_metrics()  # type: ignore[no-untyped-call]

CODES: Final = ("202", "400", "401", "403", "408", "413", "415", "431", "501", "503")
"""What POST /webhook answers, and the worker before it: 408 too slow, 431 and 501 not for us."""
STATUSES: Final = ("firing", "resolved")
DUPLICATES: Final = ("repeat", "late", "not_open")
"""Why an alert changed nothing: said again, of an ended episode, ended before it was known."""
RESULTS: Final = ("healed", "ineffective", "inconclusive")
UNDOINGS: Final = ("done", "failed")
ACTION_OUTCOMES: Final = (StepState.DONE, StepState.FAILED, StepState.SKIPPED, StepState.UNKNOWN)

_DENIALS: Final = frozenset(
    {
        Reason.DISABLED,
        Reason.REJECTED,
        Reason.OBSERVE_ONLY,
        Reason.DRY_RUN,
        Reason.RESOLVED,
        Reason.STALE,
        Reason.APPROVAL_EXPIRED,
    }
)
VERDICTS: Final[tuple[tuple[str, str], ...]] = (
    (Answer.ALLOW, ""),
    *((Answer.DENY if reason in _DENIALS else Answer.WAIT, reason) for reason in Reason),
)
"""Every (verdict, reason) that a decision can have."""

MAX_TARGETS: Final = 100
"""Breakers of targets that are shown."""

FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
SLOW: Final = (0.05, 0.25, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


class Total(msgspec.Struct, frozen=True):
    """A lifetime counter that the journal keeps."""

    name: str
    """Without prefix and `_total`; also the journal's name for it."""
    help: str
    labels: tuple[str, ...]


NOTIFICATIONS: Final = Total("notifications", "Requests to POST /webhook by answer.", ("code",))
RECEIVED: Final = Total("alerts_received", "Alerts in accepted notifications.", ("status",))
DEDUPLICATED: Final = Total(
    "alerts_deduplicated", "Alerts that changed nothing, by reason.", ("reason",)
)
QUARANTINED: Final = Total(
    "alerts_quarantined", "Alerts that could not be read and were set aside.", ()
)
DECISIONS: Final = Total(
    "decisions",
    "Decisions by verdict and reason; repetitions count.",
    ("strategy", "verdict", "reason"),
)
HEALS: Final = Total("heals", "Finished runs by outcome.", ("strategy", "outcome"))
ACTIONS: Final = Total("actions", "Finished steps by outcome.", ("action", "outcome"))
ROLLBACKS: Final = Total("rollbacks", "Rollbacks by outcome.", ("strategy", "outcome"))
VERIFICATIONS: Final = Total(
    "verifications", "Finished verifications by result.", ("strategy", "result")
)
TRANSITIONS: Final = Total(
    "breaker_transitions", "Changes of breakers by what they became.", ("breaker", "to")
)
NOTICES: Final = Total(
    "notices", "Messages about runs and the engine, by how it ended.", ("channel", "result")
)
DELIVERIES: Final = ("sent", "failed")
TARGET_BREAKERS: Final = "target"
"""Stands for the breakers of all targets, whose names come from payloads."""

TOTALS: Final = (
    NOTIFICATIONS,
    RECEIVED,
    DEDUPLICATED,
    QUARANTINED,
    DECISIONS,
    HEALS,
    ACTIONS,
    ROLLBACKS,
    VERIFICATIONS,
    TRANSITIONS,
    NOTICES,
)


class Present(msgspec.Struct, frozen=True, kw_only=True):
    """What this process knows besides the journal, asked at scrape."""

    strategies: Strategies
    engine: EngineSettings
    actions: tuple[str, ...]
    channels: tuple[str, ...]
    flags: dict[str, bool]
    queue_length: int
    last_consider: float
    """Seconds since the epoch; 0 before the first."""
    last_heartbeat: float
    """As `last_consider`, by the wall clock, with which the rules compare it."""
    journal_writable: bool
    acting: bool
    """Whether this process holds the journal's lock and so is the one that acts."""
    config_hash: str
    reload_successful: bool
    reload_success_at: float
    clock_lead: float
    """Seconds by which the wall clock is ahead of promheal's."""
    tasks: tuple[TaskState, ...]
    keys: KeySummary
    version: str
    now: float


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)

        def histogram(
            name: str, text: str, labels: Iterable[str] = (), buckets: tuple[float, ...] = FAST
        ) -> Histogram:
            return Histogram(
                f"promheal_{name}", text, tuple(labels), buckets=buckets, registry=self.registry
            )

        self.notification_duration = histogram(
            "notification_duration_seconds", "From a request's arrival to its answer."
        )
        self.heal_duration = histogram(
            "heal_duration_seconds", "From a run's first step to its end.", ["strategy"], SLOW
        )
        self.alert_to_action = histogram(
            "alert_to_action_seconds",
            "From an alert's startsAt to its run's first step.",
            ["strategy"],
            SLOW,
        )
        self.alert_to_clear = histogram(
            "alert_to_clear_seconds",
            "From an alert's startsAt to the proof that it is healed.",
            ["strategy"],
            SLOW,
        )
        self.action_duration = histogram(
            "action_duration_seconds", "How long steps took.", ["action"], SLOW
        )
        self.queue_wait = histogram(
            "queue_wait_seconds", "From a wake until a thread considers it."
        )
        self.journal_commit_duration = histogram(
            "journal_commit_duration_seconds", "How long commits took, fsync included."
        )

    def expect(self, strategies: Iterable[str], actions: Iterable[str]) -> None:
        """Have every histogram at 0 from the start."""
        for strategy in strategies:
            for histogram in (self.heal_duration, self.alert_to_action, self.alert_to_clear):
                histogram.labels(strategy)
        for action in actions:
            self.action_duration.labels(action)

    def serve(self, journal: Journal, present: Callable[[], Present]) -> None:
        """Have scrapes read the journal as well."""
        self.registry.register(_JournalCollector(journal, present))

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the body and its content type for an Accept header."""
        try:
            encoder, content_type = choose_encoder(accept)
        except (TypeError, ValueError):
            encoder, content_type = choose_encoder("")
        return encoder(self.registry), content_type


def of_run(run: int) -> dict[str, str]:
    """Return the exemplar of an observation that a run has made: the way from a graph to its page.

    Exemplars are no labels and make no series; only OpenMetrics shows them, the newest of a bucket.
    """
    return {"run_id": str(run)}


def budget_left(
    transaction: Transaction, strategy: Strategy, *, now: float
) -> Iterator[tuple[Budget, int]]:
    """Yield each window of a budget with the runs left on the target that has fewest."""
    for window in strategy.budget:
        starts = transaction.most_starts(strategy.name, since=now - window.per)
        yield window, max(0, window.runs - starts)


def label_sets(
    total: Total, strategies: Iterable[str], actions: Iterable[str], channels: Iterable[str] = ()
) -> Iterator[tuple[str, ...]]:
    """Yield every combination of label values that *total* can have."""
    strategies = tuple(strategies)
    values: dict[str, Iterable[str]] = {
        "code": CODES,
        "status": STATUSES,
        "strategy": strategies,
        "action": actions,
        "channel": channels,
        "result": DELIVERIES if total is NOTICES else RESULTS,
        "breaker": (MAIN, *(f"strategy:{name}" for name in strategies), TARGET_BREAKERS),
        "to": tuple(BreakerState),
    }
    if total is DECISIONS:
        yield from ((s, verdict, reason) for s in strategies for verdict, reason in VERDICTS)
        return
    values["reason"] = DUPLICATES
    values["outcome"] = {
        HEALS: tuple(Outcome), ACTIONS: ACTION_OUTCOMES, ROLLBACKS: UNDOINGS
    }.get(total, ())  # fmt: skip
    yield from product(*(tuple(values[label]) for label in total.labels))


class _Look(msgspec.Struct, frozen=True):
    """What a scrape reads of the journal."""

    snapshot: Snapshot
    dormancy: Dormancy
    breakers: Mapping[str, Breaker]


class _JournalCollector(Collector):
    def __init__(self, journal: Journal, present: Callable[[], Present]) -> None:
        self._journal = journal
        self._present = present

    def describe(self) -> Iterable[Metric]:
        return ()  # registering must not read the journal

    def collect(self) -> Iterator[Metric]:
        present = self._present()
        names = present.strategies.names
        budgets: dict[tuple[str, str], float] = {}
        storms: dict[tuple[str], float] = {}

        def look(transaction: Transaction) -> _Look:
            for strategy in present.strategies:
                for window, left in budget_left(transaction, strategy, now=present.now):
                    budgets[strategy.name, format_duration(window.per)] = left
                most = present.engine.storm.targets
                illness = transaction.illness(
                    (strategy.name, ""), limit=most, since=present.now - present.engine.stale_after
                )
                storms[(strategy.name,)] = illness.ill > most
            return _Look(transaction.snapshot(), transaction.dormancy(), transaction.breakers())

        looked = self._journal.read(look)
        snapshot, dormancy = looked.snapshot, looked.dormancy
        yield from self._totals(snapshot, present)

        def gauge(name: str, text: str, value: float) -> Metric:
            return GaugeMetricFamily(f"promheal_{name}", text, value=value)

        def gauges(
            name: str, text: str, labels: list[str], rows: Iterable[tuple[tuple[str, ...], float]]
        ) -> Metric:
            family = GaugeMetricFamily(f"promheal_{name}", text, labels=labels)
            for values, number in rows:
                family.add_metric(values, number)
            return family

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
            "Healed runs of those whose end is proven, 0 to 1; NaN before the first.",
            ["strategy"],
            (((name,), _effectiveness(snapshot, name)) for name in names),
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
            _breaker_rows(looked.breakers, names, present.now),
        )
        yield gauge("dormant", "1 while the engine has stopped itself.", dormancy.since is not None)
        yield gauge("consecutive_failures", "Runs that failed since one healed.", dormancy.failures)
        backoff = present.engine.backoff
        yield gauge(
            "backoff_seconds", "Seconds after the last failure for which nothing begins.",
            _backoff(dormancy.failures, first=backoff.first, most=backoff.most)
            if dormancy.failures else 0.0,
        )  # fmt: skip
        yield gauges(
            "storm_active", "1 while more targets are ill than are treated at once.",
            ["strategy"], storms.items(),
        )  # fmt: skip
        yield gauges(
            "background_tasks", "Background tasks by state.", ["state"],
            (
                (("active",), sum(not task.paused for task in present.tasks)),
                (("paused",), sum(task.paused for task in present.tasks)),
            ),
        )  # fmt: skip
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
        yield gauge("journal_size_bytes", "Size of the journal.", snapshot.size_bytes)
        yield gauge(
            "journal_writable", "1 while the journal stores what it is given.",
            present.journal_writable,
        )  # fmt: skip
        yield gauge("acting", "1 in the one process that acts on this journal.", present.acting)
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
    def _totals(snapshot: Snapshot, present: Present) -> Iterator[Metric]:
        for total in TOTALS:
            family = CounterMetricFamily(
                f"promheal_{total.name}", total.help, labels=list(total.labels)
            )
            for values in label_sets(
                total, present.strategies.names, present.actions, present.channels
            ):
                family.add_metric(values, snapshot.totals.get((total.name, values), 0.0))
            yield family


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


def _effectiveness(snapshot: Snapshot, strategy: str) -> float:
    def heals(outcome: Outcome) -> float:
        return snapshot.totals.get((HEALS.name, (strategy, outcome)), 0.0)

    healed = heals(Outcome.HEALED)
    proven = healed + heals(Outcome.INEFFECTIVE)
    return healed / proven if proven else float("nan")
