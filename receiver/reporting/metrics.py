"""Every metric: lifetime totals, histograms of this process, and what is read at scrape.

Lifetime totals and gauges are read from the journal at scrape, so they survive restarts and
replicas agree; a total is shown only once it is stored, since a counter that went backwards would
look like a restart to Prometheus. Only refused notifications are shown before: they tell of what
cannot be stored. Histograms are this process's; a strategy's come with its first run. Label values
come from the configuration and from enums only: a hundred thousand different alerts add no series.

What comes up later than the start is shown to Prometheus at 0 at first, see `scrapers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from time import monotonic
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from receiver.policy.run import Outcome, Run, StepState
from receiver.reporting.families import Family, Texts, clean

disable_created_metrics()  # type: ignore[no-untyped-call]

CODES: Final = ("202", "400", "401", "403", "408", "413", "415", "431", "501", "503")
"""What POST /webhook answers, or the worker before it: 408 too slow, 431 and 501 not for us."""
STATUSES: Final = ("firing", "resolved")
DUPLICATES: Final = ("repeat", "late", "not_open")
"""Why an alert changed nothing: said again, of an ended episode, ended before it was known."""
RESULTS: Final = ("healed", "ineffective", "inconclusive")
UNDOINGS: Final = ("done", "failed")
OUTCOMES: Final = tuple(Outcome)
UNDONE: Final = frozenset({Outcome.ROLLED_BACK, Outcome.ROLLBACK_FAILED})
"""How runs end whose steps may be undone, and no others."""
ACTION_OUTCOMES: Final = (StepState.DONE, StepState.FAILED, StepState.SKIPPED, StepState.UNKNOWN)

_END: Final = b"# EOF\n"

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
RELAPSES: Final = Total(
    "relapses", "Heals after which it fired again within verify.relapse.", ("strategy",)
)
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
    RELAPSES,
    ACTIONS,
    ROLLBACKS,
    VERIFICATIONS,
    TRANSITIONS,
    NOTICES,
)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.scrape: Callable[[float], Iterable[Family]] = lambda _: ()
        """Yields what is read at scrape; what has come up within so many seconds, at 0."""
        self._texts = Texts()
        self._began: dict[str, float] = {}  # since when a strategy has histograms, monotonic
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

    def expect(self, actions: Iterable[str]) -> None:
        """Have the histograms of these actions at 0."""
        for action in actions:
            self.action_duration.labels(action)

    def began(self, strategy: str) -> None:
        """Have the histograms of a strategy at 0, before its run is proven and ends."""
        self._began.setdefault(strategy, monotonic())
        for histogram in (self.heal_duration, self.alert_to_action, self.alert_to_clear):
            histogram.labels(strategy)

    def observe(self, histogram: Histogram, run: Run, seconds: float) -> None:
        """Have one of a strategy's histograms count this."""
        self.began(run.strategy)
        histogram.labels(run.strategy).observe(max(0.0, seconds), of_run(run.id))

    def exposition(self, accept: str, *, new: float = 0.0) -> tuple[bytes, str]:
        """Return the body and its content type for an Accept header.

        What has come up within *new* seconds is shown at 0.
        """
        try:
            encoder, content_type = choose_encoder(accept)
        except (TypeError, ValueError):
            encoder, content_type = choose_encoder("")
        openmetrics = content_type.startswith("application/openmetrics-text")
        ours = [self._texts.of(family, openmetrics=openmetrics) for family in self.scrape(new)]
        since = monotonic() - new
        young = {strategy for strategy, began in self._began.items() if began > since}
        body = encoder(_Zeros(self.registry, young) if young else self.registry)
        body = clean(body.removesuffix(_END).decode()).encode()
        return b"".join((body, *ours, _END if openmetrics else b"")), content_type


class _Zeros(Collector):
    """What is in a registry, but for the histograms of these strategies, which are at 0."""

    def __init__(self, registry: CollectorRegistry, strategies: Collection[str]) -> None:
        self._registry = registry
        self._strategies = strategies

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [
                sample._replace(value=0.0, exemplar=None)
                if sample.labels.get("strategy") in self._strategies
                else sample
                for sample in metric.samples
            ]
            yield metric


def of_run(run: int) -> dict[str, str]:
    """Return the exemplar of an observation that a run has made: the way from a graph to its page.

    Exemplars are no labels and make no series; only OpenMetrics shows them, the newest of a bucket.
    """
    return {"run_id": str(run)}
