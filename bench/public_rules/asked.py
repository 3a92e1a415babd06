"""The verification, as these sweeps ask it: bound before the action, looked at after it.

The only file here that knows promheal's own functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from bench.public_rules.reading import PublicRule
from receiver.clients.prometheus import Prometheus
from receiver.policy.decay import decay
from receiver.policy.looks import Look, end_of, wait_of
from receiver.policy.promql import Rule, Samples
from receiver.policy.proof import verifier
from receiver.policy.proof.bind import bind as bind_alert
from receiver.policy.relabel import Sending
from receiver.policy.run import Outcome, Plan
from receiver.policy.signal import Signal
from receiver.settings import PrometheusSettings

Binding: TypeAlias = Any
"""What is kept with the run."""

INTERVAL: Final = 15.0
"""Seconds between two evaluations of a rule."""


class Source:
    """One Prometheus whose clock stands at *at*, without recording rules."""

    def __init__(self, prometheus: Prometheus, at: float) -> None:
        self._prometheus = prometheus
        self.at = at

    def query(self, expr: str, at: float | None = None) -> Samples:
        samples = self._prometheus.query(expr, self.at if at is None else at)
        samples.clock = self.at
        return samples

    def recordings(self) -> Mapping[str, tuple[Rule, ...]]:
        return {}

    def sending(self) -> Sending | None:
        return None


def client(url: str) -> Prometheus:
    return Prometheus(PrometheusSettings(url=url, timeout=60.0))


def bind(
    source: Source, alert: Mapping[str, str], rule: PublicRule, at: float, well_at: float
) -> Binding:
    """Ask before the action, at *at*, what the alert rests on; *well_at*: it did not fire yet."""
    known = Rule(
        name=rule.name, query=rule.expr, labels=rule.labels, health="ok", interval=INTERVAL
    )
    found = bind_alert(source, alert, rule.expr, known, now=at, well_at=well_at)
    return found.binding if found.signal is Signal.FIRING else None


def look(source: Source, binding: Binding, at: float, since: float) -> tuple[str, str]:
    """Return `cleared`, `firing` or `unknown`, and why, as a run ends whose deadline is *at*.

    *since* is the end of its action.
    """
    if binding is None:
        return "unknown", "not bound: it was not returned before the action"
    found = verifier.look(source, binding, since=since, now=at)
    decays = decay(binding.expression, {})
    plan = Plan(
        steps=(),
        rollback=False,
        verify_within=at - since,
        verify_query=None,
        verify_expect="empty",
        decay=decays.seconds,
        decay_problem=decays.problem,
        scrape=INTERVAL,
        alert={},
    )
    seen = Look(at=at, signal=found.signal, detail=found.detail, lag=found.lag)
    end = end_of(seen, plan, wait_of(plan, since), at, heals=True)
    return _WORDS[end.outcome], end.reason


_WORDS: Final[Mapping[Outcome | None, str]] = {
    Outcome.HEALED: "cleared",
    Outcome.INEFFECTIVE: "firing",
    Outcome.INCONCLUSIVE: "unknown",
}
