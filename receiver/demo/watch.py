"""What do Prometheus, Alertmanager and promheal say now, and what of it is news?

They are asked again and again, and say themselves when something happened: a piece of news has
their time, not that of the question.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, TypeVar

import msgspec

from receiver.clients.http_upstream import Upstream
from receiver.clients.prometheus import Prometheus
from receiver.clock import Clock
from receiver.demo.faults import BY_ALERT, Fault
from receiver.demo.narrator import Tone
from receiver.demo.run_view import DecisionView, RunView, StepView
from receiver.errors import UpstreamError
from receiver.policy.promql import Rule
from receiver.policy.run import Observation, Outcome, StepState
from receiver.policy.signal import Signal
from receiver.settings import PrometheusSettings

_ASK: Final = 5.0  # seconds for one question
_SHORT: Final = 0.1
"""Seconds below which the start of a step is not worth a line of its own."""
PENDING: Final = "pending"
FIRING: Final = "firing"
INACTIVE: Final = "inactive"
"""The states of a rule: https://prometheus.io/docs/prometheus/latest/querying/api/#rules"""

_T = TypeVar("_T")


class News(msgspec.Struct, frozen=True):
    at: float
    """Seconds since the epoch."""
    who: str
    what: str
    tone: Tone = Tone.PLAIN


class _Listed(msgspec.Struct):
    id: int


class _Runs(msgspec.Struct):
    runs: tuple[_Listed, ...]


class _Alert(msgspec.Struct):
    fingerprint: str


class _Alerts(msgspec.Struct):
    alerts: tuple[_Alert, ...]


class Watch:
    """What has been seen so far."""

    def __init__(self, prometheus: str, promheal: str, clock: Clock) -> None:
        self.prometheus = Prometheus(PrometheusSettings(url=prometheus, timeout=_ASK))
        self._promheal = Upstream(promheal, timeout=_ASK)
        self._clock = clock
        self.rules: dict[str, Rule] = {}
        """By the names of their alerts."""
        self.states: set[tuple[str, str]] = set()
        """Every alert and state that was seen."""
        self.run: RunView | None = None
        """The newest."""
        self.open = 0
        """Alerts of which promheal has not been told that they ended."""
        self.trouble = ""
        """What could not be asked at the last look."""
        self._told: set[tuple[object, ...]] = set()

    def look(self) -> list[News]:
        """Ask all, and return what is new, in the order in which it happened."""
        news: list[News] = []
        self.trouble = ""
        # Effects before their causes: what has happened in between shows as a cause without effect,
        # and not as an effect that nothing has caused.
        for part in (self._alerts, self._runs, self._rules):
            try:
                news += part()
            except UpstreamError as error:  # busy, perhaps; that it ended, supervisord knows
                self.trouble = str(error)
        return sorted(news, key=lambda one: one.at)

    def gauge(self, fault: Fault) -> str:
        """Return how bad it is, in words; empty while that is not known."""
        try:
            samples = self.prometheus.query(fault.gauge)
        except UpstreamError:
            return ""
        # Without a request in the window a percentile is not a number.
        known = [sample.value for sample in samples if not math.isnan(sample.value)]
        return fault.show(known[0]) if known else ""

    def _rules(self) -> Iterator[News]:
        for rule in self.prometheus.rules():
            before = self.rules.get(rule.name)
            self.rules[rule.name] = rule
            self.states.add((rule.name, rule.state))
            if rule.state == (before.state if before else INACTIVE):
                continue
            at = min(rule.last_evaluation, self._clock(), self._fires_since(rule))
            what = f"{rule.name} is {rule.state}"
            if rule.state == PENDING:
                gauge = self.gauge(BY_ALERT[rule.name])
                yield News(at, "Prometheus", f"{what}{gauge and ': ' + gauge}", Tone.WARNING)
            elif rule.state == FIRING:
                what += f", after {rule.duration:g} s of patience"
                yield News(at, "Prometheus", what, Tone.ILL)
            else:
                yield News(at, "Prometheus", what, Tone.WELL)

    def _fires_since(self, rule: Rule) -> float:
        """Return since when, if a run says so: the rule's last evaluation may be a later one."""
        run = self.run
        if rule.state != FIRING or run is None or run.alert is None or run.outcome is not None:
            return math.inf
        ours = run.alert["labels"].get("alertname") == rule.name
        return float(run.alert["startsAt"]) if ours else math.inf

    def _runs(self) -> Iterator[News]:
        listed = self._ask("/api/runs?limit=1", _Runs).runs
        if not listed:
            return
        run = self.run = self._ask(f"/api/runs/{listed[0].id}", RunView)
        if self._first("notified", run.id):
            yield News(run.notified_at, "Alertmanager", "has notified promheal")
        for decision in run.decisions:
            if self._first("decision", run.id, decision.verdict, decision.reason):
                yield News(decision.at, "promheal", _decided(run, decision))
        for step in run.steps:
            yield from self._step(run, step)
        if run.verify_from is not None and self._first("verifying", run.id):
            what = "asks Prometheus for proof, from samples after the last step"
            yield News(run.verify_from, "promheal", what)
        for one in run.observations:
            if self._first("observed", run.id, one.at):
                yield _observed(run, one)
        if run.finished_at is not None and self._first("finished", run.id):
            healed = run.outcome is Outcome.HEALED
            reason = "" if healed else f": {run.reason}"
            what = f"run {run.id} has ended: {run.outcome}{reason}"
            yield News(run.finished_at, "promheal", what, Tone.WELL if healed else Tone.ILL)

    def _step(self, run: RunView, step: StepView) -> Iterator[News]:
        name = f"step {step.index + 1} of run {run.id}, {step.action}"
        key = (run.id, step.phase, step.index, step.attempt)
        end = step.finished_at
        if end is None or end - step.started_at > _SHORT:
            if self._first("started", *key):
                yield News(step.started_at, "promheal", f"{name}: started", Tone.ACTING)
            if end is None:
                return
        if self._first("ended", *key):
            took = end - step.started_at
            words = f"{took:.1f} s" if took > _SHORT else f"{took * 1000:.0f} ms"
            pid = (
                f"; the service is process {step.result['pid']} now" if "pid" in step.result else ""
            )
            failed = step.state in {StepState.FAILED, StepState.UNKNOWN}
            what = f"{name}: {step.state} in {words}{pid}{step.error and ': ' + step.error}"
            yield News(end, "promheal", what, Tone.ILL if failed else Tone.ACTING)

    def _alerts(self) -> Iterator[News]:
        before, self.open = self.open, len(self._ask("/api/alerts", _Alerts).alerts)
        if before and not self.open:
            what = "has told promheal: resolved"
            yield News(self._clock(), "Alertmanager", what, Tone.WELL)

    def _first(self, *what: object) -> bool:
        """Whether this has not been told yet."""
        if what in self._told:
            return False
        self._told.add(what)
        return True

    def _ask(self, path: str, kind: type[_T]) -> _T:
        body = self._promheal.get(path)
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            raise UpstreamError(f"promheal's {path}: {error}") from None


def _decided(run: RunView, decision: DecisionView) -> str:
    why = " ".join(filter(None, (decision.reason, decision.detail)))
    return f"decides: {decision.verdict} {run.strategy} on {run.target}{why and ': ' + why}"


def _observed(run: RunView, one: Observation) -> News:
    fault = BY_ALERT.get(run.alert["labels"].get("alertname", "")) if run.alert else None
    if one.verdict == Signal.CLEARED:
        return News(one.at, "promheal", f"proven: {one.detail}", Tone.WELL)
    if one.verdict == Signal.FIRING and one.value is not None and fault is not None:
        return News(one.at, "promheal", f"not yet: {fault.show(one.value)}", Tone.WARNING)
    return News(one.at, "promheal", f"not yet: {one.detail}", Tone.WARNING)
