"""Every metric: lifetime totals, histograms of this process, and what is read at scrape.

Lifetime totals and gauges are read from the journal at scrape, so they survive restarts and
replicas agree; a total is shown only once it is stored, since a counter that went backwards would
look like a restart to Prometheus. Only refused notifications are shown before: they tell of what
cannot be stored. Histograms are this process's. Label values come from the configuration and from
enums only: a hundred thousand different alerts add no series.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector

from receiver.policy.breaker import MAIN, BreakerState
from receiver.policy.guards.reasons import VERDICTS
from receiver.policy.run import Outcome, StepState

disable_created_metrics()  # type: ignore[no-untyped-call]

CODES: Final = ("202", "400", "401", "403", "408", "413", "415", "431", "501", "503")
"""What POST /webhook answers, or the worker before it: 408 too slow, 431 and 501 not for us."""
STATUSES: Final = ("firing", "resolved")
DUPLICATES: Final = ("repeat", "late", "not_open")
"""Why an alert changed nothing: said again, of an ended episode, ended before it was known."""
RESULTS: Final = ("healed", "ineffective", "inconclusive")
UNDOINGS: Final = ("done", "failed")
ACTION_OUTCOMES: Final = (StepState.DONE, StepState.FAILED, StepState.SKIPPED, StepState.UNKNOWN)

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
